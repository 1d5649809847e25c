"""Documents found by their own memory tokens: what is kept of nodes, what comes back, and whole pipelines on it."""

import json

import pytest
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MetadataMode,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from llama_index.core.vector_stores.types import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters
from llama_index.postprocessor.ragcompress import (
    RagCompressLLM,
    RagCompressPostprocessor,
)
from llama_index_corpus import N_TOKENS, QUERY, by_cosine, documents, ids, node, nodes, published, texts
from llama_index_fakes import Given

import ragcompress as rc
from ragcompress.latent.tiny import tiny_clara
from ragcompress.testing import tiny

pytest.importorskip("lancedb")


class TestSearch:
    def test_order_and_scores_are_those_of_all_cosines(self, make_retriever):
        found = make_retriever(similarity_top_k=24).retrieve(QUERY)
        expected = by_cosine(tiny("clara"))
        assert ids(found) == [name for name, _ in expected]
        assert [item.score for item in found] == pytest.approx([score for _, score in expected], abs=1e-4)
        assert {type(item.score) for item in found} == {float}
        assert ids(make_retriever().retrieve(QueryBundle(QUERY))) == ids(found)[:5]

    def test_handles_and_the_question_beside_the_first(self, make_retriever):
        found = make_retriever().retrieve(QUERY)
        expected = tiny("clara").with_options(top_k=5).compress(QUERY, documents())
        handles = [part.text for part in expected.by_document()]
        assert texts(found)[0].startswith(f"{handles[0]}<|rc:ask=")
        assert texts(found)[1:] == handles[1:]

    def test_the_note_is_for_nobody_else(self, make_retriever):
        (item,) = make_retriever(similarity_top_k=1).retrieve(QUERY)
        note = rc.read_note(item.metadata)
        assert (note["backend"], note["n_slots"] % 8, max(note["scores"])) == ("clara", 0, item.score)
        assert rc.NOTE_KEY not in item.get_content(MetadataMode.LLM) + item.get_content(MetadataMode.EMBED)

    def test_nodes_keep_everything(self, make_retriever):
        originals = {each.node_id: each for each in nodes()}
        for item in make_retriever(similarity_top_k=24).retrieve(QUERY):
            before = originals.pop(item.node_id)
            assert {name: value for name, value in item.metadata.items() if name != rc.NOTE_KEY} == before.metadata
            assert item.node.relationships == before.relationships
            assert item.node.ref_doc_id == before.ref_doc_id
            assert item.node.excluded_llm_metadata_keys == [*before.excluded_llm_metadata_keys, rc.NOTE_KEY]
            assert item.node.excluded_embed_metadata_keys == [*before.excluded_embed_metadata_keys, rc.NOTE_KEY]
            json.dumps(item.metadata)
        assert originals == {}

    def test_original_text(self, make_retriever):
        for item in make_retriever(keep_original=True).retrieve(QUERY):
            assert item.metadata[rc.ORIGINAL_KEY] == node(int(item.node_id.split("-")[1])).text
            assert item.metadata[rc.ORIGINAL_KEY] not in item.get_content(MetadataMode.LLM)

    def test_more_than_there_are(self, make_retriever):
        assert len(make_retriever(similarity_top_k=1000).retrieve(QUERY)) == 24

    def test_the_number_may_change_between_calls(self, make_retriever):
        retriever = make_retriever()
        assert retriever.similarity_top_k == 5
        retriever.similarity_top_k = 2
        assert len(retriever.retrieve(QUERY)) == 2
        for wrong in (0, True, 2.5, None):
            with pytest.raises(rc.OptionError, match="similarity_top_k must be a whole number and at least 1"):
                retriever.similarity_top_k = wrong
        assert retriever.similarity_top_k == 2

    def test_what_comes_back_is_the_callers_own(self, make_retriever):
        retriever = make_retriever()
        first = retriever.retrieve(QUERY)
        before = [item.model_dump() for item in first]
        first[0].metadata["tags"].append("mine")
        first[0].node.relationships.clear()
        assert [item.model_dump() for item in retriever.retrieve(QUERY)] == before

    def test_white_space_around_a_question_does_not_count(self, make_retriever):
        retriever = make_retriever()
        assert ids(retriever.retrieve(f" {QUERY}\n")) == ids(retriever.retrieve(QUERY))
        assert [item.score for item in retriever.retrieve(f" {QUERY}\n")] == [
            item.score for item in retriever.retrieve(QUERY)
        ]


