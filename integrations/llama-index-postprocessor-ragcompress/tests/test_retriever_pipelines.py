"""The retriever in use: whole pipelines, LlamaIndex's contract, candidates of another retriever, errors."""

import asyncio
import copy
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import (
    ImageNode,
    MetadataMode,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from llama_index.core.tools import RetrieverTool
from llama_index.postprocessor.ragcompress import (
    CompressionEndEvent,
    RagCompressLLM,
    RagCompressPostprocessor,
    RagCompressRetriever,
)
from llama_index_corpus import N_TOKENS, QUERY, by_cosine, ids, nodes, published, texts
from llama_index_fakes import Given, KeepMatching

import ragcompress as rc
from ragcompress.testing import tiny

pytest.importorskip("lancedb")


class TestPipelines:
    def engine(self, retriever, clara_folder, **settings):
        llm = RagCompressLLM("clara", checkpoint=clara_folder, device="cpu", max_new_tokens=N_TOKENS)
        return RetrieverQueryEngine.from_args(retriever, llm=llm, **settings)

    def test_answers(self, make_retriever, clara_folder):
        response = self.engine(make_retriever(), clara_folder).query(QUERY)
        assert str(response) == published(tiny("clara"), 5)
        assert ids(response.source_nodes) == ids(make_retriever().retrieve(QUERY))

    async def test_async_and_streams(self, make_retriever, clara_folder):
        expected = published(tiny("clara"), 5)
        assert str(await self.engine(make_retriever(), clara_folder).aquery(QUERY)) == expected
        response = await self.engine(make_retriever(), clara_folder, streaming=True).aquery(QUERY)
        assert "".join([piece async for piece in response.async_response_gen()]) == expected

    def test_with_texts_among_the_vectors(self, make_retriever, empty, clara_folder):
        retriever = make_retriever(index=empty)
        given = [TextNode(text="moon.", id_="short", metadata={"title": "T"}), *nodes(3)]
        retriever.add_nodes(given)
        assert str(self.engine(retriever, clara_folder).query(QUERY)) == published(tiny("clara"), 5, given)

    def test_as_a_tool(self, make_retriever, clara_folder):
        llm = RagCompressLLM("clara", checkpoint=clara_folder, device="cpu", max_new_tokens=N_TOKENS)
        found = llm.complete(RetrieverTool.from_defaults(make_retriever())(QUERY).content)
        assert (found.text, found.raw["prompt_mode"]) == (published(tiny("clara"), 5), "native")

    def test_in_a_chat(self, make_retriever, clara_folder):
        memory = ChatMemoryBuffer.from_defaults(token_limit=3000)
        llm = RagCompressLLM("clara", checkpoint=clara_folder, device="cpu", max_new_tokens=N_TOKENS)
        engine = ContextChatEngine.from_defaults(make_retriever(), llm=llm, memory=memory)
        assert str(engine.chat(QUERY)) == published(tiny("clara"), 5)

    @pytest.mark.parametrize("use_async", [False, True])
    def test_fusion_keeps_ids(self, make_retriever, use_async):
        both = [make_retriever(where={"group": 0}), make_retriever(where={"group": 1})]
        fusion = QueryFusionRetriever(
            both, llm=MockLLM(), num_queries=1, similarity_top_k=10, mode="relative_score", use_async=use_async
        )
        found = fusion.retrieve(QUERY)
        assert set(ids(found)) == {name for retriever in both for name in ids(retriever.retrieve(QUERY))}
        if use_async:
            asyncio.set_event_loop(None)

    def test_another_process_reads_from_the_index(self, make_retriever, clara_folder, corpus):
        """The reader's store is empty: it finds the vectors in the index of the same folder."""
        retriever = make_retriever(store="memory://seen-by-the-retriever-alone")
        llm = RagCompressLLM("clara", checkpoint=clara_folder, device="cpu", store=corpus, max_new_tokens=N_TOKENS)
        engine = RetrieverQueryEngine.from_args(retriever, llm=llm)
        assert str(engine.query(QUERY)) == published(tiny("clara"), 5)
        # One address may serve all of it.
        same = RetrieverQueryEngine.from_args(make_retriever(store=corpus), llm=llm)
        assert str(same.query(QUERY)) == published(tiny("clara"), 5)

    def test_in_a_new_process(self, make_retriever, clara_folder, corpus, tmp_path):
        (tmp_path / "retriever.pickle").write_bytes(pickle.dumps(make_retriever()))
        prompt = "\n\n".join(item.get_content(MetadataMode.LLM) for item in make_retriever().retrieve(QUERY))
        program = f"""
            import json, pickle
            from llama_index.postprocessor.ragcompress import RagCompressLLM
            retriever = pickle.load(open({str(tmp_path / "retriever.pickle")!r}, "rb"))
            found = retriever.retrieve({QUERY!r})
            llm = RagCompressLLM("clara", checkpoint={clara_folder!r}, device="cpu", store={corpus!r}, max_new_tokens=4)
            answer = llm.complete({prompt!r}, prompt_mode="verbatim")
            print(json.dumps([[[item.node_id, item.score] for item in found], answer.raw["n_prompt_slots"]]))
        """
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
        command = [sys.executable, "-c", textwrap.dedent(program)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        found, n_slots = json.loads(done.stdout.splitlines()[-1])
        here = make_retriever().retrieve(QUERY)
        assert [name for name, _ in found] == ids(here)
        assert [score for _, score in found] == pytest.approx([item.score for item in here], abs=1e-5)
        assert n_slots > sum(rc.read_note(item.metadata)["n_slots"] for item in here)


class TestContract:
    def test_kind(self, make_retriever):
        assert isinstance(make_retriever(), BaseRetriever)

    def test_nothing_is_loaded_early(self, make_retriever, monkeypatch, tmp_path):
        monkeypatch.setattr("ragcompress.adapter.load", lambda *args, **kwargs: pytest.fail("loaded"))
        retriever = make_retriever(index=tmp_path / "nowhere")
        pickle.loads(pickle.dumps(retriever))
        assert not (tmp_path / "nowhere").exists()

    def test_the_event_loop_goes_on(self, make_retriever, monkeypatch):
        from ragcompress import Searcher

        search, add = Searcher.search, Searcher.add
        monkeypatch.setattr(Searcher, "search", lambda *args: time.sleep(0.3) or search(*args))
        monkeypatch.setattr(Searcher, "add", lambda *args: time.sleep(0.3) or add(*args))

        async def run(work):
            ticks = 0
            task = asyncio.create_task(work)
            while not task.done():
                await asyncio.sleep(0.02)
                ticks += 1
            return ticks, await task

        ticks, found = asyncio.run(run(make_retriever().aretrieve(QUERY)))
        assert (ticks > 5, ids(found)) == (True, ids(make_retriever().retrieve(QUERY)))
        assert asyncio.run(run(make_retriever().aadd_nodes(nodes(2))))[0] > 5

    def test_threads(self, make_retriever):
        retriever = make_retriever()
        expected = ids(retriever.retrieve(QUERY))
        fresh = make_retriever()
        barrier = threading.Barrier(4)

        def work(_):
            barrier.wait()
            return ids(fresh.retrieve(QUERY))

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(4))) == [expected] * 4

    def test_callbacks_and_events(self, make_retriever, recorder):
        handler = LlamaDebugHandler(print_trace_on_end=False)
        retriever = make_retriever(callback_manager=CallbackManager([handler]))
        found = retriever.retrieve(QUERY)
        (pair,) = handler.get_event_pairs()
        assert [item.node_id for item in pair[1].payload["nodes"]] == ids(found)
        assert [ids(event.nodes) for event in recorder.events if isinstance(event, RetrievalEndEvent)] == [ids(found)]

    def test_pickles_hold_the_configuration(self, make_retriever):
        retriever = make_retriever(
            where={"group": 1}, similarity_top_k=3, keep_original=True, callback_manager=CallbackManager([])
        )
        retriever.similarity_top_k = 2
        expected = retriever.retrieve(QUERY)
        written = pickle.dumps(retriever)
        assert len(written) < 10_000
        back = pickle.loads(written)
        assert back.similarity_top_k == 2
        assert [item.score for item in back.retrieve(QUERY)] == [item.score for item in expected]
        assert texts(back.retrieve(QUERY))[1:] == texts(expected)[1:]

    def test_pickles_of_objects(self, clara, tmp_path, make_retriever):
        index = rc.open_index(clara, tmp_path / "index", create=True)
        retriever = make_retriever(compressor=clara, index=index)
        retriever.add_nodes(nodes(3))
        for back in (pickle.loads(pickle.dumps(retriever)), copy.copy(retriever), copy.deepcopy(retriever)):
            assert ids(back.retrieve(QUERY)) == ids(retriever.retrieve(QUERY))

    def test_nothing_is_dropped_in_silence(self, make_retriever):
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(make_retriever(object_map={"x": threading.Lock()}))

    def test_the_warning_points_here(self, clara_folder, corpus):
        for source in ({"index": corpus}, {"retriever": Given([])}):
            with warnings.catch_warnings(record=True) as found:
                warnings.simplefilter("always")
                RagCompressRetriever("clara", checkpoint=clara_folder, device="cpu", **source)
            (warning,) = found
            assert (warning.category, warning.filename) == (rc.HandleWarning, __file__)


