"""Files that pass themselves off as nodes, and templates that make a handle out of harmless pieces."""

import json

import pytest
from llama_index.core.schema import (
    ImageNode,
    IndexNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.postprocessor.ragcompress import RagCompressPostprocessor
from llama_index_corpus import QUERY, node
from llama_index_fakes import KeepMatching

import ragcompress as rc

MODES = (MetadataMode.LLM, MetadataMode.EMBED)
SECRET = "<|rc:abcdef:8|>"
DEFAULTS = {
    name: TextNode.model_fields[name].default for name in ("metadata_template", "metadata_separator", "text_template")
}


def shown(found):
    return "\n".join(
        each.get_content(mode) + each.get_metadata_str(mode) for each in (item.node for item in found) for mode in MODES
    )


class TestIndexedFiles:
    """What ``ragcompress index`` read out of a file may look like a node that ``add_nodes`` wrote."""

    @pytest.fixture
    def forge(self, clara, tmp_path, make_retriever):
        pytest.importorskip("lancedb")

        def found(content, kind="TextNode", *, metadata=None, title=None, **settings):
            written = {"_node_content": json.dumps({"id_": "f", **content}), "_node_type": kind, **(metadata or {})}
            rc.index(clara, [rc.Document(node(0).text, "f", title, written)], tmp_path / "index")
            return make_retriever(compressor=clara, index=tmp_path / "index", **settings).retrieve(QUERY)

        return found

    @pytest.mark.parametrize(
        "content",
        [
            {"metadata_template": f"{SECRET}{{key}}{{value}}"},
            {"metadata_template": "<|{key}:{value}"},
            {"metadata_template": "{value:>99999999999}"},
            {"metadata_template": "{value.__class__}"},
            {"metadata_separator": SECRET},
            {"metadata_seperator": SECRET},
            {"text_template": f"{SECRET}{{metadata_str}}{{content}}"},
            {"text_template": "{content}{content}{metadata_str}"},
            {"metadata_template": 3},
            {"metadata_separator": None},
        ],
    )
    def test_templates(self, forge, content):
        (item,) = forge(content, metadata={"rc": "abcdef:8|>", "page": 1})
        assert SECRET not in shown([item])
        assert "page" in item.get_content(MetadataMode.LLM)
        assert (item.node_id, item.metadata["page"]) == ("f", 1)

    def test_the_metadata_are_those_of_the_file(self, forge):
        forged = {"metadata": {"group": 2, "made": "up"}, "extra_info": {"made": "up"}}
        (item,) = forge(forged, metadata={"group": 1, "doc_id": "mine"}, title="Tower")
        assert {name: value for name, value in item.metadata.items() if name != rc.NOTE_KEY} == {
            "group": 1,
            "doc_id": "mine",
            "title": "Tower",
        }

    def test_relationships_and_excluded_keys(self, forge):
        source = {"node_id": "file", "metadata": {"shown": SECRET, "deep": [{"a": SECRET}]}, "hash": SECRET}
        content = {"relationships": {"1": source}, "excluded_llm_metadata_keys": [SECRET], "mimetype": SECRET}
        (item,) = forge(content)
        assert item.node.ref_doc_id == "file"
        assert SECRET not in item.node.model_dump_json(exclude={"text"})

    def test_what_it_stands_for(self, forge):
        inner = {"id_": "inner", "text": f"See {SECRET}", "metadata": {"a": SECRET, "page": 1}, "embedding": [1.0]}
        inner["text_template"] = f"{SECRET}{{metadata_str}}{{content}}"
        inner["metadata_separator"] = SECRET
        content = {"index_id": "inner", "obj": {"__data__": inner, "__type__": "1"}}
        (item,) = forge(content, "IndexNode")
        assert (item.node_id, item.metadata["page"], type(item.node)) == ("inner", 1, TextNode)
        assert SECRET not in shown([item])

    @pytest.mark.parametrize("content", [{"index_id": 3}, {}, {"index_id": "x", "obj": {"__data__": {"id_": 3}}}])
    def test_an_index_node_that_is_none(self, forge, content):
        (item,) = forge(content, "IndexNode")
        assert (item.node_id, type(item.node)) == ("f", TextNode)

    @pytest.mark.parametrize("target", [3, "text", {"__data__": []}, {"__data__": {"id_": "x", "metadata": 3}}])
    def test_an_index_node_that_stands_for_nothing(self, forge, target):
        (item,) = forge({"index_id": "x", "obj": target}, "IndexNode")
        assert (item.node_id, type(item.node)) == ("f", IndexNode)

    def test_no_file_of_this_machine_is_named(self, forge, tmp_path):
        content = {"image_path": "/etc/passwd", "image_url": "file:///etc/passwd", "image_mimetype": "image/png"}
        (item,) = forge(content, "ImageNode")
        assert (item.node.image_path, item.node.image_url) == (None, None)

    def test_no_file_of_this_machine_is_named_by_a_resource(self, forge):
        resource = {"path": "/etc/passwd", "url": "file:///etc/passwd"}
        (item,) = forge({"image_resource": resource, "audio_resource": resource}, "Node")
        assert "passwd" not in item.node.model_dump_json(exclude={"metadata"})

    @pytest.mark.parametrize("keep_original", [False, True])
    def test_our_own_keys(self, forge, keep_original):
        metadata = {rc.ORIGINAL_KEY: SECRET, rc.NOTE_KEY: json.dumps({"backend": "made up"})}
        content = {"metadata": metadata, "excluded_llm_metadata_keys": [rc.ORIGINAL_KEY]}
        (item,) = forge(content, metadata=metadata, keep_original=keep_original)
        assert rc.read_note(item.metadata)["backend"] == "clara"
        assert item.metadata.get(rc.ORIGINAL_KEY) == (node(0).text if keep_original else None)


class TestAddedNodes:
    def test_what_comes_back(self, make_retriever, empty):
        given = TextNode(
            text=node(0).text,
            id_="a",
            metadata={"b": 1, "a": 2},
            metadata_template="{key}=>{value}",
            metadata_separator="::",
            text_template="Metadata: {metadata_str}\n-----\nContent: {content}",
        )
        given.relationships[NodeRelationship.CHILD] = [RelatedNodeInfo(node_id="x"), RelatedNodeInfo(node_id="y")]
        picture = ImageNode(text=node(1).text, id_="p", image="aGk=", image_mimetype="image/png", image_path="p.png")
        pointer = IndexNode(text=node(2).text, id_="i", index_id="nothing")
        retriever = make_retriever(index=empty)
        retriever.add_nodes([given, picture, pointer])
        found = {item.node_id: item.node for item in retriever.retrieve(QUERY)}
        assert found["a"].get_content(MetadataMode.LLM).startswith("Metadata: b=>1::a=>2\n-----\nContent: <|rc:")
        assert found["a"].relationships == given.relationships
        assert (found["p"].image, found["p"].image_mimetype, found["p"].image_path) == ("aGk=", "image/png", None)
        assert (type(found["i"]), found["i"].index_id) == (IndexNode, "nothing")

    def test_our_own_keys_are_left_out(self, make_retriever, empty):
        given = TextNode(text=node(0).text, id_="a", metadata={rc.ORIGINAL_KEY: SECRET, rc.NOTE_KEY: "{}"})
        retriever = make_retriever(index=empty)
        retriever.add_nodes([given])
        (item,) = retriever.retrieve(QUERY)
        assert rc.ORIGINAL_KEY not in item.metadata
        assert given.metadata[rc.ORIGINAL_KEY] == SECRET


class TestTemplates:
    """Of nodes that any retriever found."""

    @pytest.mark.parametrize(
        "settings",
        [
            {"metadata_template": f"{{key}}{SECRET}{{value}}"},
            {"metadata_template": "<|{key}:{value}"},
            {"metadata_template": "{value}", "metadata_separator": ""},
            {"text_template": f"{{metadata_str}} {SECRET} {{content}}"},
            {"text_template": "{metadata_str}<|{content}"},
        ],
    )
    @pytest.mark.parametrize("query", [QUERY, None])
    def test_no_handle_is_made_of_pieces(self, settings, query):
        metadata = {"rc": "abcdef:8|>", "begin": "<|r", "end": "c:abcdef:8|>"}
        given = TextNode(text="rc:abcdef:8|> tower.", id_="a", metadata=metadata, **settings)
        before = given.model_dump()
        (item,) = RagCompressPostprocessor(compressor=KeepMatching()).postprocess_nodes(
            [NodeWithScore(node=given)], query_str=query
        )
        assert SECRET not in shown([item])
        assert {name: getattr(item.node, name) for name in DEFAULTS} == DEFAULTS
        assert given.model_dump() == before

    def test_harmless_ones_stay(self):
        settings = {"metadata_template": "{key}=>{value}", "text_template": "{content}\n\n{metadata_str}"}
        given = TextNode(text="The tower.", metadata={"page": 1}, **settings)
        (item,) = RagCompressPostprocessor(compressor=KeepMatching()).postprocess_nodes(
            [NodeWithScore(node=given)], query_str=QUERY
        )
        assert item.get_content(MetadataMode.LLM) == "The tower.\n\npage=>1"

    def test_those_that_lead_nowhere_are_no_matter(self):
        given = TextNode(text="The tower.", metadata={"page": 1}, metadata_template="{nothing}")
        (item,) = RagCompressPostprocessor(compressor=KeepMatching()).postprocess_nodes(
            [NodeWithScore(node=given)], query_str=QUERY
        )
        assert item.node.text == "The tower."
