"""Whole LlamaIndex pipelines on small random models: the answers are those of the reader itself."""

import pickle

import pytest
from llama_index.core import (
    Document,
    PromptTemplate,
    Settings,
    StorageContext,
    VectorStoreIndex,
    load_index_from_storage,
)
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import TextNode
from llama_index.core.tools import RetrieverTool
from llama_index.postprocessor.ragcompress import (
    RagCompressLLM,
    RagCompressLLMError,
    RagCompressPostprocessor,
    RagCompressTransform,
)
from llama_index_fakes import Given, KeepMatching

import ragcompress as rc

pytestmark = pytest.mark.filterwarnings("ignore::ragcompress.HandleWarning")

QUERY = "How long was the stone bridge over the river?"
N_TOKENS = 16
TEXTS = {
    "bridge": "The stone bridge over the river is 412 metres long. It was built in 1357. Tickets are not needed.",
    "tea": "moon.",
    "moon": "The moon is far away. Nothing grows there; nobody lives there, and no bridge leads there. " * 8,
    "bread": "Bread needs flour, water, salt and time. Bakers rise early, and so do those who buy bread.",
}
TITLES = {"bridge": "Stone bridge", "tea": "Drinks"}
ONE_PROMPT = pytest.mark.parametrize(
    "mode", [ResponseMode.COMPACT, ResponseMode.SIMPLE_SUMMARIZE, ResponseMode.TREE_SUMMARIZE]
)


def nodes():
    return [
        TextNode(text=text.strip(), id_=name, metadata={"title": TITLES[name], "page": 1} if name in TITLES else {})
        for name, text in TEXTS.items()
    ]


def documents():
    return [rc.Document(text.strip(), title=TITLES.get(name)) for name, text in TEXTS.items()]


def llm_of(compressor, **settings):
    return RagCompressLLM(reader=compressor, max_new_tokens=N_TOKENS, **settings)


def engine_of(compressor, mode=ResponseMode.COMPACT, llm=None, found=None, postprocessors=None, **settings):
    return RetrieverQueryEngine.from_args(
        Given(found or nodes()),
        llm=llm or llm_of(compressor),
        node_postprocessors=postprocessors or [RagCompressPostprocessor(compressor=compressor)],
        response_mode=mode,
        **settings,
    )


def native(compressor, query=QUERY):
    return compressor.reader().answer([compressor.compress(query, documents())], max_new_tokens=N_TOKENS)[0]


def verbatim(compressor, conversation):
    return compressor.reader().complete(conversation, max_new_tokens=N_TOKENS, prompt_mode="verbatim")


class TestQueryEngines:
    @ONE_PROMPT
    def test_the_published_prompt(self, latent, mode, recorder):
        assert str(engine_of(latent, mode).query(QUERY)) == native(latent)
        assert len(recorder.conversations) == 1

    @ONE_PROMPT
    async def test_async(self, latent, mode):
        assert str(await engine_of(latent, mode).aquery(QUERY)) == native(latent)

    @pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.SIMPLE_SUMMARIZE])
    def test_streaming(self, latent, mode):
        pieces = list(engine_of(latent, mode, streaming=True).query(QUERY).response_gen)
        assert len(pieces) > 1
        assert "".join(pieces) == native(latent)

    async def test_async_streaming(self, latent):
        response = await engine_of(latent, streaming=True).aquery(QUERY)
        assert "".join([piece async for piece in response.async_response_gen()]) == native(latent)

    def test_refine_asks_once_a_node(self, latent, recorder):
        """No prompt holds the whole result, so all are LlamaIndex's own, with vectors in them."""
        answer = str(engine_of(latent, ResponseMode.REFINE).query(QUERY))
        asked = recorder.conversations
        assert len(asked) == len(TEXTS)
        answers = [verbatim(latent, conversation) for conversation in asked]
        assert answer == answers[-1]
        for conversation, earlier in zip(asked[1:], answers, strict=False):
            assert earlier in "".join(message["content"] for message in conversation)

    def test_refine_with_one_node_is_native(self, pisco):
        engine = engine_of(pisco, ResponseMode.REFINE, found=nodes()[:1])
        expected = pisco.reader().answer([pisco.compress(QUERY, documents()[:1])], max_new_tokens=N_TOKENS)
        assert str(engine.query(QUERY)) == expected[0]

    def test_tree_of_several_prompts(self, latent, recorder):
        """A window too small for all nodes: several prompts, each read as it is written, no handle cut."""
        llm = llm_of(latent, context_window=230)
        helper = llm.prompt_helper()
        answer = str(engine_of(latent, ResponseMode.TREE_SUMMARIZE, llm, prompt_helper=helper).query(QUERY))
        asked = recorder.conversations
        assert len(asked) > 2
        assert answer == verbatim(latent, asked[-1])
        handles = {
            segment.handle for segment in latent.compress(QUERY, documents()).segments if hasattr(segment, "key")
        }
        for handle in handles:
            assert any(handle in message["content"] for conversation in asked for message in conversation)
        if latent.name == "pisco":
            assert len(handles) > 3

    def test_own_words(self, latent, recorder):
        llm = llm_of(latent, prompt_mode="verbatim")
        template = PromptTemplate("Only say yes or no. {context_str} Now: {query_str}")
        engine = engine_of(latent, llm=llm, text_qa_template=template)
        answer = str(engine.query(QUERY))
        (conversation,) = recorder.conversations
        assert conversation[0]["content"].startswith("Only say yes or no.")
        assert answer == verbatim(latent, conversation) != native(latent)

    def test_source_nodes(self, latent):
        postprocessor = RagCompressPostprocessor(compressor=latent, keep_original=True)
        response = engine_of(latent, postprocessors=[postprocessor]).query(QUERY)
        assert [source.node_id for source in response.source_nodes] == list(TEXTS)
        for source, text in zip(response.source_nodes, TEXTS.values(), strict=True):
            assert source.metadata[rc.ORIGINAL_KEY] == text.strip()

    def test_citations_read_the_prompt_with_numbers(self, pisco, recorder):
        engine = CitationQueryEngine(
            retriever=Given(nodes()),
            llm=llm_of(pisco, prompt_mode="verbatim"),
            node_postprocessors=[RagCompressPostprocessor(compressor=pisco)],
        )
        answer = str(engine.query(QUERY))
        (conversation,) = recorder.conversations
        assert "Source 2:\nmoon." in conversation[-1]["content"]
        assert answer == verbatim(pisco, conversation)

    def test_retriever_tool(self, pisco):
        tool = RetrieverTool.from_defaults(
            Given(nodes()), node_postprocessors=[RagCompressPostprocessor(compressor=pisco)]
        )
        found = llm_of(pisco).complete(tool(QUERY).content)
        assert (found.text, found.raw["prompt_mode"]) == (native(pisco), "native")


