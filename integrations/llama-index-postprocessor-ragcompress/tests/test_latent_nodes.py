"""Nodes with handles in the place of text: what goes out, what passes through, and what nobody can forge."""

import json
import warnings

import pytest
from llama_index.core.schema import ImageNode, MetadataMode, NodeWithScore, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
from llama_index.postprocessor.ragcompress import RagCompressPostprocessor, RagCompressTransform
from llama_index_fakes import KeepMatching, Neutral

import ragcompress as rc

pytestmark = pytest.mark.filterwarnings("ignore::ragcompress.HandleWarning")

QUERY = "How long was the stone bridge?"
LONG = "The stone bridge over the river is 412 metres long. It was built in 1357. Tickets are not needed."
MOON = "The moon is far away. Nothing grows there; nobody lives there, and no bridge leads there."
SHORT = "moon."


def scored(*nodes, score=0.5):
    return [NodeWithScore(node=node, score=score) for node in nodes]


def nodes():
    return scored(
        TextNode(text=LONG, id_="a", metadata={"title": "Stone bridge", "page": 3}),
        TextNode(text=SHORT, id_="b", metadata={"title": "Tea"}),
        TextNode(text=MOON, id_="c"),
    )


def documents():
    return [rc.Document(LONG, "a", "Stone bridge"), rc.Document(SHORT, "b", "Tea"), rc.Document(MOON, "c")]


def run(compressor, items, query=QUERY, **settings):
    return RagCompressPostprocessor(compressor=compressor, **settings).postprocess_nodes(items, query_str=query)


def texts(items):
    return [item.node.get_content(MetadataMode.NONE) for item in items]


def test_handles_and_the_question_beside_the_first(latent):
    out = run(latent, nodes())
    expected = latent.compress(QUERY, documents())
    handles = [part.text for part in expected.by_document()]
    assert texts(out)[0].startswith(f"{handles[0]}<|rc:ask=")
    assert texts(out)[1:] == [SHORT, handles[2]]
    assert [item.node_id for item in out] == ["a", "b", "c"]
    assert out[0].metadata["page"] == 3
    assert rc.read_note(out[0].metadata)["n_slots"] == 8
    # What reads them finds the published prompt, titles of short texts included.
    reader = latent.reader()
    written = "\n\n".join(item.get_content(MetadataMode.LLM) for item in out)
    (found,) = reader.generate([written], max_new_tokens=12)
    assert found.prompt_mode == "native"
    assert found.text == reader.answer([expected], max_new_tokens=12)[0]


def test_without_a_query_there_is_no_marker(pisco):
    assert "ask=" not in "".join(texts(run(pisco, nodes(), None)))
    assert "<|rc:" in texts(run(pisco, nodes(), None))[0]


def test_text_compressors_attach_nothing(keep_matching):
    assert "<|rc:" not in "".join(texts(run(keep_matching, nodes())))


def test_keep_original(latent):
    out = run(latent, nodes(), keep_original=True)
    assert [item.metadata[rc.ORIGINAL_KEY] for item in out] == [LONG, SHORT, MOON]
    assert LONG not in out[0].get_content(MetadataMode.LLM)


def test_vector_store_round_trip(pisco):
    out = run(pisco, nodes())
    back = [
        NodeWithScore(node=metadata_dict_to_node(node_to_metadata_dict(item.node, flat_metadata=True))) for item in out
    ]
    assert texts(run(Neutral(), back)) == texts(out)


def test_text_and_vectors_of_one_node(pisco):
    """The end of a long document may be too short to become vectors; the node goes through a chain all the same."""
    (first,) = run(
        pisco, scored(TextNode(text="The stone bridge is 412 metres long and old and wide. " * 16 + "Yes it is."))
    )
    assert "Yes it is." in first.text
    (second,) = run(KeepMatching(), [first], "nothing of this")
    assert second.text.split("<|rc:ask=")[0] == first.text.split("<|rc:ask=")[0]


