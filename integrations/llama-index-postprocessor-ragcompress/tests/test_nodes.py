"""What happens to a node: text, identity, metadata, scores, order."""

import copy
import json

import numpy as np
import pytest
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
from llama_index.postprocessor.ragcompress import RagCompressPostprocessor
from llama_index_fakes import KeepMatching, Neutral, Rewriting

import ragcompress as rc

TEXT = "The bridge is long. Cats sleep. Nobody built the bridge."
QUERY = "bridge"


def scored(*nodes, score=0.5):
    return [NodeWithScore(node=node, score=score) for node in nodes]


def run(nodes, query=QUERY, compressor=None, **settings):
    return RagCompressPostprocessor(compressor=compressor or KeepMatching(), **settings).postprocess_nodes(
        nodes, query_str=query
    )


def text_of(item):
    return item.get_content(MetadataMode.NONE)


def test_keeps_what_matches():
    (item,) = run(scored(TextNode(text=TEXT)))
    assert item.text == "The bridge is long. Nobody built the bridge."
    assert item.score == 0.5


def test_nodes_of_which_nothing_is_kept_are_dropped():
    nodes = scored(TextNode(text="Cats sleep.", id_="a"), TextNode(text=TEXT, id_="b"), TextNode(text="Tea.", id_="c"))
    assert [item.node_id for item in run(nodes)] == ["b"]


def test_everything_but_the_text_stays():
    node = TextNode(
        text=TEXT,
        id_="n1",
        metadata={"title": "Bridges", "page": 3, "deep": {"list": [1]}},
        excluded_llm_metadata_keys=["page"],
        relationships={
            NodeRelationship.SOURCE: RelatedNodeInfo(node_id="doc"),
            NodeRelationship.CHILD: [RelatedNodeInfo(node_id="x")],
        },
        text_template="T: {content}",
        metadata_template="{key}={value}",
    )
    (item,) = run(scored(node))
    new = item.node
    assert (new.node_id, new.ref_doc_id, new.relationships) == ("n1", "doc", node.relationships)
    assert {key: value for key, value in new.metadata.items() if key != rc.NOTE_KEY} == node.metadata
    assert (new.text_template, new.metadata_template) == ("T: {content}", "{key}={value}")
    assert new.excluded_llm_metadata_keys == ["page", rc.NOTE_KEY]
    assert new.excluded_embed_metadata_keys == [rc.NOTE_KEY]


def test_inputs_stay_as_they_are_and_share_nothing():
    nodes = scored(
        TextNode(text=TEXT, metadata={"deep": {"list": [1]}}, embedding=[0.1, 0.2], start_char_idx=0, end_char_idx=9),
        IndexNode(text=TEXT, index_id="i", obj=None),
        Document(text=TEXT, metadata={"a": 1}),
        Node(text_resource=MediaResource(text="Cats.", embeddings={"dense": [1.0]})),
        ImageNode(image_url="http://example.org/a.png"),
    )
    before = [item.model_dump() for item in nodes]
    for query in (QUERY, None):
        out = run(nodes, query, keep_original=True, replace_score=True)
        assert [item.model_dump() for item in nodes] == before
        by_id = {item.node_id: item for item in nodes}
        for item in out:
            old = by_id[item.node_id]
            assert item is not old
            assert item.node is not old.node
            assert item.node.metadata is not old.node.metadata
            item.node.metadata["mine"] = 1
            item.node.metadata.get("deep", {"list": []})["list"].append(2)
            item.node.relationships["x"] = RelatedNodeInfo(node_id="y")
        assert [item.model_dump() for item in nodes] == before


def test_offsets_and_embedding_are_reset_only_where_the_text_changed():
    values = {"embedding": [0.1, 0.2], "start_char_idx": 10, "end_char_idx": 30}
    (item,) = run(scored(TextNode(text=TEXT, **values)))
    assert (item.node.embedding, item.node.start_char_idx, item.node.end_char_idx) == (None, None, None)
    (item,) = run(scored(TextNode(text="The bridge.", **values)))
    assert (item.node.embedding, item.node.start_char_idx, item.node.end_char_idx) == ([0.1, 0.2], 10, 30)