class TestAdding:
    def test_again_and_with_other_metadata(self, make_retriever, empty):
        retriever = make_retriever(index=empty)
        some = nodes(4)
        before = [each.model_dump() for each in some]
        assert retriever.add_nodes(some).n_added == 4
        assert [each.model_dump() for each in some] == before
        assert retriever.add_nodes(some).n_present == 4
        some[1].metadata["group"] = 9
        assert retriever.add_nodes(some).n_updated == 1
        assert [item.metadata["group"] for item in retriever.retrieve(QUERY) if item.node_id == "node-1"] == [9]

    async def test_async(self, make_retriever, empty):
        retriever = make_retriever(index=empty)
        assert (await retriever.aadd_nodes(nodes(3))).n_added == 3
        assert len(await retriever.aretrieve(QUERY)) == 3

    def test_an_index_that_is_open(self, clara, tmp_path, make_retriever):
        index = rc.open_index(clara, tmp_path / "index", create=True)
        retriever = make_retriever(compressor=clara, index=index)
        retriever.add_nodes(nodes(6))
        assert len(index) == 6
        assert ids(retriever.retrieve(QUERY)) == [name for name, _ in by_cosine(clara, nodes(6))][:5]
        # The reader of the same compressor finds what the retriever has found.
        engine = RetrieverQueryEngine.from_args(retriever, llm=RagCompressLLM(reader=clara, max_new_tokens=N_TOKENS))
        assert str(engine.query(QUERY)) == published(clara, 5, nodes(6))

    def test_kinds_of_nodes(self, make_retriever, empty):
        retriever = make_retriever(
            index=empty, object_map={"elsewhere": Given([TextNode(text="Found inside.", id_="inside")])}
        )
        given = [
            Document(text=node(0).text, doc_id="document", metadata={"page": 1}),
            IndexNode(text=node(1).text, id_="pointer", index_id="elsewhere"),
            ImageNode(text=node(2).text, id_="picture", image_url="http://example.org/a.png"),
            ImageNode(id_="no-caption", image_url="http://example.org/b.png"),
        ]
        summary = retriever.add_nodes(given)
        assert (summary.n_added, summary.n_rejected) == (3, 1)
        assert (summary.rejected[0].place, summary.rejected[0].reason) == ("no-caption", "the text is empty")
        found = {item.node_id: item.node for item in retriever.retrieve(QUERY)}
        assert set(found) == {"document", "inside", "picture"}
        assert found["document"].metadata["page"] == 1
        assert found["picture"].image_url == "http://example.org/a.png"

    def test_what_an_index_node_stands_for(self, make_retriever, empty):
        retriever = make_retriever(index=empty)
        whole = TextNode(text="The whole <|rc:aa:3|> chapter.", id_="whole", metadata={"page": 1})
        retriever.add_nodes([IndexNode(text=node(1).text, id_="part", index_id="whole", obj=whole)])
        (found,) = retriever.retrieve(QUERY)
        assert (found.node_id, found.metadata) == ("whole", {"page": 1})
        assert "<|rc:" not in found.text
        assert "<|rc:" in whole.text

    def test_short_texts_stay_text(self, make_retriever, empty):
        retriever = make_retriever(index=empty)
        retriever.add_nodes([TextNode(text="moon.", id_="short", metadata={"title": "T"}), *nodes(2)])
        found = {item.node_id: item for item in retriever.retrieve(QUERY)}
        assert found["short"].text == "moon."
        assert isinstance(found["short"].score, float)

    def test_names_that_llama_index_uses_itself(self, make_retriever, empty):
        retriever = make_retriever(index=empty, where={"doc_id": "mine"})
        odd = TextNode(
            text=node(0).text, id_="a", metadata={"doc_id": "mine", "_node_content": "{}", "_node_type": "x"}
        )
        retriever.add_nodes([odd, *nodes(2)[1:]])
        (found,) = retriever.retrieve(QUERY)
        assert (found.node_id, found.metadata["doc_id"], found.metadata["_node_content"]) == ("a", "mine", "{}")

    def test_of_a_source(self, make_retriever):
        assert set(ids(make_retriever(where={"ref_doc_id": "file-3"}).retrieve(QUERY))) == {"node-6", "node-7"}

    @pytest.mark.parametrize("value", [object(), float("nan"), {1, 2}])
    def test_metadata_that_is_no_json(self, make_retriever, empty, value):
        retriever = make_retriever(index=empty)
        wrong = TextNode(text="Some text that is long enough to be encoded.", id_="wrong", metadata={"value": value})
        with pytest.raises(rc.InputError, match=r"nodes\[2\] \(wrong\) cannot be written as JSON"):
            retriever.add_nodes([*nodes(2), wrong])
        with pytest.raises(rc.InputError, match="there is no index"):  # nothing was added
            retriever.retrieve(QUERY)

    def test_an_object_that_cannot_be_written(self, make_retriever, empty):
        pointer = IndexNode(text="Some text.", index_id="x", obj=Given([]))
        with pytest.raises(rc.InputError, match="object_map"):
            make_retriever(index=empty).add_nodes([pointer])

    def test_what_is_no_node(self, make_retriever, empty):
        retriever = make_retriever(index=empty)
        with pytest.raises(rc.InputTypeError, match=r"nodes\[1\] is NodeWithScore; expected a node"):
            retriever.add_nodes([node(0), NodeWithScore(node=node(1))])
        for single in (node(0), "text", 3):
            with pytest.raises(rc.InputTypeError, match="nodes is a single"):
                retriever.add_nodes(single)
        assert retriever.add_nodes([]).n_documents == 0

    def test_what_is_compressed_already(self, make_retriever, empty):
        retriever = make_retriever(index=empty)
        compressed = [item.node for item in make_retriever().retrieve(QUERY)]
        with pytest.raises(rc.InputError, match="holds handles in the place of text"):
            retriever.add_nodes(compressed)

    def test_a_checkpoint_that_cannot_search(self, make_retriever, tmp_path):
        compressor = rc.find("clara")(tiny_clara(query_reasoner=False))
        compressor.store = rc.InMemoryStore()
        retriever = make_retriever(compressor=compressor, index=tmp_path / "index")
        with pytest.raises(rc.OptionError, match="needs a query reasoner"):
            retriever.add_nodes(nodes(2))
        assert not (tmp_path / "index").exists()

    def test_lone_surrogates(self, make_retriever, empty):
        retriever = make_retriever(index=empty)
        odd = TextNode(text="Half a character \ud800 stands in this sentence, which goes on for a while.", id_="odd")
        assert retriever.add_nodes([odd]).n_added == 1
        assert ids(retriever.retrieve(QUERY)) == ["odd"]