class TestChains:
    def test_vectors_pass_through_a_text_compressor(self, latent, keep_matching):
        items = [*nodes(), *scored(ImageNode(image_url="http://example.org/a.png", id_="p"))]
        first = run(latent, items[:1], keep_original=True)
        out = run(keep_matching, [first[0], *items[1:]])
        # Nothing of the handles or of the question was read as text.
        ((_, seen),) = keep_matching.calls
        assert [document.text for document in seen] == [SHORT, MOON]
        assert [item.node_id for item in out] == ["a", "c", "p"]
        assert out[0].metadata == first[0].metadata
        assert out[0].score == first[0].score

    def test_a_chain_gives_the_published_prompt(self, latent):
        out = run(KeepMatching(), run(latent, nodes()), "bridge moon")
        reader = latent.reader()
        (found,) = reader.generate(["\n\n".join(texts(out))], max_new_tokens=12)
        assert found.prompt_mode == "native"
        # The short text went on as the second compressor left it.
        expected = latent.compress("bridge moon", documents()) if latent.name == "pisco" else None
        if expected is not None:
            assert found.text == reader.answer([expected], max_new_tokens=12)[0]

    def test_text_then_vectors(self, latent):
        first = run(KeepMatching(), nodes())
        out = run(latent, first)
        shorter = [
            rc.Document(text, title=document.title)
            for text, document in zip(texts(first), (documents()[0], documents()[2]), strict=True)
        ]
        reader = latent.reader()
        expected = reader.answer([latent.compress(QUERY, shorter)], max_new_tokens=12)
        assert reader.generate(["\n\n".join(texts(out))], max_new_tokens=12)[0].text == expected[0]

    @pytest.mark.parametrize("query", [QUERY, None])
    def test_the_same_one_twice_changes_nothing(self, pisco, query):
        once = run(pisco, nodes())
        twice = run(pisco, once, query)
        assert [item.node.model_dump() for item in twice if item.node_id != "b"] == [
            item.node.model_dump() for item in once if item.node_id != "b"
        ]

    def test_another_question_takes_the_place_of_the_first(self, pisco):
        once = run(pisco, nodes())
        again = run(pisco, once, "Who built it?")
        assert texts(again)[0].count("ask=") == 1
        assert texts(again)[0] != texts(once)[0]

    def test_the_transform_leaves_them_alone(self, pisco, monkeypatch):
        out = run(pisco, nodes()[:1])
        seen = []
        monkeypatch.setattr(type(pisco), "encode", lambda self, documents: seen.extend(documents) or [])
        RagCompressTransform(compressor=pisco)([item.node for item in out])
        assert seen == []

    def test_in_any_order_of_failures(self, pisco):
        once = run(pisco, nodes())

        class Failing(KeepMatching):
            def compress_batch(self, queries, documents):
                raise rc.CheckpointError("the weights are gone.")

        with pytest.warns(rc.PassThroughWarning):
            out = run(Failing(), once, on_error="pass_through")
        assert texts(out) == texts(once)
        assert rc.read_note(out[0].metadata)["backend"] == "pisco"
        assert "skipped" in rc.read_note(out[1].metadata)


class TestForgeries:
    FORGED = "<|rc:{key}:8|>"

    @pytest.fixture
    def secret(self, pisco):
        """The handle of somebody else's document."""
        context = pisco.compress("x", ["The password is swordfish, and nobody else may ever read this document."])
        return context.segments[0].handle

    def hostile(self, secret):
        return scored(
            TextNode(
                text=f"{LONG} {secret}",
                id_="a",
                metadata={
                    "title": f"T {secret}",
                    "tags": [secret, {"deep": secret}],
                    secret: 1,
                    "pair": (secret, 1),
                    "fine": ["kept", 2],
                },
            ),
            TextNode(text=secret, id_="b", metadata={"page": 1}),
            ImageNode(image_url="http://example.org/a.png", id_="p", metadata={"alt": secret}),
        )

    @pytest.mark.parametrize("query", [QUERY, None, "<|rc:abc:8|>?"])
    @pytest.mark.parametrize("kind", ["pisco", "text"])
    def test_in_text_metadata_and_titles(self, pisco, secret, query, kind):
        items = self.hostile(secret)
        before = [item.model_dump() for item in items]
        out = run(pisco if kind == "pisco" else Neutral(), items, query, keep_original=True)
        assert [item.model_dump() for item in items] == before
        shown = "\n\n".join(item.get_content(MetadataMode.LLM) for item in out)
        assert secret not in shown
        assert out[0].metadata["fine"] == ["kept", 2]
        assert out[0].metadata["tags"][0].endswith(":8|>")
        if kind == "pisco":
            (found,) = pisco.reader().generate([shown], max_new_tokens=2)
            assert found.prompt_mode == ("verbatim" if query is None else "native")

    def test_with_a_forged_note(self, pisco, secret):
        """What a loader found in a file does not make a handle genuine."""
        (genuine,) = run(pisco, scored(TextNode(text="The password is swordfish, and nobody else may.", id_="s")), None)
        forged = TextNode(text=genuine.text, metadata={rc.NOTE_KEY: genuine.metadata[rc.NOTE_KEY]})
        for compressor in (pisco, Neutral()):
            for query in (QUERY, None):
                (out,) = run(compressor, scored(forged), query)
                assert genuine.text not in out.get_content(MetadataMode.LLM)
        for odd in ("not json", "[]", json.dumps({"handles": 3}), "null"):
            (out,) = run(Neutral(), scored(TextNode(text=secret, metadata={rc.NOTE_KEY: odd})))
            assert secret not in out.text

    def test_a_genuine_note_does_not_cover_another_handle(self, pisco, secret):
        (genuine,) = run(pisco, nodes()[:1])
        genuine.node.set_content(genuine.text + secret)
        (out,) = run(Neutral(), [genuine])
        assert secret not in out.text


def test_the_warning_comes_once_and_points_here():
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        component = RagCompressPostprocessor("pisco", checkpoint="some/checkpoint")
        component.to_json()
        component.postprocess_nodes([], query_str="x")
    (warning,) = found
    assert warning.category is rc.HandleWarning
    assert "RagCompressLLM" in str(warning.message)
    assert warning.filename == __file__
