"""What is measured: one module a benchmark, each with ``Options`` (a frozen dataclass) and ``run(options)``."""

from importlib import import_module
from types import ModuleType

NAMES = (
    "cold", "peers", "warm", "memory", "startup", "quality", "batching", "store", "latent_encoding",
    "latent_answering", "latent_overhead", "latent_threads", "latent_quantised",
    "clara_retrieval", "index_search", "indexing", "pipelines", "scorers", "scorer_speed", "abstractive", "provence",
)  # fmt: skip


def find(name: str) -> ModuleType:
    """Import one benchmark.

    Args:
        name: one of ``NAMES``.

    Returns:
        Its module.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in NAMES:
        raise ValueError(f"no benchmark is called {name!r}; known: {', '.join(NAMES)}.")
    return import_module(f"measures.{name}")