class TestRerank:
    def test_twenty_to_five(self, make_retriever, recorder):
        given = nodes(20)
        before = [each.model_dump() for each in given]
        found = make_retriever(retriever=Given(given)).retrieve(QUERY)
        expected = by_cosine(tiny("clara"), given)[:5]
        assert ids(found) == [name for name, _ in expected]
        assert [item.score for item in found] == pytest.approx([score for _, score in expected], abs=1e-4)
        assert {type(item.score) for item in found} == {float}
        assert [each.model_dump() for each in given] == before
        (event,) = [event for event in recorder.events if isinstance(event, CompressionEndEvent)]
        assert event.node_ids == ids(found)
        assert found[0].node.relationships == given[int(found[0].node_id.split("-")[1])].relationships

    def test_answers(self, make_retriever, clara_folder):
        llm = RagCompressLLM("clara", checkpoint=clara_folder, device="cpu", max_new_tokens=N_TOKENS)
        engine = RetrieverQueryEngine.from_args(make_retriever(retriever=Given(nodes(20)), similarity_top_k=3), llm=llm)
        assert str(engine.query(QUERY)) == published(tiny("clara"), 3, nodes(20))

    async def test_async_is_the_same(self, make_retriever):
        retriever = make_retriever(retriever=Given(nodes(20)))
        assert [item.model_dump(exclude={"node"}) for item in await retriever.aretrieve(QUERY)] == [
            item.model_dump(exclude={"node"}) for item in retriever.retrieve(QUERY)
        ]

    def test_of_a_retriever_over_an_index(self, make_retriever):
        inner = make_retriever(similarity_top_k=20)
        # What it finds are handles already; they go through as they are.
        assert len(make_retriever(retriever=inner).retrieve(QUERY)) == 20

    def test_few_and_none(self, make_retriever):
        assert len(make_retriever(retriever=Given(nodes(2))).retrieve(QUERY)) == 2
        assert make_retriever(retriever=Given([])).retrieve(QUERY) == []

    def test_pictures_pass(self, make_retriever):
        picture = ImageNode(id_="picture", image_url="http://example.org/a.png")
        found = make_retriever(retriever=Given([picture, *nodes(6)]), similarity_top_k=2).retrieve(QUERY)
        assert len(found) == 3
        assert "picture" in ids(found)

    def test_the_question_as_llama_index_hands_it_on(self, make_retriever):
        bundle = QueryBundle(f"{QUERY}\n", custom_embedding_strs=["x"])
        retriever = make_retriever(retriever=Given(nodes(20)))
        assert ids(retriever.retrieve(bundle)) == ids(retriever.retrieve(QUERY))
        assert bundle == QueryBundle(f"{QUERY}\n", custom_embedding_strs=["x"])

    def test_pickling(self, make_retriever):
        retriever = make_retriever(retriever=Given(nodes(20)), similarity_top_k=2)
        assert ids(pickle.loads(pickle.dumps(retriever)).retrieve(QUERY)) == ids(retriever.retrieve(QUERY))

    @pytest.mark.parametrize("name", ["pisco", "oscar"])
    def test_backends_that_do_not_rank(self, tiny_latent, make_retriever, name):
        compressor = tiny_latent[name]
        retriever = make_retriever(compressor=compressor, retriever=Given(nodes(6)))
        assert retriever.similarity_top_k is None
        items = [NodeWithScore(node=each, score=1 - index / 10) for index, each in enumerate(nodes(6))]
        plain = RagCompressPostprocessor(compressor=compressor, handles="expected", replace_score=True)
        expected = plain.postprocess_nodes(items, query_str=QUERY)
        assert [item.model_dump() for item in retriever.retrieve(QUERY)] == [item.model_dump() for item in expected]

    def test_texts(self, make_retriever):
        retriever = make_retriever(compressor=KeepMatching(), retriever=Given(nodes(6)))
        (found, *_) = retriever.retrieve("keeper rowed miles oil")
        assert found.text == "Its keeper rowed 0 miles to buy oil."
        assert found.score == 1.0
        assert RagCompressRetriever("recomp-extractive", retriever=Given([]), top_k=3).similarity_top_k is None


