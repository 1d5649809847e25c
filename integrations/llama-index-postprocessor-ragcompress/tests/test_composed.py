"""Several compressors as one, from plain configuration."""

import pickle
import warnings

import pytest
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.ragcompress import RagCompressLLM, RagCompressPostprocessor, RagCompressTransform

import ragcompress as rc
from ragcompress.testing import tiny

TEXTS = {
    "a": "The stone bridge is 412 metres long. It was built in 1357. Pigeons nest below.",
    "b": "Bread needs flour. It was built in 1357. The stone bridge is long.",
}
QUERY = "How long is the stone bridge?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("stages")
    tiny("recomp-extractive").save_pretrained(path / "ranker")
    tiny("pisco").save_pretrained(path / "pisco")
    return path


@pytest.fixture
def stages(folder):
    return [
        {"backend": "recomp-extractive", "checkpoint": str(folder / "ranker"), "top_k": 5, "device": "cpu"},
        {"backend": "deduplicate"},
        {"backend": "token-budget", "max_tokens": 12, "token_counter": "words"},
    ]


@pytest.fixture
def latent(stages, folder):
    return [stages[0], {"backend": "pisco", "checkpoint": str(folder / "pisco"), "device": "cpu"}]


def nodes(times=1):
    return [
        NodeWithScore(node=TextNode(text=" ".join([text] * times), id_=name), score=1.0) for name, text in TEXTS.items()
    ]


def contents(items):
    return [(item.node.node_id, item.node.text, rc.read_note(item.node.metadata)["spans"]) for item in items]


def test_a_list_in_the_place_of_a_backend(stages):
    context = rc.Pipeline(stages).compress(QUERY, [rc.Document(text, id=name) for name, text in TEXTS.items()])
    expected = [
        (context.documents[part.documents[0]].id, part.text, [span[1:] for span in part.spans])
        for part in context.by_document()
    ]
    assert expected
    for postprocessor in (
        RagCompressPostprocessor(stages),
        RagCompressPostprocessor("pipeline", stages=stages),
        RagCompressPostprocessor(compressor=rc.Pipeline(stages)),
    ):
        assert (postprocessor.backend, postprocessor.options) == ("pipeline", {"stages": stages})
        for each in (
            postprocessor,
            RagCompressPostprocessor.from_json(postprocessor.to_json()),
            pickle.loads(pickle.dumps(postprocessor)),
        ):
            assert contents(each.postprocess_nodes(nodes(), query_str=QUERY)) == expected


def test_spans_lead_into_what_was_retrieved(stages):
    for item in RagCompressPostprocessor(stages).postprocess_nodes(nodes(), query_str=QUERY):
        note = rc.read_note(item.node.metadata)
        assert all(TEXTS[item.node.node_id][start:end] in item.node.text for start, end in note["spans"])
        assert note["context_n_slots"] <= 12 < note["context_n_tokens"]


def test_a_pipeline_that_ends_in_vectors_is_read_by_the_llm(latent):
    with pytest.warns(rc.HandleWarning, match="pipeline writes handles"):
        RagCompressPostprocessor(latent)
    postprocessor = RagCompressPostprocessor(latent, handles="expected")
    items = postprocessor.postprocess_nodes(nodes(6), query_str=QUERY)
    prompt = "\n\n".join(item.node.text for item in items)
    assert "<|rc:" in prompt
    llm = RagCompressLLM("pisco", checkpoint=latent[1]["checkpoint"], options={"device": "cpu"}, max_new_tokens=4)
    assert isinstance(llm.complete(f"{prompt}\n\n{QUERY}").text, str)


def test_ingestion_fills_the_store_of_the_stage_that_reads_the_nodes(stages, latent):
    for name, each in (("text", stages), ("vectors", latent)):
        store = f"memory://composed-{name}"
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # none of handles: this step writes none
            transform = RagCompressTransform(each, store=store)
        transform([item.node for item in nodes()])
        assert len(rc.open_store(store)) == len(TEXTS)


def test_wrong_stages_are_named_before_anything_is_loaded(stages):
    for wrong, said in (([], "at least one stage"), ([*stages, {"backend": "provenz"}], r"stage 4 \(provenz\)")):
        for component in (RagCompressPostprocessor, RagCompressTransform):
            with pytest.raises(rc.OptionError, match=said):
                component(wrong)