class TestOtherDocuments:
    """Indexes that were built by ``ragcompress index`` or ``ragcompress.index``."""

    @pytest.fixture
    def search(self, clara, tmp_path, make_retriever):
        def found(*given, **settings):
            rc.index(clara, given, tmp_path / "index")
            return make_retriever(compressor=clara, index=tmp_path / "index", similarity_top_k=20, **settings).retrieve(
                QUERY
            )

        return found

    def test_ids_titles_and_metadata(self, search):
        (item,) = search(rc.Document(node(0).text, "a", "Tower", {"page": 1, "deep": {"x": [1]}}))
        assert isinstance(item.node, TextNode)
        assert item.node_id == "a"
        assert {name: value for name, value in item.metadata.items() if name != rc.NOTE_KEY} == {
            "page": 1,
            "deep": {"x": [1]},
            "title": "Tower",
        }
        assert item.node.relationships == {}

    def test_another_key_for_titles(self, search):
        (item,) = search(rc.Document(node(0).text, "a", "Tower", {"title": "kept"}), title_key="name")
        assert (item.metadata["name"], item.metadata["title"]) == ("Tower", "kept")

    def test_without_an_id(self, search):
        given = [rc.Document(each.text) for each in nodes(3)]
        first, second = ids(search(*given)), ids(search(*given))
        assert first == second
        assert len(set(first)) == 3

    def test_passages_that_share_an_id(self, search):
        """LlamaIndex drops nodes of equal ids, so only the best one keeps it."""
        found = search(*[rc.Document(each.text, "article") for each in nodes(3)])
        assert len(found) == len(set(ids(found))) == 3
        assert found[0].node_id == "article"

    def test_handles_in_files_are_harmless(self, search, clara):
        context = clara.compress(QUERY, ["The password is swordfish, and nobody else may ever read this document."])
        secret = context.segments[0].handle
        (genuine,) = RagCompressPostprocessor(compressor=clara, handles="expected").postprocess_nodes(
            [NodeWithScore(node=node(5))]
        )
        forged = {
            "id_": "f",
            "text": secret,
            "metadata": {rc.NOTE_KEY: genuine.metadata[rc.NOTE_KEY], "shown": secret},
            "excluded_llm_metadata_keys": [rc.NOTE_KEY],
        }
        found = search(
            rc.Document(f"moon {secret}", "a", f"T {secret}", {"tag": secret}),
            rc.Document("moon.", "f", metadata={"_node_content": json.dumps(forged), "_node_type": "TextNode"}),
            rc.Document(genuine.text, "g", metadata={rc.NOTE_KEY: genuine.metadata[rc.NOTE_KEY]}),
        )
        shown = "\n".join(item.get_content(MetadataMode.LLM) for item in found)
        assert len(found) == 3
        assert secret not in shown
        assert genuine.text not in shown

    @pytest.mark.parametrize(
        "content",
        ["no json", "[]", "null", "3", '{"id_": "b"}', '{"metadata": 3}', 7, pytest.param("[" * 99_999, id="deep")],
    )
    def test_somebody_elses_entry_under_llama_indexs_key(self, search, content):
        (item,) = search(rc.Document(node(0).text, "a", metadata={"_node_content": content}))
        assert (item.node_id, item.metadata["_node_content"]) == ("a", content)