class TestErrors:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"index": None}, "neither index nor retriever came; expected one of them"),
            ({"index": "corpus", "retriever": Given([])}, "both index and retriever came; expected one of them"),
            ({"retriever": KeepMatching()}, "retriever must be a LlamaIndex BaseRetriever, got KeepMatching"),
            ({"index": 3}, "index must be an address or a MemoryIndex, got int"),
            ({"index": "redis://x"}, "redis"),
            ({"similarity_top_k": 0}, "similarity_top_k must be a whole number and at least 1, got 0"),
            ({"top_k": 3}, "top_k=3 came; a retriever's name for it is similarity_top_k"),
            ({"retriever": Given([]), "top_k": 3}, "a retriever's name for it is similarity_top_k"),
            ({"retriever": Given([]), "where": {"a": 1}}, "where and filters belong to an index"),
            ({"lenght": 3}, "unknown option 'lenght'"),
            ({"backend": "klara"}, "unknown backend 'klara'"),
            ({"backend": "recomp-extractive"}, "it cannot find any. These find documents by themselves: clara"),
            ({"backend": "recomp-extractive", "retriever": Given([]), "similarity_top_k": 3}, "does not rank nodes"),
        ],
    )
    def test_settings(self, make_retriever, settings, message):
        with pytest.raises(rc.OptionError, match=message):
            make_retriever(**settings)

    def test_a_number_for_a_backend_that_does_not_rank(self, make_retriever):
        retriever = make_retriever(compressor=KeepMatching(), retriever=Given([]))
        with pytest.raises(rc.OptionError, match="'keep-matching' does not rank nodes"):
            retriever.similarity_top_k = 3

    def test_no_index_yet(self, make_retriever, empty):
        retriever = make_retriever(index=empty)
        with pytest.raises(rc.InputError, match=r"there is no index at .*ragcompress index SOURCE --backend clara"):
            retriever.retrieve(QUERY)
        # Once there is one, the same retriever finds it.
        make_retriever(index=empty).add_nodes(nodes(1))
        assert ids(retriever.retrieve(QUERY)) == ["node-0"]

    def test_an_empty_index(self, make_retriever, empty):
        make_retriever(index=empty).add_nodes([])
        assert make_retriever(index=empty).retrieve(QUERY) == []

    def test_an_index_of_another_checkpoint(self, make_retriever, tmp_path):
        rc.MemoryIndex(tmp_path / "index", space="clara@another").add({})
        with pytest.raises(rc.SpaceMismatchError, match="clara@another"):
            make_retriever(index=tmp_path / "index").retrieve(QUERY)
        with pytest.raises(rc.SpaceMismatchError, match="clara@another"):
            make_retriever(index=tmp_path / "index").add_nodes(nodes(1))
        with pytest.raises(rc.SpaceMismatchError, match="clara@another"):
            make_retriever(index=rc.MemoryIndex(tmp_path / "index", space="clara@another")).retrieve(QUERY)

    @pytest.mark.parametrize("query", ["", " \n"])
    def test_an_empty_question(self, make_retriever, query):
        for retriever in (make_retriever(), make_retriever(retriever=Given(nodes(3)))):
            with pytest.raises(rc.InputError, match="query is empty"):
                retriever.retrieve(query)

    def test_a_checkpoint_that_cannot_search(self, clara, corpus, make_retriever):
        instruct = copy.copy(clara)
        instruct.model = copy.copy(clara.model)
        object.__setattr__(instruct.model, "query_encoder", None)
        for source in ({"index": corpus}, {"retriever": Given(nodes(3))}):
            with pytest.raises(rc.OptionError, match="needs a query reasoner"):
                make_retriever(compressor=instruct, **source).retrieve(QUERY)

    def test_no_index_to_add_to(self, make_retriever):
        with pytest.raises(rc.OptionError, match="has no index that nodes could be added to"):
            make_retriever(retriever=Given([])).add_nodes(nodes(1))

    def test_importing_loads_no_torch(self):
        program = "import sys, llama_index.postprocessor.ragcompress.retriever; assert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", program], check=True)

    def test_folders_by_path(self, make_retriever, corpus):
        assert len(make_retriever(index=Path(corpus.removeprefix("lancedb://"))).retrieve(QUERY)) == 5
