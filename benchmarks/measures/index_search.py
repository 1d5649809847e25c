"""Index: recall of the two-stage search against the exact one, latency of both, and bytes on disk."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measures import common, latent_models, metrics, timing
from measures.synthetic import BLOCK, Synthetic

if TYPE_CHECKING:
    from torch import Tensor

    from ragcompress import Document, Memory
    from ragcompress.stores.index import MemoryIndex

SPACE = "benchmark@1"
EXACT, TWO_STAGES = "exact", "two stages"
# What an index compares in main memory, as float32; more is read from disk by an exact search.
_IN_MEMORY_BYTES = 512 * 1024**2
# Published checkpoints: slots of one chunk, width of the decoder, and whether an index keeps them, or a store.
PUBLISHED = (
    ("CLaRa, compression-16", 16, 4096, True),
    ("CLaRa, compression-128", 2, 4096, True),
    ("PISCO", 8, 4096, False),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``, for real passages and questions.
        corpora: numbers of synthetic documents, ascending; the index of one grows into that of the next.
        slots: vectors of a synthetic document.
        width: of each.
        likeness: see ``synthetic``.
        results: how many documents are looked for (k).
        candidates: chunks that are compared in full, for recall; the library's default is 300 at these k.
        questions: of which recall is taken.
        timed: of which times are taken, where the exact search runs in main memory.
        timed_from_disk: the same where it reads from disk.
        base: see ``latent_models.base_folder``.
        dtype: of its weights.
        encoded: real passages that are encoded.
        sizes: slots for which bytes on disk are measured.
        sized: documents for that.
        rounds: repetitions of what is timed.
        threads: of torch; None: its own choice.
        seed: of everything.
    """

    dataset: str
    corpora: tuple[int, ...] = (1000, 10_000, 100_000)
    slots: int = 2
    width: int = 4096
    likeness: float = 0.5
    results: tuple[int, ...] = (5, 10)
    candidates: tuple[int, ...] = (30, 100, 300)
    questions: int = 100
    timed: int = 20
    timed_from_disk: int = 2
    base: str = "smollm2"
    dtype: str = "bfloat16"
    encoded: int = 400
    sizes: tuple[int, ...] = (2, 8, 16)
    sized: int = 500
    rounds: int = 3
    threads: int | None = None
    seed: int = 0


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``, of which there are none.

    Raises:
        MissingError: data, the base model or lancedb is not there.
    """
    from ragcompress import MemoryIndex, MissingExtraError

    threads = common.set_threads(options.threads)
    passages = common.read_passages([options.dataset], max(options.encoded, options.sized))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            MemoryIndex(folder / "empty", space=SPACE)
        except MissingExtraError as error:
            raise common.MissingError(str(error)) from error
        real, memories = _real(folder / "real", passages, options)
        sizes = {
            f"{slots} x {options.width}, synthetic": _sizes(
                folder / str(slots), passages[: options.sized], _synthetic_memories(slots, options), slots
            )
            for slots in options.sizes
        }
        shape = f"{real['slots']} x {real['width']}, {options.base}"
        sizes[shape] = _sizes(folder / "small", passages[: len(memories)], memories, real["slots"])
        synthetic = _synthetic(folder / "synthetic", options)
    text_bytes = metrics.mean([float(_text_bytes(passage)) for passage in passages])
    return {
        "threads": threads,
        "model": real.pop("model"),
        "synthetic": synthetic,
        "real": real,
        "bytes_per_document": sizes,
        "costs": [
            {
                "name": name,
                "slots": slots,
                "width": width,
                "bytes": computed_bytes(slots, width, text_bytes if in_index else None),
            }
            for name, slots, width, in_index in PUBLISHED
        ],
        "targets": [],
    }


# Synthetic memories: three sizes of one index.


def _synthetic(folder: Path, options: Options) -> dict[str, Any]:
    from ragcompress import MemoryIndex

    source = Synthetic(options.slots, options.width, options.seed, options.likeness)
    questions = list(source.questions(options.questions))
    index = MemoryIndex(folder, space=SPACE)
    truth = Truth(questions, max(options.results))
    found: dict[str, Any] = {}
    added, seconds = 0, 0.0
    for n_documents in options.corpora:
        for part in _blocks(source, added, n_documents):
            truth.add(part)
            entries = _entries(part, added)
            begin = time.perf_counter()
            index.add(entries)
            seconds += time.perf_counter() - begin
            added += len(part)
        begin = time.perf_counter()
        index.compact(keep_seconds=0)
        compacting = time.perf_counter() - begin
        in_memory = n_documents * options.slots * options.width * 4 <= _IN_MEMORY_BYTES
        begin = time.perf_counter()
        if in_memory:
            index.search(questions[0], 1, exact=True)
        loading = time.perf_counter() - begin
        n_timed = options.timed if in_memory else options.timed_from_disk
        found[str(n_documents)] = {
            "exact_reads": "main memory" if in_memory else "disk",
            "seconds_to_read_into_memory": loading if in_memory else None,
            "milliseconds_to_add_one": 1000 * seconds / added,
            "seconds_to_compact": compacting,
            "bytes_per_document": index.n_bytes / added,
            "cosines": truth.cosines(),
            "source_found_by_exact": {
                str(k): _share([place in keys[:k] for place, keys in enumerate(truth.best())]) for k in options.results
            },
            **_searched(
                index,
                questions,
                [[_key(place) for place in row] for row in truth.best()],
                questions[:n_timed],
                # Reading everything from disk takes seconds, whatever k is.
                options.results if in_memory else options.results[-1:],
                options,
            ),
        }
    return found


def _blocks(source: Synthetic, begin: int, end: int) -> Iterator[Tensor]:
    """Documents ``begin`` to ``end``, at most a block at a time."""
    while begin < end:
        block, first = divmod(begin, BLOCK)
        part = source.documents(block)[first : first + end - begin]
        yield part
        begin += len(part)


def _entries(part: Tensor, first: int) -> dict[str, tuple[Document, Memory]]:
    from ragcompress import Document, Memory

    return {
        _key(first + place): (
            Document(f"document {first + place}"),
            Memory(vectors, 128, SPACE, ((0, 600),) * len(vectors)),
        )
        for place, vectors in enumerate(part)
    }


def _key(place: int) -> str:
    return f"{place:032x}"


class Truth:
    """The best documents of each question, computed apart from the library, over documents that come in blocks."""

    def __init__(self, questions: Sequence[Tensor], most: int) -> None:
        """Begin without documents.

        Args:
            questions: (n_questions,) tensors (slots, width).
            most: how many of the best are kept.
        """
        import torch

        self._questions = _unit(torch.stack(list(questions)))
        self._most = most
        self._scores = torch.zeros(len(questions), 0)
        self._places = torch.zeros(len(questions), 0, dtype=torch.int64)
        self._n_documents = 0
        self._sources: list[float] = []
        self._sum, self._squares = 0.0, 0.0

    def add(self, part: Tensor) -> None:
        """Compare documents with all questions.

        Args:
            part: (n_documents, slots, width).
        """
        import torch

        scores = self._questions @ _unit(part).T
        if not self._n_documents:
            self._sources = scores.diagonal().tolist()
        self._sum += float(scores.double().sum())
        self._squares += float(scores.double().square().sum())
        places = torch.arange(self._n_documents, self._n_documents + len(part)).expand(len(scores), -1)
        scores, places = torch.cat([self._scores, scores], 1), torch.cat([self._places, places], 1)
        best = scores.topk(min(self._most, scores.shape[1]), dim=1)
        self._scores, self._places = best.values, places.gather(1, best.indices)
        self._n_documents += len(part)

    def best(self) -> list[list[int]]:
        """Numbers of the best documents of each question, best first."""
        return self._places.tolist()

    def cosines(self) -> dict[str, float]:
        """How alike questions and documents are: what makes the task easy or hard."""
        n_pairs = len(self._questions) * self._n_documents
        mean = self._sum / n_pairs
        return {
            "of a question and its source": statistics.mean(self._sources),
            f"of a question and its {self._most}th best": float(self._scores[:, -1].mean()),
            "of any two": mean,
            "of any two, standard deviation": (self._squares / n_pairs - mean**2) ** 0.5,
        }


def _unit(memories: Tensor) -> Tensor:
    from torch.nn.functional import normalize

    # As published: in the memories' own format.
    return normalize(memories.flatten(1), dim=-1).float()


# What both kinds share.


def _searched(
    index: MemoryIndex,
    questions: Sequence[Tensor],
    truth: list[list[str]],
    timed: Sequence[Tensor],
    timed_results: Sequence[int],
    options: Options,
) -> dict[str, Any]:
    """Recall over all questions, times over some, which are the first ones."""
    results: dict[str, Any] = {"recall": {}, "milliseconds": {}, "two_stages_over_exact": {}}
    for n_candidates in options.candidates:
        most = max(options.results)
        found = [index.search(each, most, exact=False, n_candidates=n_candidates) for each in questions]
        keys = [[hit.key for hit in hits] for hits in found]
        results["recall"][str(n_candidates)] = {
            str(k): metrics.mean([len(set(own[:k]) & set(best[:k])) / k for own, best in zip(keys, truth, strict=True)])
            for k in options.results
        }
    agreed = []
    for question, best in zip(timed, truth, strict=False):
        own = [hit.key for hit in index.search(question, max(options.results), exact=True)]
        agreed.append(set(own) == set(best))
    results["exact_search_finds_what_we_computed"] = {"questions": len(agreed), "share": _share(agreed)}
    for k in timed_results:
        contestants: dict[str, Callable[[Tensor], Callable[[], object]]] = {
            EXACT: lambda question, k=k: lambda: index.search(question, k, exact=True),  # type: ignore[misc]
            TWO_STAGES: lambda question, k=k: lambda: index.search(question, k, exact=False),  # type: ignore[misc]
        }
        seconds = timing.take_turns(contestants, timed, rounds=options.rounds)
        results["milliseconds"][str(k)] = {label: timing.milliseconds(each) for label, each in seconds.items()}
        results["two_stages_over_exact"][str(k)] = metrics.speed_ratio(
            seconds[TWO_STAGES], seconds[EXACT], seed=options.seed
        )
    return results


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


# Real memories: the best there are without a trained checkpoint.


def _real(folder: Path, passages: Sequence[Document], options: Options) -> tuple[dict[str, Any], list[Memory]]:
    import torch

    from ragcompress import index, open_index
    from ragcompress.backends.clara import Clara

    clara = Clara(latent_models.clara_like(options.base, dtype=options.dtype, seed=options.seed))
    documents = list(passages[: options.encoded])
    found = open_index(clara, folder, create=True)
    begin = time.perf_counter()
    summary = index(clara, documents, found)
    seconds = time.perf_counter() - begin
    found.compact(keep_seconds=0)
    asked = [question.text for question in common.read_questions(options.dataset, options.questions)]
    questions = clara.encode_queries(asked)
    keys = [clara.memory_key(document) for document in documents]
    memories = [memory for memory in found.get(keys, space=found.space) if memory is not None]
    n_slots = len(clara.model.slot_tokens)
    chunks = torch.stack([chunk for memory in memories for chunk in memory.vectors.split(n_slots)])
    scores = _unit(torch.stack(questions)) @ _unit(chunks).T
    owners = [key for key, memory in zip(keys, memories, strict=True) for _ in range(len(memory.vectors) // n_slots)]
    ranked = scores.argsort(dim=1, descending=True).tolist()
    best = [list(dict.fromkeys(owners[chunk] for chunk in row))[: max(options.results)] for row in ranked]
    results = {
        "model": latent_models.describe(clara.model),
        "documents": len(documents),
        "chunks": len(chunks),
        "questions": len(questions),
        "slots": n_slots,
        "width": clara.model.decoder.width,
        "seconds_to_encode": seconds,
        "tokens_of_a_document": summary.n_tokens / summary.n_added,
        "cosines": {
            f"of a question and its {max(options.results)}th best": float(
                scores.topk(min(max(options.results), len(chunks))).values[:, -1].mean()
            ),
            "of any two": float(scores.mean()),
            "of any two, standard deviation": float(scores.std(dim=1).mean()),
        },
        **_searched(found, questions, best, questions[: options.timed], options.results, options),
    }
    return results, memories


# Bytes.


def computed_bytes(slots: int, width: int, text_bytes: float | None) -> dict[str, float]:
    """What a document of one chunk takes by arithmetic: nothing compressed, no overhead of the file format.

    Args:
        slots: vectors of its memory.
        width: of each.
        text_bytes: of its text and title; None: a store keeps it, which has neither text nor a short vector.

    Returns:
        By part: vectors in both formats, and what an index keeps besides them; of short vectors a second copy in their
        own index, from 50,000 documents on.
    """
    from ragcompress.stores.rows import BLOCK as CHANNELS
    from ragcompress.stores.shortening import SHORT_WIDTH

    short = 0 if text_bytes is None else 4 * SHORT_WIDTH
    return {
        "bfloat16": 2 * slots * width,
        "int8": slots * (width + 4 * -(-width // CHANNELS)),
        "short": short,
        "short, indexed": short,
        "text": text_bytes or 0.0,
    }


def _sizes(folder: Path, passages: Sequence[Document], memories: Sequence[Memory], slots: int) -> dict[str, Any]:
    """Bytes a document in an index of real passages, in both formats, beside the computed ones."""
    from ragcompress import MemoryIndex

    chunks = sum(len(memory.vectors) for memory in memories) / slots / len(memories)
    text_bytes = metrics.mean([float(_text_bytes(passage)) for passage in passages])
    parts = computed_bytes(slots, memories[0].vectors.shape[1], text_bytes)
    sizes: dict[str, Any] = {}
    for dtype in ("bfloat16", "int8"):
        index = MemoryIndex(folder / dtype, space=memories[0].space, dtype=dtype)
        entries = zip(passages, memories, strict=True)
        index.add({_key(place): entry for place, entry in enumerate(entries)})
        index.compact(keep_seconds=0)
        computed = chunks * (parts[dtype] + parts["short"]) + parts["text"]
        sizes[dtype] = {"measured": index.n_bytes / len(memories), "computed": computed}
    return sizes


def _synthetic_memories(slots: int, options: Options) -> list[Memory]:
    from ragcompress import Memory

    source = Synthetic(slots, options.width, options.seed)
    vectors = [each for part in _blocks(source, 0, options.sized) for each in part]
    return [Memory(each, 128, SPACE, ((0, 600),) * slots) for each in vectors]


def _text_bytes(document: Document) -> int:
    return len(f"{document.title or ''}{document.text}".encode("utf-8", "surrogatepass"))
