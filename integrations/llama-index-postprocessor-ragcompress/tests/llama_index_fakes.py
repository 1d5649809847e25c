"""Small compressors and models for the tests; a module of its own, so that other processes can import it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.llm import LLMChatStartEvent
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.schema import NodeWithScore

import ragcompress as rc


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


class KeepMatching(rc.Compressor):
    """Keeps the sentences that share a word with the query; the share is the score."""

    name = "keep-matching"

    def __init__(self, best_first: bool = False) -> None:
        self.best_first = best_first
        self.calls: list[tuple[str, tuple[rc.Document, ...]]] = []

    def __repr__(self) -> str:
        return f"KeepMatching({self.best_first})"

    def compress_batch(self, queries, documents):
        return [self._one(*each) for each in zip(queries, rc.check_inputs(queries, documents), strict=True)]

    def _one(self, query: str, documents: tuple[rc.Document, ...]) -> rc.CompressedContext:
        self.calls.append((query, documents))
        segments = []
        for index, document in enumerate(documents):
            for match in re.finditer(r"[^.!?。]+[.!?。]?", document.text):
                text = match.group().strip()
                common = words(text) & words(query)
                if common:
                    start = document.text.index(text, match.start())
                    source = rc.Source(index, start, start + len(text))
                    score = len(common) / len(words(query))
                    segments.append(rc.TextSegment(text, (source,), score, len(text.split())))
        if self.best_first:
            segments.sort(key=lambda segment: -segment.score)
        return rc.CompressedContext(
            query=query,
            documents=documents,
            segments=tuple(segments),
            n_tokens=sum(len(document.text.split()) for document in documents),
            n_slots=sum(segment.n_slots for segment in segments),
            counter="words",
            document_tokens=tuple(len(document.text.split()) for document in documents),
        )


class Failing(rc.Compressor):
    name = "failing"

    def compress_batch(self, queries, documents):
        raise rc.CheckpointError("the weights are gone.")


class Slow(KeepMatching):
    """Blocks the thread that it runs in."""

    name = "slow"

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def compress_batch(self, queries, documents):
        time.sleep(self.seconds)
        return super().compress_batch(queries, documents)


class Rewriting(rc.Compressor):
    """Writes one text from all documents, as an abstractive compressor does."""

    name = "rewriting"
    info = rc.BackendInfo(needs_query=False)

    def compress_batch(self, queries, documents):
        contexts = []
        for query, each in zip(queries, rc.check_inputs(queries, documents, needs_query=False), strict=True):
            text = " / ".join(document.text.split()[0] for document in each)
            segment = rc.TextSegment(text, tuple(rc.Source(index) for index in range(len(each))), 0.75, 3)
            contexts.append(
                rc.CompressedContext(
                    query=query, documents=each, segments=(segment,), n_tokens=30, n_slots=3, counter="w"
                )
            )
        return contexts


class Unpicklable(KeepMatching):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Neutral(KeepMatching):
    """Keeps everything."""

    def _one(self, query, documents):
        context = super()._one(query, documents)
        segments = tuple(
            rc.TextSegment(document.text, (rc.Source(index, 0, len(document.text)),), 1.0, len(document.text.split()))
            for index, document in enumerate(documents)
        )
        return replace(context, segments=segments, n_slots=context.n_tokens)


class MiniLMEmbedding(BaseEmbedding):
    """The real MiniLM, as LlamaIndex asks for it."""

    _encoder: Any = PrivateAttr()

    def __init__(self, encoder: Any, **kwargs: Any) -> None:
        super().__init__(model_name="all-MiniLM-L6-v2", **kwargs)
        self._encoder = encoder

    def _encode(self, texts: Sequence[str]) -> list[list[float]]:
        vectors = self._encoder.encode(list(texts)).vectors
        return (vectors / vectors.norm(dim=1, keepdim=True)).tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._encode([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._encode(texts)

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._encode([query])[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)


class ScriptedLLM(CustomLLM):
    """Always says the same and keeps the prompts that it was asked with."""

    context_window: int = 4096
    _prompts: list[str] = PrivateAttr(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        return self._prompts

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.context_window, num_output=64, model_name="scripted")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        self._prompts.append(prompt)
        return CompletionResponse(text="scripted answer")

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        raise NotImplementedError


class Given(BaseRetriever):
    """Finds the same nodes whatever is asked, in the same order."""

    def __init__(self, nodes: Sequence[Any]) -> None:
        super().__init__()
        self.nodes = list(nodes)

    def _retrieve(self, query_bundle: Any) -> list[NodeWithScore]:
        return [NodeWithScore(node=node, score=1 - index / 10) for index, node in enumerate(self.nodes)]


class Recorder(BaseEventHandler):
    """Keeps the events that reach it."""

    events: list = Field(default_factory=list)

    @property
    def conversations(self) -> list[list[dict[str, str]]]:
        """What chat models were asked, as a reader of ragcompress takes it."""
        return [
            [{"role": message.role.value, "content": message.content or ""} for message in event.messages]
            for event in self.events
            if isinstance(event, LLMChatStartEvent)
        ]

    def handle(self, event: Any, **kwargs: Any) -> None:
        self.events.append(event)


class Scripted(rc.Reader):
    """Says a sentence, slowly if wanted, and keeps what it was asked."""

    space = "scripted"
    name = "scripted"
    window = 500

    def __init__(self, pieces: Sequence[str] = ("Well", ", ", "yes."), seconds: float = 0.0, fail_at: int = -1) -> None:
        self.pieces = list(pieces)
        self.seconds = seconds
        self.fail_at = fail_at
        self.requests: list[Any] = []
        self.options: list[dict[str, Any]] = []
        self.closed = threading.Event()

    def _asked(self, request: Any, options: dict[str, Any]) -> None:
        rc.GenerationOptions(**options)
        self.requests.append(request)
        self.options.append(options)

    def inputs(self, contexts):
        raise NotImplementedError

    def _whole(self) -> rc.Answer:
        return rc.Answer("".join(self.pieces), 7, len(self.pieces), prompt_mode="verbatim")

    def generate(self, requests, **options):
        for request in requests:
            self._asked(request, options)
        time.sleep(self.seconds * len(self.pieces))
        return [self._whole() for _ in requests]

    def stream(self, request, **options):
        self._asked(request, options)
        return self._stream()

    def _stream(self):
        try:
            for index, piece in enumerate(self.pieces):
                time.sleep(self.seconds)
                if index == self.fail_at:
                    raise rc.CheckpointError("the weights are gone.")
                yield piece
        finally:
            self.closed.set()
        return self._whole()

    def count(self, request):
        return 1 + len(request.split())