def test_note_says_what_was_kept():
    nodes = scored(TextNode(text=TEXT, id_="a"), TextNode(text="A bridge. Tea.", id_="b"))
    first, second = run(nodes)
    note = rc.read_note(first.metadata)
    assert [TEXT[start:end] for start, end in note["spans"]] == ["The bridge is long.", "Nobody built the bridge."]
    assert note["backend"] == "keep-matching"
    assert (note["n_tokens"], note["n_slots"]) == (10, 8)
    assert (note["context_n_tokens"], note["context_n_slots"]) == (13, 10)
    assert rc.read_note(second.metadata)["spans"] == [[0, 9]]


@pytest.mark.parametrize("mode", [MetadataMode.LLM, MetadataMode.EMBED])
def test_bookkeeping_is_hidden_from_prompts_and_embeddings(mode):
    for query in (QUERY, None):
        (item,) = run(scored(TextNode(text=TEXT, metadata={"title": "Bridges"})), query, keep_original=True)
        assert "ragcompress" not in item.get_content(mode)
        assert item.get_content(mode).startswith("title: Bridges")


def test_keep_original():
    (item,) = run(scored(TextNode(text=TEXT)), keep_original=True)
    assert item.metadata[rc.ORIGINAL_KEY] == TEXT
    (item,) = run(scored(TextNode(text=TEXT)))
    assert rc.ORIGINAL_KEY not in item.metadata


def test_compressing_twice_leaves_one_note():
    once = run(scored(TextNode(text=TEXT)))
    (item,) = run(once, "built")
    assert item.text == "Nobody built the bridge."
    assert item.node.excluded_llm_metadata_keys == [rc.NOTE_KEY]
    assert rc.read_note(item.metadata)["spans"] == [[20, 44]]


def test_the_text_is_read_without_metadata_and_the_title_from_its_key(keep_matching):
    nodes = scored(
        TextNode(text=TEXT, id_="a", metadata={"title": "Bridges", "name": "N"}),
        TextNode(text=TEXT, id_="b", metadata={"title": 7}),
        TextNode(text=TEXT, id_="c", metadata={"title": " "}),
    )
    run(nodes, compressor=keep_matching)
    ((_, documents),) = keep_matching.calls
    assert documents == (rc.Document(TEXT, "a", "Bridges"), rc.Document(TEXT, "b"), rc.Document(TEXT, "c"))
    run(nodes, compressor=keep_matching, title_key="name")
    assert [document.title for document in keep_matching.calls[-1][1]] == ["N", None, None]


class TestScores:
    def test_retrieval_score_is_kept_as_a_python_float(self):
        for score in (np.float32(0.25), np.float64(0.25), 0.25):
            (item,) = run([NodeWithScore(node=TextNode(text=TEXT), score=score)])
            assert (type(item.score), item.score) == (float, 0.25)
            (item,) = run([NodeWithScore(node=TextNode(text=TEXT), score=score)], query=None)
            assert type(item.score) is float

    def test_score_set_behind_pydantics_back(self):
        wrapped = NodeWithScore(node=TextNode(text=TEXT), score=0.0)
        wrapped.score = np.float32(0.5)
        for query in (QUERY, None):
            (item,) = run([wrapped], query)
            assert type(item.score) is float
            item.model_dump_json()

    def test_none_stays_none(self):
        (item,) = run(scored(TextNode(text=TEXT), score=None))
        assert item.score is None

    def test_replace_score_takes_the_best_of_the_node(self):
        nodes = scored(
            TextNode(text="Long cats. A long bridge. A bridge.", id_="a"), TextNode(text="A bridge.", id_="b")
        )
        out = run(nodes, "long bridge", replace_score=True)
        assert [(item.node_id, item.score) for item in out] == [("a", 1.0), ("b", 0.5)]
        assert all(type(item.score) is float for item in out)

    def test_similarity_postprocessor_downstream(self):
        nodes = scored(TextNode(text="A long bridge.", id_="a"), TextNode(text="A bridge.", id_="b"))
        out = run(nodes, "long bridge", replace_score=True)
        left = SimilarityPostprocessor(similarity_cutoff=0.8).postprocess_nodes(out)
        assert [item.node_id for item in left] == ["a"]


