"""Cold: a whole ``compress`` without a store, over bare ``SentenceTransformer.encode`` of exactly the same texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from measures import common, metrics, timing

if TYPE_CHECKING:
    from ragcompress.backends.recomp_extractive.model import Encoded, SentenceEncoder


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        questions: how many of it.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the bootstrap.
    """

    dataset: str
    questions: int = 60
    rounds: int = 5
    threads: int | None = None
    seed: int = 0


class Recorder:
    """An encoder that remembers which texts it was asked for."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        """Wrap an encoder.

        Args:
            encoder: does the work.
        """
        self.encoder = encoder
        self.fingerprint = encoder.fingerprint
        self.normalize = encoder.normalize
        self.counter = encoder.counter
        self.texts: list[str] = []

    def encode(self, texts: Sequence[str], *, query: bool = False) -> Encoded:
        """Note the texts and pass them on.

        Args:
            texts: (n_texts,).
            query: whether they are queries.

        Returns:
            The vectors.
        """
        self.texts += texts
        return self.encoder.encode(texts, query=query)


def texts_encoded(encoder: SentenceEncoder, question: common.Question, *, titles: bool = True) -> list[str]:
    """List the texts that the compressor encodes for a question: title + sentence each, and the query.

    Args:
        encoder: any.
        question: with its passages.
        titles: whether the documents carry their titles.

    Returns:
        In the order in which they are encoded.
    """
    from ragcompress.backends.recomp_extractive import RecompExtractive

    recorder = Recorder(encoder)
    RecompExtractive(recorder).compress(question.text, question.documents(titles=titles))
    return recorder.texts


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.
    """
    from ragcompress.backends.recomp_extractive import RecompExtractive

    threads = common.set_threads(options.threads)
    questions = common.read_questions(options.dataset, options.questions)
    encoder, bare = common.load_encoder(), common.load_sentence_transformer()
    ours, wrapped = RecompExtractive(encoder), RecompExtractive(bare)
    texts = {question: texts_encoded(encoder, question) for question in questions}

    def compress(compressor: RecompExtractive) -> Callable[[common.Question], Callable[[], object]]:
        def prepare(question: common.Question) -> Callable[[], object]:
            documents = question.documents()
            return lambda: compressor.compress(question.text, documents)

        return prepare

    seconds = timing.take_turns(
        {
            "ragcompress": compress(ours),
            "bare": lambda question: lambda: bare.encode(texts[question], show_progress_bar=False),
            "ragcompress_sentence_transformer": compress(wrapped),
        },
        questions,
        rounds=options.rounds,
    )
    ratios = {
        name: metrics.speed_ratio(seconds[name], seconds["bare"], seed=options.seed)
        for name in ("ragcompress", "ragcompress_sentence_transformer")
    }
    return {
        "threads": threads,
        "questions": len(questions),
        "texts_per_question": metrics.mean([len(each) for each in texts.values()]),
        "batch_tokens": encoder.batch_tokens,
        "milliseconds": {name: timing.milliseconds(each) for name, each in seconds.items()},
        "over_bare": ratios,
        "targets": [
            common.target("cold query, over bare SentenceTransformer.encode", ratios["ragcompress"]["value"], 1.15, "x")  # type: ignore[arg-type]
        ],
    }