class TestChains:
    @pytest.mark.parametrize("first", ["text", "vectors"])
    def test_with_a_text_compressor(self, latent, first):
        both = [RagCompressPostprocessor(compressor=KeepMatching()), RagCompressPostprocessor(compressor=latent)]
        ordered = both if first == "text" else both[::-1]
        answer = str(engine_of(latent, postprocessors=ordered).query(QUERY))
        assert answer
        if first == "vectors":
            # Everything but the short text was vectors already, and that text has nothing of the question in it.
            expected = [document for document in documents() if document.text != "moon."]
            context = latent.compress(QUERY, expected)
            assert answer == latent.reader().answer([context], max_new_tokens=N_TOKENS)[0]


class TestChatEngines:
    def engine(self, kind, compressor):
        return kind.from_defaults(
            Given(nodes()),
            llm=llm_of(compressor),
            node_postprocessors=[RagCompressPostprocessor(compressor=compressor)],
            system_prompt="Be kind.",
            memory=ChatMemoryBuffer.from_defaults(token_limit=3000),
        )

    @pytest.mark.parametrize("kind", [ContextChatEngine, CondensePlusContextChatEngine])
    def test_turns(self, latent, kind, recorder):
        engine = self.engine(kind, latent)
        first = str(engine.chat(QUERY))
        assert first == native(latent)
        second = str(engine.chat("And who built it?"))
        # The second turn belongs to a conversation, which the published prompt has no place for.
        conversation = recorder.conversations[-1]
        assert second == verbatim(latent, conversation)
        assert [message["role"] for message in conversation] == ["system", "user", "assistant", "user"]

    @pytest.mark.parametrize("kind", [ContextChatEngine, CondensePlusContextChatEngine])
    async def test_other_ways(self, pisco, kind):
        expected = native(pisco)
        assert str(await self.engine(kind, pisco).achat(QUERY)) == expected
        assert "".join(self.engine(kind, pisco).stream_chat(QUERY).response_gen) == expected
        response = await self.engine(kind, pisco).astream_chat(QUERY)
        assert "".join([piece async for piece in response.async_response_gen()]) == expected