class TestOrder:
    def test_that_of_the_result(self):
        nodes = scored(TextNode(text="A bridge.", id_="a"), TextNode(text="A long bridge.", id_="b"))
        out = run(nodes, "long bridge", compressor=KeepMatching(best_first=True))
        assert [item.node_id for item in out] == ["b", "a"]

    def test_nodes_without_text_stay_in_their_place(self):
        def picture(name):
            return ImageNode(image_url="http://example.org/a.png", id_=name)

        nodes = scored(
            picture("p0"),
            TextNode(text="A bridge.", id_="a"),
            picture("p1"),
            TextNode(text="Tea.", id_="dropped"),
            TextNode(text=" \n\t", id_="blank"),
            TextNode(text="A long bridge.", id_="b"),
            picture("p2"),
        )
        out = run(nodes, "long bridge")
        assert [item.node_id for item in out] == ["p0", "a", "p1", "blank", "b", "p2"]
        assert rc.read_note(out[0].metadata)["skipped"] == "no text"
        assert rc.read_note(out[3].metadata)["skipped"] == "no text"
        assert out[3].text == " \n\t"
        # In another order, each follows the node that it followed before.
        out = run(nodes, "long bridge", compressor=KeepMatching(best_first=True))
        assert [item.node_id for item in out] == ["p0", "b", "p2", "a", "p1", "blank"]

    def test_the_same_node_twice(self):
        node = TextNode(text=TEXT, id_="a")
        out = run(scored(node, node))
        assert [item.node_id for item in out] == ["a", "a"]
        assert out[0].node is not out[1].node


class TestKinds:
    def test_document(self):
        (item,) = run(scored(Document(text=TEXT, doc_id="d")))
        assert type(item.node) is Document
        assert item.node.text == "The bridge is long. Nobody built the bridge."
        assert item.node.doc_id == "d"

    def test_multimodal_node_keeps_its_other_resources(self):
        node = Node(
            text_resource=MediaResource(text=TEXT, mimetype="text/markdown", embeddings={"dense": [1.0, 2.0]}),
            image_resource=MediaResource(url="http://example.org/a.png"),
        )
        (item,) = run(scored(node))
        assert type(item.node) is Node
        assert text_of(item) == "The bridge is long. Nobody built the bridge."
        assert item.node.text_resource.mimetype == "text/markdown"
        assert item.node.text_resource.embeddings is None
        assert item.node.image_resource == node.image_resource

    def test_pictures_are_never_dropped(self):
        nodes = scored(
            ImageNode(text="A cat.", image_url="http://example.org/a.png", id_="a", text_embedding=[1.0]),
            Node(text_resource=MediaResource(text="Tea."), image_resource=MediaResource(data=b"x"), id_="b"),
            ImageDocument(text="Tea.", image=b"abcd", id_="c"),
            TextNode(text=TEXT, id_="d"),
        )
        out = run(nodes)
        assert [(item.node_id, text_of(item)) for item in out] == [
            ("a", ""),
            ("b", ""),
            ("c", ""),
            ("d", "The bridge is long. Nobody built the bridge."),
        ]
        assert [type(item.node) for item in out] == [ImageNode, Node, ImageDocument, TextNode]
        assert out[0].node.image_url == "http://example.org/a.png"
        assert out[0].node.text_embedding is None
        assert out[1].node.image_resource.data == nodes[1].node.image_resource.data
        assert rc.read_note(out[0].metadata)["spans"] == []

    def test_index_node_points_at_the_same_object(self):
        target = object()
        (item,) = run(scored(IndexNode(text=TEXT, index_id="i", obj=target)))
        assert type(item.node) is IndexNode
        assert (item.node.index_id, item.node.obj) == ("i", target)

    def test_subclasses_survive(self):
        class Mine(TextNode):
            extra: str = "x"

        class MyScored(NodeWithScore):
            rank: int = 0

        (item,) = run([MyScored(node=Mine(text=TEXT, extra="y"), score=0.1, rank=4)])
        assert (type(item), item.rank, type(item.node), item.node.extra) == (MyScored, 4, Mine, "y")


