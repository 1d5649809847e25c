"""Peers: LlamaIndex ``SentenceEmbeddingOptimizer`` and LangChain ``EmbeddingsFilter`` with the same MiniLM.

Both get the same input as ours and keep the same number of sentences. The optimizer splits the retrieved passages
itself and embeds them node by node; the filter gets every sentence as a document of its own. Nobody has a store in
the cold numbers; the warm ones show what the store does for questions whose documents were seen before.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from measures import common, metrics, timing

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from llama_index.core.embeddings import BaseEmbedding

    from ragcompress.backends.recomp_extractive import RecompExtractive


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        questions: how many of it.
        percentile: of the sentences of a passage that ``SentenceEmbeddingOptimizer`` keeps.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the bootstrap.
    """

    dataset: str
    questions: int = 40
    percentile: float = 0.5
    rounds: int = 5
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Case:
    """One question for one peer.

    Attributes:
        query: the question.
        texts: what the peer gets: passages or sentences.
        keep: how many sentences the peer keeps of them.
    """

    query: str
    texts: tuple[str, ...]
    keep: int


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``; a peer that is not installed is left out and named under ``missing``.

    Raises:
        MissingError: no peer is installed.
    """
    missing = [
        name
        for name, modules in {
            "SentenceEmbeddingOptimizer": ("llama_index.core",),
            "EmbeddingsFilter": ("langchain_classic", "langchain_community"),
        }.items()
        if not all(_installed(module) for module in modules)
    ]
    if len(missing) == 2:
        raise common.MissingError(
            "neither llama-index-core nor langchain-classic with langchain-community is installed."
        )
    threads = common.set_threads(options.threads)
    results: dict[str, Any] = {"threads": threads, "missing": missing, "peers": {}, "targets": []}
    for name, measure in (("SentenceEmbeddingOptimizer", _optimizer), ("EmbeddingsFilter", _filter)):
        if name in missing:
            continue
        measured = measure(options)
        results["peers"][name] = measured
        value = measured["faster"]["ragcompress"]["value"]
        results["targets"].append(common.target(f"faster than {name}, cold", value, 1.5, "x", at_most=False))
    return results


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _optimizer(options: Options) -> dict[str, Any]:
    from llama_index.core.postprocessor import SentenceEmbeddingOptimizer
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
    from llama_index.core.utils import globals_helper

    split = globals_helper.punkt_tokenizer.tokenize
    cases = []
    for question in common.read_questions(options.dataset, options.questions):
        counts = {passage.text: len(split(passage.text)) for passage in question.passages}
        # With less than one sentence to keep, the optimizer keeps the whole node: no fair number of sentences.
        kept = {
            text: int(count * options.percentile) for text, count in counts.items() if count * options.percentile >= 1
        }
        cases.append(Case(question.text, tuple(kept), sum(kept.values())))
    optimizer = SentenceEmbeddingOptimizer(
        embed_model=llama_index_embedding(), percentile_cutoff=options.percentile, context_before=0, context_after=0
    )

    def nodes(case: Case) -> list[NodeWithScore]:
        return [NodeWithScore(node=TextNode(text=text), score=1.0) for text in case.texts]

    def peer(case: Case) -> Callable[[], object]:
        fresh = nodes(case)  # they are changed in place
        return lambda: optimizer.postprocess_nodes(fresh, query_bundle=QueryBundle(case.query))

    contestants = {"peer": peer, **_ours(cases)}
    if _installed("llama_index.postprocessor.ragcompress"):
        from llama_index.postprocessor.ragcompress import RagCompressPostprocessor

        adapters = {
            keep: RagCompressPostprocessor(compressor=compressor)
            for keep, compressor in _by_keep(cases, stored=False).items()
        }

        def adapter(case: Case) -> Callable[[], object]:
            fresh = nodes(case)
            return lambda: adapters[case.keep].postprocess_nodes(fresh, query_bundle=QueryBundle(case.query))

        contestants["ragcompress_plugin"] = adapter
    return _compare(contestants, cases, options)


def _filter(options: Options) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # langchain-community announces its end
        from langchain_classic.retrievers.document_compressors import EmbeddingsFilter
        from langchain_core.documents import Document

        embeddings = langchain_embeddings()
        cases = []
        for question in common.read_questions(options.dataset, options.questions):
            sentences = [passage.text[start:end] for passage in question.passages for start, end in passage.sentences]
            texts = tuple(text for text in dict.fromkeys(sentences) if text.strip())
            cases.append(Case(question.text, texts, max(1, int(len(texts) * options.percentile))))
        filters = {case.keep: EmbeddingsFilter(embeddings=embeddings, k=case.keep) for case in cases}

    def documents(case: Case) -> list[Document]:
        return [Document(page_content=text) for text in case.texts]

    def peer(case: Case) -> Callable[[], object]:
        fresh = documents(case)
        return lambda: filters[case.keep].compress_documents(fresh, case.query)

    contestants = {"peer": peer, **_ours(cases)}
    if _installed("langchain_ragcompress"):
        from langchain_ragcompress import RagCompressor

        adapters = {
            keep: RagCompressor(compressor=compressor) for keep, compressor in _by_keep(cases, stored=False).items()
        }

        def adapter(case: Case) -> Callable[[], object]:
            fresh = documents(case)
            return lambda: adapters[case.keep].compress_documents(fresh, case.query)

        contestants["ragcompress_plugin"] = adapter
    return _compare(contestants, cases, options)


def _by_keep(cases: Sequence[Case], *, stored: bool) -> dict[int, RecompExtractive]:
    """A compressor for each number of sentences, all with the same weights."""
    from ragcompress import InMemoryStore
    from ragcompress.backends.recomp_extractive import RecompExtractive

    compressor = RecompExtractive(common.load_encoder(), store=InMemoryStore() if stored else None)
    return {case.keep: compressor.with_options(top_k=case.keep) for case in cases}


def _ours(cases: Sequence[Case]) -> dict[str, Callable[[Case], Callable[[], object]]]:
    from ragcompress import Document

    cold, warm = _by_keep(cases, stored=False), _by_keep(cases, stored=True)
    for case in cases:
        warm[case.keep].remember([Document(text) for text in case.texts])

    def contestant(compressors: dict[int, RecompExtractive]) -> Callable[[Case], Callable[[], object]]:
        def prepare(case: Case) -> Callable[[], object]:
            documents = [Document(text) for text in case.texts]
            return lambda: compressors[case.keep].compress(case.query, documents)

        return prepare

    return {"ragcompress": contestant(cold), "ragcompress_warm": contestant(warm)}


def _compare(
    contestants: dict[str, Callable[[Case], Callable[[], Any]]], cases: Sequence[Case], options: Options
) -> dict[str, Any]:
    kept = [len(contestants["ragcompress"](case)().segments) for case in cases]
    seconds = timing.take_turns(contestants, cases, rounds=options.rounds)
    return {
        "questions": len(cases),
        "documents_per_question": metrics.mean([len(case.texts) for case in cases]),
        "kept_by_peer": metrics.mean([case.keep for case in cases]),
        "kept_by_ragcompress": metrics.mean(kept),
        "milliseconds": {name: timing.milliseconds(each) for name, each in seconds.items()},
        "faster": {
            name: metrics.speed_ratio(seconds["peer"], seconds[name], seed=options.seed)
            for name in contestants
            if name != "peer"
        },
    }


def llama_index_embedding() -> BaseEmbedding:
    """Wrap MiniLM for LlamaIndex; a node's sentences are embedded in one call.

    Returns:
        An embedding model.
    """
    from llama_index.core.embeddings import BaseEmbedding

    model = common.load_sentence_transformer()

    class MiniLM(BaseEmbedding):
        """``SentenceTransformer.encode`` behind LlamaIndex's interface."""

        def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
            return model.encode(texts, show_progress_bar=False).tolist()  # type: ignore[no-any-return]

        def _get_text_embedding(self, text: str) -> list[float]:
            return self._get_text_embeddings([text])[0]

        def _get_query_embedding(self, query: str) -> list[float]:
            return self._get_text_embeddings([query])[0]

        async def _aget_query_embedding(self, query: str) -> list[float]:
            return self._get_query_embedding(query)

    return MiniLM()


def langchain_embeddings() -> Embeddings:
    """Wrap MiniLM for LangChain.

    Returns:
        An embedding model.
    """
    from langchain_core.embeddings import Embeddings

    model = common.load_sentence_transformer()

    class MiniLM(Embeddings):
        """``SentenceTransformer.encode`` behind LangChain's interface."""

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            """Embed texts in one call."""
            return model.encode(texts, show_progress_bar=False).tolist()  # type: ignore[no-any-return]

        def embed_query(self, text: str) -> list[float]:
            """Embed one text."""
            return self.embed_documents([text])[0]

    return MiniLM()
