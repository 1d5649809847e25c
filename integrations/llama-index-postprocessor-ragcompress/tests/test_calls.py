"""Failures, time limits, async, and what the instrumentation is told."""

import asyncio
import time

import pytest
from llama_index.core.bridge.pydantic import Field
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.postprocessor.ragcompress import (
    CompressionEndEvent,
    CompressionStartEvent,
    RagCompressPostprocessor,
    RagCompressTransform,
)
from llama_index_fakes import Failing, KeepMatching, Slow

import ragcompress as rc

QUERY = "bridge"


def nodes():
    return [NodeWithScore(node=TextNode(text="A bridge. Tea.", id_=name), score=0.5) for name in ("a", "b")]


async def call(postprocessor, how, items, query=QUERY):
    if how == "async":
        return await postprocessor.apostprocess_nodes(items, query_str=query)
    return postprocessor.postprocess_nodes(items, query_str=query)


BOTH_WAYS = pytest.mark.parametrize("how", ["sync", "async"])


class TestFailures:
    @BOTH_WAYS
    async def test_raise(self, how):
        with pytest.raises(rc.CheckpointError, match="the weights are gone"):
            await call(RagCompressPostprocessor(compressor=Failing()), how, nodes())

    @BOTH_WAYS
    async def test_pass_through(self, how):
        given = nodes()
        with pytest.warns(rc.PassThroughWarning, match="the weights are gone"):
            out = await call(RagCompressPostprocessor(compressor=Failing(), on_error="pass_through"), how, given)
        assert [(item.node_id, item.text, item.score) for item in out] == [(n.node_id, n.text, n.score) for n in given]
        assert all(new.node is not old.node for new, old in zip(out, given, strict=True))
        for item in out:
            assert rc.read_note(item.metadata)["skipped"] == "CheckpointError: the weights are gone."
            assert item.node.excluded_llm_metadata_keys == [rc.NOTE_KEY]

    @BOTH_WAYS
    async def test_loading_counts_too(self, how):
        postprocessor = RagCompressPostprocessor(checkpoint="/nowhere/at/all", on_error="pass_through")
        with pytest.warns(rc.PassThroughWarning, match="CheckpointError"):
            out = await call(postprocessor, how, nodes())
        assert len(out) == 2

    @BOTH_WAYS
    async def test_timeout(self, how):
        with pytest.raises(rc.CompressionTimeoutError, match=r"timeout=0\.05"):
            await call(RagCompressPostprocessor(compressor=Slow(0.4), timeout=0.05), how, nodes())
        patient = RagCompressPostprocessor(compressor=Slow(0.05), timeout=5)
        assert [item.text for item in await call(patient, how, nodes())] == ["A bridge."] * 2

    @BOTH_WAYS
    async def test_timeout_passes_through(self, how):
        postprocessor = RagCompressPostprocessor(compressor=Slow(0.4), timeout=0.05, on_error="pass_through")
        begin = time.perf_counter()
        with pytest.warns(rc.PassThroughWarning, match="timeout"):
            out = await call(postprocessor, how, nodes())
        assert time.perf_counter() - begin < 0.35
        assert [item.text for item in out] == ["A bridge. Tea."] * 2
        assert "Timeout" in rc.read_note(out[0].metadata)["skipped"]


class TestAsync:
    async def ticks_during(self, work):
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        result = await work
        ticking.cancel()
        return ticks, result

    async def test_same_as_sync(self):
        postprocessor = RagCompressPostprocessor(compressor=KeepMatching())
        given = nodes()
        assert await postprocessor.apostprocess_nodes(given, query_str=QUERY) == postprocessor.postprocess_nodes(
            given, query_str=QUERY
        )

    async def test_the_loop_goes_on(self):
        postprocessor = RagCompressPostprocessor(compressor=Slow(0.3))
        ticks, out = await self.ticks_during(postprocessor.apostprocess_nodes(nodes(), query_str=QUERY))
        assert ticks > 5
        assert len(out) == 2

    async def test_the_loop_goes_on_at_ingestion(self, monkeypatch):
        transform = RagCompressTransform(store="memory://x")
        monkeypatch.setattr(transform._adapter, "remember", lambda documents: time.sleep(0.3) or len(documents))
        given = [item.node for item in nodes()]
        ticks, out = await self.ticks_during(transform.acall(given))
        assert ticks > 5
        assert out is given

    async def test_several_at_once(self):
        postprocessor = RagCompressPostprocessor(compressor=Slow(0.1))
        outs = await asyncio.gather(*(postprocessor.apostprocess_nodes(nodes(), query_str=QUERY) for _ in range(6)))
        assert all([item.text for item in out] == ["A bridge."] * 2 for out in outs)


class Recorder(BaseEventHandler):
    events: list = Field(default_factory=list)

    def handle(self, event, **kwargs):
        self.events.append(event)


@pytest.fixture
def recorded():
    """Everything that reaches the root dispatcher."""
    root = get_dispatcher()
    events, spans = Recorder(), SimpleSpanHandler()
    root.add_event_handler(events)
    root.add_span_handler(spans)
    yield events.events, spans.completed_spans
    root.event_handlers.remove(events)
    root.span_handlers.remove(spans)


class TestInstrumentation:
    @BOTH_WAYS
    async def test_events(self, how, recorded):
        events, spans = recorded
        await call(RagCompressPostprocessor(compressor=KeepMatching()), how, [*nodes(), *nodes()[:1]], "tea")
        start, end = events
        assert (type(start), type(end)) == (CompressionStartEvent, CompressionEndEvent)
        assert (start.backend, start.query, start.node_ids) == ("keep-matching", "tea", ["a", "b", "a"])
        assert (end.backend, end.node_ids, end.skipped) == ("keep-matching", ["a", "b", "a"], None)
        assert (end.n_tokens, end.n_slots, end.counter) == (9, 3, "words")
        (span,) = spans
        assert start.span_id == end.span_id == span.id_
        assert start.model_dump()["class_name"] == "CompressionStartEvent"
        assert end.model_dump()["class_name"] == "CompressionEndEvent"
        end.model_dump_json()

    @BOTH_WAYS
    async def test_reason_for_passing_through(self, how, recorded):
        events, _ = recorded
        await call(RagCompressPostprocessor(compressor=KeepMatching()), how, nodes(), None)
        start, end = events
        assert start.query is None
        assert (end.skipped, end.n_tokens, end.n_slots, end.node_ids) == ("no query", None, None, ["a", "b"])

    @pytest.mark.parametrize(("how", "method"), [("sync", "_postprocess_nodes"), ("async", "_apostprocess_nodes")])
    async def test_spans(self, how, method, recorded):
        _, spans = recorded
        await call(RagCompressPostprocessor(compressor=KeepMatching()), how, nodes())
        (span,) = spans
        assert span.id_.startswith(f"RagCompressPostprocessor.{method}-")

    async def test_spans_of_the_transform(self, recorded):
        _, spans = recorded
        transform = RagCompressTransform(store="memory://x")
        transform([])
        await transform.acall([])
        assert [span.id_.split("-")[0] for span in spans] == [
            "RagCompressTransform.__call__",
            "RagCompressTransform.acall",
        ]
