"""Summaries as nodes: one with several sources, one for each node, or none at all."""

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.ragcompress import RagCompressPostprocessor

import ragcompress as rc
from ragcompress.testing import tiny

TEXTS = {
    "a": "The bridge was built in 1357. It is 412 metres long, and rests on sixteen arches.",
    "b": "Bread needs flour, water, salt and time, and a baker who rises early.",
}
QUESTION = "How long is the bridge?"


def nodes():
    return [
        NodeWithScore(node=TextNode(id_=name, text=text, metadata={"name": name}), score=0.5)
        for name, text in TEXTS.items()
    ]


def silent(**options):
    """A model that ends before it says anything."""
    compressor = tiny("recomp-abstractive").with_options(**options)
    compressor.summarizer.end_ids = frozenset(range(100_000))
    return RagCompressPostprocessor(compressor=compressor)


def test_a_summary_is_one_node_that_names_its_sources():
    postprocessor = RagCompressPostprocessor(compressor=tiny("recomp-abstractive"))
    given = nodes()
    (found,) = postprocessor.postprocess_nodes(given, query_str=QUESTION)
    assert found.node.get_content()
    assert found.node.node_id not in TEXTS
    assert rc.read_note(found.node.metadata)["source_ids"] == ["a", "b"]
    assert [each.node.get_content() for each in given] == list(TEXTS.values())


def test_a_summary_of_each_node_keeps_id_and_metadata():
    compressor = tiny("recomp-abstractive").with_options(per_document=True)
    found = RagCompressPostprocessor(compressor=compressor).postprocess_nodes(nodes(), query_str=QUESTION)
    assert [(each.node.node_id, each.node.metadata["name"]) for each in found] == [("a", "a"), ("b", "b")]
    assert all(each.node.get_content() != TEXTS[each.node.node_id] for each in found)


def test_silence_gives_no_node():
    assert silent().postprocess_nodes(nodes(), query_str=QUESTION) == []


def test_or_the_best_one():
    (best,) = silent(on_empty="keep_best").postprocess_nodes(nodes(), query_str=QUESTION)
    assert (best.node.node_id, best.node.get_content()) == ("a", TEXTS["a"])