class TestFilters:
    def equal(self, key, value):
        return MetadataFilter(key=key, value=value)

    def test_where(self, make_retriever):
        found = make_retriever(where={"group": 1}, similarity_top_k=24).retrieve(QUERY)
        assert set(ids(found)) == {f"node-{number}" for number in range(1, 24, 2)}
        everything = ids(make_retriever(similarity_top_k=24).retrieve(QUERY))
        assert ids(found) == [name for name in everything if int(name.split("-")[1]) % 2]

    def test_nothing_fits(self, make_retriever):
        assert make_retriever(where={"group": 7}).retrieve(QUERY) == []

    def test_filters(self, make_retriever):
        nested = MetadataFilters(filters=[self.equal("title", "bell 3")])
        given = MetadataFilters(filters=[self.equal("group", 1), nested])
        assert ids(make_retriever(filters=given).retrieve(QUERY)) == ["node-3"]
        assert ids(make_retriever(filters=nested, where={"group": 1}).retrieve(QUERY)) == ["node-3"]
        assert ids(make_retriever(filters=given, where={"group": 1}).retrieve(QUERY)) == ["node-3"]
        assert make_retriever(filters=nested, where={"group": 0}).retrieve(QUERY) == []
        assert len(make_retriever(filters=MetadataFilters(filters=[])).retrieve(QUERY)) == 5

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"where": ["group"]}, "where must be a mapping"),
            ({"where": {1: 2}}, "where must be a mapping"),
            ({"filters": {"group": 1}}, "filters must be a MetadataFilters, got dict"),
            (
                {"filters": MetadataFilters(filters=[], condition=FilterCondition.OR)},
                "joined by 'or'; expected 'and'",
            ),
            (
                {"filters": MetadataFilters(filters=[MetadataFilters(filters=[], condition=FilterCondition.NOT)])},
                "joined by 'not'; expected 'and'",
            ),
            (
                {"filters": MetadataFilters(filters=[MetadataFilter(key="a", value=1, operator=FilterOperator.GT)])},
                "the filter on 'a' compares with '>'; expected '=='",
            ),
            (
                {"where": {"a": 1}, "filters": MetadataFilters(filters=[MetadataFilter(key="a", value=2)])},
                "'a' is to be both 1 and 2",
            ),
        ],
    )
    def test_what_an_index_cannot_do(self, make_retriever, settings, message):
        with pytest.raises(rc.OptionError, match=message):
            make_retriever(**settings)

    def test_the_callers_mapping_may_change(self, make_retriever):
        where = {"group": 1}
        retriever = make_retriever(where=where)
        where["group"] = 7
        assert len(retriever.retrieve(QUERY)) == 5