class TestSeveralSources:
    NODES = (
        TextNode(text="Cats sleep.", id_="a", metadata={"page": 1}),
        TextNode(text="", id_="empty"),
        TextNode(text="Tea is hot.", id_="b", metadata={"page": 2}),
    )

    def nodes(self):
        scores = (0.2, 0.3, 0.9)
        return [NodeWithScore(node=copy.deepcopy(n), score=score) for n, score in zip(self.NODES, scores, strict=True)]

    def test_one_new_node(self):
        merged, empty = run(self.nodes(), compressor=Rewriting(), keep_original=True)
        assert type(merged.node) is TextNode
        assert merged.text == "Cats / Tea"
        assert rc.read_note(merged.metadata)["source_ids"] == ["a", "b"]
        assert set(merged.metadata) == {rc.NOTE_KEY, rc.ORIGINAL_KEY}
        assert merged.node.relationships == {}
        assert merged.score == 0.9
        assert "Cats sleep." in merged.metadata[rc.ORIGINAL_KEY]
        assert merged.get_content(MetadataMode.LLM) == "Cats / Tea"
        assert empty.node_id == "empty"

    def test_equal_inputs_give_equal_outputs(self):
        first, second = (run(self.nodes(), compressor=Rewriting()) for _ in range(2))
        assert [item.model_dump() for item in first] == [item.model_dump() for item in second]
        assert first[0].node_id not in {"a", "b"}

    def test_replace_score(self):
        merged, empty = run(self.nodes(), compressor=Rewriting(), replace_score=True)
        assert (merged.score, empty.score) == (0.75, 0.3)

    def test_no_query_needed(self):
        merged, _ = run(self.nodes(), None, compressor=Rewriting())
        assert merged.text == "Cats / Tea"

    def test_a_single_node_stays_itself(self):
        (item,) = run(self.nodes()[:1], compressor=Rewriting())
        assert (item.node_id, item.text, item.metadata["page"]) == ("a", "Cats", 1)


class TestNothingToDo:
    @pytest.mark.parametrize("query", [None, "", "  \n"])
    def test_without_a_query_nodes_pass_through(self, query, keep_matching):
        nodes = scored(TextNode(text=TEXT, id_="a", embedding=[1.0]), TextNode(text="Tea.", id_="b"))
        for out in (
            run(nodes, query, compressor=keep_matching),
            RagCompressPostprocessor(compressor=keep_matching).postprocess_nodes(
                nodes, query_bundle=None if query is None else QueryBundle(query)
            ),
        ):
            assert [(item.node_id, item.text, item.score) for item in out] == [("a", TEXT, 0.5), ("b", "Tea.", 0.5)]
            for item in out:
                assert rc.read_note(item.metadata) == {"backend": "keep-matching", "skipped": "no query"}
            assert out[0].node is not nodes[0].node
            assert out[0].node.embedding == [1.0]
        assert keep_matching.calls == []

    def test_no_nodes(self, keep_matching):
        assert run([], compressor=keep_matching) == []
        assert run([], None, compressor=keep_matching) == []

    def test_min_chars(self, keep_matching):
        (item,) = run(scored(TextNode(text=TEXT)), compressor=keep_matching, min_chars=len(TEXT) + 1)
        assert item.text == TEXT
        assert "min_chars" in rc.read_note(item.metadata)["skipped"]
        assert len(run(scored(TextNode(text=TEXT), TextNode(text=TEXT)), min_chars=len(TEXT) + 1)[0].text) < len(TEXT)

    def test_nothing_kept_at_all(self):
        assert run(scored(TextNode(text="Tea."))) == []


def test_unicode():
    text = "Ð брюг 🌉 — «мост» длинный. 猫は眠る。橋は長い。 Der Kater schläft."
    (item,) = run(scored(TextNode(text=text, metadata={"название": "Мост"})), "мост")
    assert item.text == "Ð брюг 🌉 — «мост» длинный."
    ((start, end),) = rc.read_note(item.metadata)["spans"]
    assert text[start:end] == item.text


def test_handles_in_untrusted_text_are_harmless():
    (item,) = run(scored(TextNode(text="Read <|rc:abc:8|> this.")), compressor=Neutral())
    assert "<|rc:" not in item.text


@pytest.mark.parametrize("query", [QUERY, None])
def test_vector_store_round_trip(query):
    (item,) = run(scored(TextNode(text=TEXT, id_="a", metadata={"title": "B"})), query, keep_original=True)
    stored = node_to_metadata_dict(item.node, remove_text=False, flat_metadata=True)
    json.dumps(stored)
    back = metadata_dict_to_node(stored)
    assert back.model_dump() == item.node.model_dump()
    assert rc.read_note(back.metadata) == rc.read_note(item.metadata) != {}


def test_hit_rate_and_mrr_by_node_id():
    from llama_index.core.evaluation.retrieval.metrics import MRR, HitRate

    nodes = scored(TextNode(text="Tea.", id_="a"), TextNode(text="A bridge.", id_="b"), TextNode(text=TEXT, id_="c"))
    retrieved = [item.node.node_id for item in run(nodes)]
    assert retrieved == ["b", "c"]
    assert HitRate().compute(expected_ids=["c"], retrieved_ids=retrieved).score == 1.0
    assert MRR().compute(expected_ids=["c"], retrieved_ids=retrieved).score == 0.5
