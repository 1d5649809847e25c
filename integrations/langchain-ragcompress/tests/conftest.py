"""Small compressors that need no weights, and a handler that writes down what a trace would show."""

import os
import re
import threading
import time
import warnings
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.documents import Document

import ragcompress as rc

os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")


class Keywords(rc.Compressor):
    """Keeps the sentences that share a word with the query; the score is how many."""

    name = "keywords"

    def __init__(self, best_first: bool = False) -> None:
        self.best_first = best_first
        self.seen: list[tuple[rc.Document, ...]] = []
        self.threads: set[int] = set()

    def compress_batch(self, queries, documents):
        self.threads.add(threading.get_ident())
        return [self.context(*each) for each in zip(queries, rc.check_inputs(queries, documents), strict=True)]

    def context(self, query, documents):
        self.seen.append(documents)
        words = set(re.findall(r"\w+", query.lower()))
        segments = []
        for index, document in enumerate(documents):
            for match in re.finditer(r"[^.\s][^.]*\.", document.text):
                score = len(words & set(re.findall(r"\w+", match[0].lower())))
                if score:
                    source = rc.Source(index, *match.span())
                    segments.append(rc.TextSegment(match[0], (source,), float(score), len(match[0].split())))
        if self.best_first:
            segments.sort(key=lambda segment: -segment.score)
        lengths = tuple(len(document.text.split()) for document in documents)
        return rc.CompressedContext(
            query,
            documents,
            tuple(segments),
            sum(lengths),
            sum(segment.n_slots for segment in segments),
            counter="spaces",
            document_tokens=lengths,
        )


class Merging(Keywords):
    """Writes one text from all documents, as abstractive backends do."""

    name = "merging"

    def context(self, query, documents):
        sources = tuple(rc.Source(index) for index in range(len(documents)))
        return rc.CompressedContext(
            query, documents, (rc.TextSegment("all in one", sources, None, 3),), 9, 3, counter="spaces"
        )


class Failing(Keywords):
    name = "failing"

    def context(self, query, documents):
        raise RuntimeError("out of memory")


class Slow(Keywords):
    name = "slow"

    def context(self, query, documents):
        time.sleep(0.4)
        return super().context(query, documents)


class Recorder(BaseCallbackHandler):
    """Runs by name, with their parents, metadata, outputs and custom events."""

    def __init__(self) -> None:
        self.runs: dict[Any, dict[str, Any]] = {}

    def on_chain_start(self, serialized, inputs, *, run_id, parent_run_id=None, metadata=None, **kwargs):
        self.runs[run_id] = {
            "name": kwargs.get("name"),
            "parent": parent_run_id,
            "metadata": metadata,
            "inputs": inputs,
            "events": [],
        }

    def on_retriever_start(self, serialized, query, *, run_id, parent_run_id=None, metadata=None, **kwargs):
        self.on_chain_start(serialized, query, run_id=run_id, parent_run_id=parent_run_id, metadata=metadata, **kwargs)

    def on_chain_end(self, outputs, *, run_id, **kwargs):
        self.runs[run_id]["outputs"] = outputs

    def on_retriever_end(self, documents, *, run_id, **kwargs):
        self.runs[run_id]["outputs"] = documents

    def on_chain_error(self, error, *, run_id, **kwargs):
        self.runs[run_id]["error"] = error

    def on_retriever_error(self, error, *, run_id, **kwargs):
        self.runs[run_id]["error"] = error

    def on_custom_event(self, name, data, *, run_id, **kwargs):
        self.runs[run_id]["events"].append((name, data))

    def named(self, name):
        return [run for run in self.runs.values() if run["name"] == name]

    def only(self, name="ragcompress"):
        (run,) = self.named(name)
        return run

    def parent_name(self, run):
        return self.runs[run["parent"]]["name"]


class AsyncRecorder(AsyncCallbackHandler):
    """The same as an asynchronous handler."""

    def __init__(self) -> None:
        self.sync = Recorder()

    async def on_chain_start(self, *args, **kwargs):
        self.sync.on_chain_start(*args, **kwargs)

    async def on_chain_end(self, *args, **kwargs):
        self.sync.on_chain_end(*args, **kwargs)

    async def on_retriever_start(self, *args, **kwargs):
        self.sync.on_retriever_start(*args, **kwargs)

    async def on_retriever_end(self, *args, **kwargs):
        self.sync.on_retriever_end(*args, **kwargs)

    async def on_custom_event(self, *args, **kwargs):
        self.sync.on_custom_event(*args, **kwargs)


class Fakes:
    """The classes above, for tests (which import nothing from each other)."""

    Keywords, Merging, Failing, Slow = Keywords, Merging, Failing, Slow
    Recorder, AsyncRecorder = Recorder, AsyncRecorder


@pytest.fixture
def fakes() -> type[Fakes]:
    return Fakes


@pytest.fixture
def documents() -> list[Document]:
    return [
        Document("The bridge is long. Pigeons nest there.", id="a", metadata={"title": "Bridge", "nested": {"n": [1]}}),
        Document("   ", id="blank", metadata={"page": 2}),
        Document("Bread needs flour. Bakers rise early.", id="b"),
        Document("Tea is drunk on the bridge. Who built the bridge? Monks built the bridge.", id="c"),
    ]


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """Folders with small random models; equal arguments give the same folder."""
    torch = pytest.importorskip("torch")
    testing = pytest.importorskip("ragcompress.testing")
    made = {}
    # Threads inside of operators on models this small are nothing but waiting.
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def make(backend, number=0):
        if (backend, number) not in made:
            compressor = testing.tiny(backend)
            if number:  # the same vectors, another answer
                head = compressor.model.decoder.model.get_output_embeddings().weight
                with torch.no_grad():
                    head.copy_(head.roll(number, dims=0))
            made[backend, number] = tmp_path_factory.mktemp("checkpoints") / f"{backend}-{number}"
            compressor.save_pretrained(made[backend, number])
        return made[backend, number]

    yield make
    torch.set_num_threads(n_threads)


@pytest.fixture
def latent(tiny_checkpoint):
    """A compressor and a chat model from the same configuration."""
    from langchain_ragcompress import ChatRagCompress, RagCompressor

    def make(backend, *, options=None, **chat):
        where = {"checkpoint": str(tiny_checkpoint(backend)), "options": {"device": "cpu", **(options or {})}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rc.HandleWarning)
            return RagCompressor(backend, **where), ChatRagCompress(backend, **where, **{"max_tokens": 12} | chat)

    return make