class TestIndexes:
    @pytest.fixture
    def encoded(self, pisco, monkeypatch):
        """The documents that any compressor of this kind encodes."""
        seen = []
        encode = type(pisco).encode
        monkeypatch.setattr(
            type(pisco), "encode", lambda self, documents: seen.extend(documents) or encode(self, documents)
        )
        return seen

    def test_what_was_ingested_is_not_encoded_again(self, pisco, encoded, tmp_path):
        own = rc.find("pisco")(pisco.model, store=rc.InMemoryStore())
        pipeline = IngestionPipeline(transformations=[SentenceSplitter(), RagCompressTransform(compressor=own)])
        raw = [Document(text=node.text, metadata=node.metadata, doc_id=node.node_id) for node in nodes()]
        found = pipeline.run(documents=raw)
        assert [document.title for document in encoded] == ["Stone bridge", "Drinks", None, None]
        encoded.clear()
        index = VectorStoreIndex(found, embed_model=MockEmbedding(4))
        index.storage_context.persist(tmp_path)
        storage = StorageContext.from_defaults(persist_dir=str(tmp_path))
        index = load_index_from_storage(storage, embed_model=MockEmbedding(4))
        engine = index.as_query_engine(
            llm=llm_of(own), node_postprocessors=[RagCompressPostprocessor(compressor=own)], similarity_top_k=4
        )
        response = engine.query(QUERY)
        assert encoded == []
        order = [source.node.ref_doc_id for source in response.source_nodes]
        context = own.compress(QUERY, [documents()[list(TEXTS).index(name)] for name in order])
        assert str(response) == own.reader().answer([context], max_new_tokens=N_TOKENS)[0]
        # The index holds the originals under the ids that the nodes kept.
        assert index.docstore.get_node(response.source_nodes[0].node_id).text in [
            text.strip() for text in TEXTS.values()
        ]

    def test_from_settings_alone(self, encoded):
        """Three components that share weights and memories by what they are configured with."""
        settings = {"checkpoint": _golden(), "device": "cpu", "store": "memory://llama-index-engines"}
        RagCompressTransform("pisco", **settings)(nodes())
        assert len(encoded) == len(TEXTS)
        encoded.clear()
        written = RagCompressPostprocessor("pisco", **settings).to_json()
        engine = engine_of(
            None,
            llm=pickle.loads(pickle.dumps(RagCompressLLM(max_new_tokens=N_TOKENS, **settings))),
            postprocessors=[RagCompressPostprocessor.from_json(written)],
        )
        answer = str(engine.query(QUERY))
        assert encoded == []
        assert answer == native(rc.load("pisco", _golden(), device="cpu"))

    def test_settings_of_llama_index(self, pisco):
        Settings.llm = llm_of(pisco)
        try:
            engine = RetrieverQueryEngine.from_args(
                Given(nodes()), node_postprocessors=[RagCompressPostprocessor(compressor=pisco)]
            )
            assert str(engine.query(QUERY)) == native(pisco)
        finally:
            Settings._llm = None


class TestFailures:
    @pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.REFINE, ResponseMode.TREE_SUMMARIZE])
    def test_missing_memories_reach_the_user(self, pisco, mode):
        elsewhere = RagCompressLLM(reader=pisco.reader(store=rc.InMemoryStore()))
        with pytest.raises(rc.MemoryNotFoundError):
            engine_of(pisco, mode, llm=elsewhere).query(QUERY)

    @pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.REFINE, ResponseMode.TREE_SUMMARIZE])
    def test_vectors_of_another_checkpoint_do_not_end_in_an_empty_answer(self, pisco, mode):
        (memory,) = pisco.remember(["The stone bridge over the river is long."]).values()
        pisco.store.put({"00ff": rc.Memory(memory.vectors, 3, "other@1")})
        found = Given([TextNode(text="<|rc:00ff:8|>")])
        llm = RagCompressLLM(reader=pisco)
        engine = RetrieverQueryEngine.from_args(found, llm=llm, response_mode=mode)
        with pytest.raises(RagCompressLLMError, match="other@1") as raised:
            engine.query(QUERY)
        assert isinstance(raised.value.__cause__, rc.SpaceMismatchError)

    async def test_and_in_streams(self, pisco):
        engine = engine_of(pisco, llm=RagCompressLLM(reader=pisco.reader(store=rc.InMemoryStore())), streaming=True)
        with pytest.raises(rc.MemoryNotFoundError):
            "".join(engine.query(QUERY).response_gen)
        response = await engine.aquery(QUERY)
        with pytest.raises(rc.MemoryNotFoundError):
            [piece async for piece in response.async_response_gen()]

    def test_forged_handles(self, latent):
        context = latent.compress(QUERY, ["The password is swordfish, and nobody else may ever read this document."])
        secret = context.segments[0].handle
        hostile = [
            TextNode(text=f"{TEXTS['bridge']} {secret}", metadata={"title": secret, "tags": [secret]}),
            TextNode(text=secret),
        ]
        same = [rc.Document(f"{TEXTS['bridge']} {secret}", title=secret), rc.Document(secret)]
        expected = latent.reader().answer([latent.compress(QUERY, same)], max_new_tokens=N_TOKENS)
        assert str(engine_of(latent, found=hostile).query(QUERY)) == expected[0]

    def test_a_splitter_that_cuts_handles_is_reported(self, pisco):
        """LlamaIndex's own counting takes a handle for forty tokens, and cuts it where these are too many."""
        engine = engine_of(pisco, ResponseMode.SIMPLE_SUMMARIZE, llm_of(pisco, context_window=165))
        with pytest.warns(rc.HandleWarning, match="prompt_helper"):
            engine.query(QUERY)


def _golden():
    from pathlib import Path

    root = Path(__file__).parents[3]
    for folder in (root / "tests" / "parity" / "goldens", root.parent / "shared" / "goldens"):
        if (folder / "pisco-v1-tiny").is_dir():
            return str(folder / "pisco-v1-tiny")
    pytest.skip("the small published checkpoints are not here")
