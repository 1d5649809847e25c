"""Quality: how much of the supporting sentences survives, and what share of the text is kept for it.

Vectors are computed once for each text and shared by every variant, which changes no result. Beside ours stand
LlamaIndex's ``SentenceEmbeddingOptimizer`` cut so that it keeps as many tokens as our default does, random sentences
and the first sentences, as many as our default keeps.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from measures import common, metrics

if TYPE_CHECKING:
    from ragcompress import CompressedContext
    from ragcompress.backends.recomp_extractive import RecompExtractive
    from ragcompress.backends.recomp_extractive.model import Encoded, SentenceEncoder

RANDOM_DRAWS = 10
TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        questions: how many of it; None: all.
        top_k: numbers of sentences.
        variants: name -> options of the compressor; ``"splitter": "gold"`` takes the dataset's own sentences. The
            one called ``default`` is what the baselines are matched to.
        optimizers: name -> ``mode`` (``"percentile"`` or ``"threshold"``) and ``context`` (sentences on either side);
            cut to keep as many tokens as our default does.
        as_it_is: name -> ``percentile`` and ``context`` of an optimizer without our repair; our default is cut to keep
            as many tokens as it does.
        threads: of torch; None: its own choice.
        seed: of the bootstrap and the random sentences.
    """

    dataset: str
    questions: int | None = None
    top_k: tuple[int, ...] = (2, 4, 6, 8)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"default": {}})
    optimizers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    as_it_is: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    threads: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One question under one variant.

    Attributes:
        kept: recall, precision and the share of characters.
        tokens: share of tokens, of the text as it goes into the prompt (titles included in both).
        sentence_tokens: tokens of the kept sentences alone.
        sentences: how many were kept.
    """

    kept: metrics.Kept
    tokens: float
    sentence_tokens: float
    sentences: float


class CachingEncoder:
    """An encoder that encodes each text once."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        """Wrap an encoder.

        Args:
            encoder: does the work.
        """
        self.encoder = encoder
        self.fingerprint = encoder.fingerprint
        self.normalize = encoder.normalize
        self.counter = encoder.counter
        self._known: dict[str, tuple[Any, bool]] = {}

    def encode(self, texts: Sequence[str], *, query: bool = False) -> Encoded:
        """Encode what is new.

        Args:
            texts: (n_texts,).
            query: makes no difference to this encoder.

        Returns:
            The vectors.
        """
        import torch

        from ragcompress.backends.recomp_extractive.model import Encoded

        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            encoded = self.encoder.encode(new)
            self._known |= {text: (vector, cut) for text, vector, cut in zip(new, *encoded, strict=True)}
        if not texts:
            return self.encoder.encode([])
        vectors, truncated = zip(*(self._known[text] for text in texts), strict=True)
        return Encoded(torch.stack(vectors), list(truncated))


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results; there are no targets, only numbers to compare.
    """
    from ragcompress import InMemoryStore
    from ragcompress.backends.recomp_extractive import RecompExtractive

    threads = common.set_threads(options.threads)
    questions = common.read_questions(options.dataset, options.questions)
    encoder = CachingEncoder(common.load_encoder())
    gold = {passage.text: list(passage.sentences) for question in questions for passage in question.passages}
    splitters: dict[str, Callable[[str], list[tuple[int, int]]]] = {"gold": gold.__getitem__}
    base = RecompExtractive(encoder, store=InMemoryStore(max_bytes=None))
    rows: dict[str, dict[int, list[Row]]] = {}
    for name, given in options.variants.items():
        changed = {key: splitters.get(value, value) if key == "splitter" else value for key, value in given.items()}
        rows[name] = {
            k: [_ours(base.with_options(top_k=k, **changed), question) for question in questions]
            for k in options.top_k
        }  # fmt: skip
    default = base.with_options(top_k=1)
    random_source = random.Random(options.seed)
    rows["random sentences"] = {
        k: [_random(default, question, k, random_source) for question in questions] for k in options.top_k
    }
    rows["first sentences"] = {
        k: [_picked(default, question, list(range(k))) for question in questions] for k in options.top_k
    }
    notes: dict[str, Any] = {}
    for name, how in options.optimizers.items():
        optimizer = Optimizer(encoder, questions, how["mode"], how["context"])
        rows[name], notes[name] = {}, {"least_sentence_tokens_unrepaired": optimizer.least_unrepaired()}
        for k in options.top_k:
            wanted = metrics.mean([row.sentence_tokens for row in rows["default"][k]])
            rows[name][k], notes[name][str(k)] = optimizer.match(wanted)
    as_it_is = {}
    for name, how in options.as_it_is.items():
        theirs = Optimizer(encoder, questions, "percentile", how["context"]).keep(how["percentile"], repaired=False)
        ours, top_k = _matched(base, questions, metrics.mean([row.sentence_tokens for row in theirs]))
        as_it_is[name] = {
            "optimizer": _summary(theirs, ours, options.seed),
            "ragcompress": _summary(ours, ours, options.seed),
            "top_k": top_k,
        }
    return {
        "threads": threads,
        "questions": len(questions),
        "passages_per_question": metrics.mean([len(question.passages) for question in questions]),
        "sentences_per_question": metrics.mean(
            [sum(len(passage.sentences) for passage in question.passages) for question in questions]
        ),
        "variants": {
            name: {str(k): _summary(each, rows["default"][k], options.seed) for k, each in by_k.items()}
            for name, by_k in rows.items()
        },
        "optimizers": notes,
        "as_it_is": as_it_is,
        "targets": [],
    }


def _summary(rows: Sequence[Row], default: Sequence[Row], seed: int) -> dict[str, Any]:
    recall = [row.kept.recall for row in rows]
    precision = [row.kept.precision for row in rows]
    difference = [ours - row.kept.recall for ours, row in zip((row.kept.recall for row in default), rows, strict=True)]
    return {
        "recall": metrics.mean(recall),
        "recall_interval": metrics.interval(recall, seed=seed),
        "precision": metrics.mean(precision),
        "precision_interval": metrics.interval(precision, seed=seed),
        "all_gold": metrics.mean([row.kept.all_gold for row in rows]),
        "tokens": metrics.mean([row.tokens for row in rows]),
        "characters": metrics.mean([row.kept.characters for row in rows]),
        "sentences": metrics.mean([row.sentences for row in rows]),
        "sentence_tokens": metrics.mean([row.sentence_tokens for row in rows]),
        "default_recall_minus_this": metrics.mean(difference),
        "default_recall_minus_this_interval": metrics.interval(difference, seed=seed),
    }


def _judge(question: common.Question, spans: Sequence[Sequence[metrics.Span]]) -> metrics.Kept:
    return metrics.judge(
        [passage.gold for passage in question.passages], spans, [len(passage.text) for passage in question.passages]
    )


def _ours(compressor: RecompExtractive, question: common.Question) -> Row:
    return _row(question, compressor.compress(question.text, question.documents()))


def _matched(
    base: RecompExtractive, questions: Sequence[common.Question], wanted: float
) -> tuple[list[Row], list[int]]:
    """Our default with the two numbers of sentences around a wanted number of tokens, mixed."""

    def rows_at(k: int) -> list[Row]:
        compressor = base.with_options(top_k=k)
        return [_ours(compressor, question) for question in questions]

    def tokens_of(rows: Sequence[Row]) -> float:
        return metrics.mean([row.sentence_tokens for row in rows])

    below, above = 1, 256
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (middle, above) if tokens_of(rows_at(middle)) < wanted else (below, middle)
    low, high = rows_at(below), rows_at(above)
    spread = tokens_of(high) - tokens_of(low)
    weight = min(1.0, max(0.0, (wanted - tokens_of(low)) / spread)) if spread else 0.0
    return [mixture(pair, [1 - weight, weight]) for pair in zip(low, high, strict=True)], [below, above]


def _row(question: common.Question, context: CompressedContext) -> Row:
    spans: list[list[metrics.Span]] = [[] for _ in question.passages]
    for segment in context.segments:
        for source in segment.sources:
            assert source.start is not None
            assert source.end is not None
            spans[source.document].append((source.start, source.end))
    return Row(
        kept=_judge(question, spans),
        tokens=context.n_slots / context.n_tokens,
        sentence_tokens=sum(segment.n_slots for segment in context.segments),
        sentences=len(context.segments),
    )


def _picked(compressor: RecompExtractive, question: common.Question, picked: Sequence[int]) -> Row:
    """Keep the sentences of these numbers, counted through all passages, whatever their scores are."""
    chosen = _Chosen(compressor, picked)
    return _row(question, chosen.compress(question))


class _Chosen:
    """Our compressor with the scores replaced, so that splitting, layout and counting are the same."""

    def __init__(self, compressor: RecompExtractive, picked: Sequence[int]) -> None:
        # Dot products are the scores that can be replaced as a whole.
        self.compressor = compressor.with_options(top_k=len(picked), scorer="dense", hops=1)
        self.picked = picked

    def compress(self, question: common.Question) -> CompressedContext:
        self.compressor.score = self._score  # type: ignore[method-assign]  # of this copy alone
        return self.compressor.compress(question.text, question.documents())

    def _score(self, query: Any, memories: Sequence[Any]) -> list[float]:  # noqa: ANN401
        chosen = set(self.picked)
        return [float(index in chosen) for index in range(sum(len(memory.vectors) for memory in memories))]


def _random(compressor: RecompExtractive, question: common.Question, k: int, source: random.Random) -> Row:
    """The mean over several draws."""
    n_sents = sum(len(memory.vectors) for memory in compressor.remember(question.documents()).values())
    draws = [_picked(compressor, question, source.sample(range(n_sents), min(k, n_sents))) for _ in range(RANDOM_DRAWS)]
    return mixture(draws, [1 / len(draws)] * len(draws))


def mixture(rows: Sequence[Row], weights: Sequence[float]) -> Row:
    """Average the numbers of one question.

    Args:
        rows: (n,).
        weights: (n,), adding up to one.

    Returns:
        The weighted mean.
    """

    def over(values: Sequence[float]) -> float:
        return sum(value * weight for value, weight in zip(values, weights, strict=True))

    return Row(
        kept=metrics.Kept(
            recall=over([row.kept.recall for row in rows]),
            precision=over([row.kept.precision for row in rows]),
            all_gold=over([row.kept.all_gold for row in rows]),
            characters=over([row.kept.characters for row in rows]),
        ),
        tokens=over([row.tokens for row in rows]),
        sentence_tokens=over([row.sentence_tokens for row in rows]),
        sentences=over([row.sentences for row in rows]),
    )


class Optimizer:
    """LlamaIndex's class itself, node by node, with the same vectors, cut to a wanted number of tokens.

    Two repairs, without which it cannot keep so few tokens at all: a node of which it should keep less than one
    sentence is left out (as it is, it keeps such a node whole), and so is one without a sentence above the threshold
    (as it is, it raises ValueError).
    """

    def __init__(
        self, encoder: CachingEncoder, questions: Sequence[common.Question], mode: str, context: int
    ) -> None:  # fmt: skip
        """Prepare.

        Args:
            encoder: gives the vectors.
            questions: all of them.
            mode: ``"percentile"`` or ``"threshold"``.
            context: sentences kept on either side of each one; the class's default is 1.

        Raises:
            MissingError: llama-index-core is not installed.
        """
        try:
            from llama_index.core.embeddings import BaseEmbedding
            from llama_index.core.utils import globals_helper
        except ModuleNotFoundError as error:
            raise common.MissingError("llama-index-core is not installed.") from error

        class Cached(BaseEmbedding):
            """The shared vectors behind LlamaIndex's interface."""

            def _get_text_embeddings(self, texts: list[str]) -> Any:  # noqa: ANN401
                return encoder.encode(texts).vectors.numpy()

            def _get_text_embedding(self, text: str) -> Any:  # noqa: ANN401
                return self._get_text_embeddings([text])[0]

            def _get_query_embedding(self, query: str) -> Any:  # noqa: ANN401
                return self._get_text_embedding(query)

            async def _aget_query_embedding(self, query: str) -> Any:  # noqa: ANN401
                return self._get_query_embedding(query)

        self._encoder = encoder
        self._embedding = Cached()
        self._questions = questions
        self._mode = mode
        self._context = context
        self._split = globals_helper.punkt_tokenizer.tokenize
        self._sentences = {
            passage.text: self._split(passage.text) for question in questions for passage in question.passages
        }
        encoder.encode([sentence for each in self._sentences.values() for sentence in each])
        texts = [text for question in questions for text in self._prompt_texts(question)]
        self._all_tokens = dict(zip(texts, encoder.counter.count_many(texts), strict=True))
        self._seen: dict[float, list[Row]] = {}

    def match(self, wanted: float) -> tuple[list[Row], dict[str, Any]]:
        """Find the cut that keeps a wanted number of tokens.

        A percentile moves in steps, the smallest of which may be larger than the tolerance; then the questions are a
        mixture of the two nearest cuts, with the weights that give the wanted number.

        Args:
            wanted: mean tokens of the kept sentences, over the questions.

        Returns:
            The rows, and what was found.
        """
        cuts = self._cuts()
        below, above = 0, len(cuts) - 1  # ascending in what is kept
        while above - below > 1:
            middle = (below + above) // 2
            tokens = self._tokens(cuts[middle])
            if self._mode == "threshold" and abs(tokens / wanted - 1) < TOLERANCE / 10:
                below = above = middle
                break
            below, above = (middle, above) if tokens < wanted else (below, middle)
        low, high = self._tokens(cuts[below]), self._tokens(cuts[above])
        weight = 0.0 if high == low else min(1.0, max(0.0, (wanted - low) / (high - low)))
        rows = [
            mixture(pair, [1 - weight, weight])
            for pair in zip(self.keep(cuts[below]), self.keep(cuts[above]), strict=True)
        ]
        tokens = metrics.mean([row.sentence_tokens for row in rows])
        return rows, {
            "cut": [cuts[below], cuts[above]],
            "share_of_second": weight,
            "sentence_tokens": tokens,
            "wanted": wanted,
            "matched": abs(tokens / wanted - 1) <= TOLERANCE,
        }

    def least_unrepaired(self) -> float | None:
        """The fewest tokens that a percentile can keep without our repair, by trying each.

        Returns:
            Mean tokens of the kept sentences; None for thresholds.
        """
        if self._mode != "percentile":
            return None
        counts = sorted({len(each) for each in self._sentences.values()})
        cuts = [1 / count for count in counts]
        return min(metrics.mean([row.sentence_tokens for row in self.keep(cut, repaired=False)]) for cut in cuts)

    def _cuts(self) -> list[float]:
        if self._mode == "threshold":
            return [1 - step / 2048 for step in range(2049)]
        most = max(len(each) for each in self._sentences.values())
        # Just above the fraction: 3 * (1 / 3) must not round down to zero sentences.
        return [0.0, *sorted({part / count + 1e-9 for count in range(1, most + 1) for part in range(1, count + 1)})]

    def _tokens(self, cut: float) -> float:
        return metrics.mean([row.sentence_tokens for row in self.keep(cut)])

    def keep(self, cut: float, *, repaired: bool = True) -> list[Row]:
        """Run the class over all questions.

        Args:
            cut: percentile or threshold.
            repaired: whether nodes without a sentence to keep are left out.

        Returns:
            (n_questions,).
        """
        from llama_index.core.postprocessor import SentenceEmbeddingOptimizer

        if repaired and cut in self._seen:
            return self._seen[cut]
        optimizer = SentenceEmbeddingOptimizer(
            embed_model=self._embedding, tokenizer_fn=self._sentences.__getitem__,
            context_before=self._context, context_after=self._context, **{f"{self._mode}_cutoff": cut},
        )  # fmt: skip
        rows = [self._question(optimizer, question, cut, repaired=repaired) for question in self._questions]
        if repaired:
            self._seen[cut] = rows
        return rows

    def _question(self, optimizer: Any, question: common.Question, cut: float, *, repaired: bool) -> Row:  # noqa: ANN401
        from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

        query = QueryBundle(question.text, embedding=list(self._embedding.get_query_embedding(question.text)))
        texts = []
        for passage in question.passages:
            sentences = self._sentences[passage.text]
            if repaired and self._mode == "percentile" and int(len(sentences) * cut) == 0:
                texts.append("")
                continue
            nodes = [NodeWithScore(node=TextNode(text=passage.text))]
            try:
                optimizer.postprocess_nodes(nodes, query_bundle=query)
            except ValueError:  # "Optimizer returned zero sentences."
                texts.append("")
                continue
            texts.append(nodes[0].node.get_content())
        spans = [
            kept_spans(passage.text, self._sentences[passage.text], text)
            for passage, text in zip(question.passages, texts, strict=True)
        ]
        tokens = sum(self._encoder.counter.count_many(texts))
        titles = sum(
            self._all_tokens[passage.title] for passage, text in zip(question.passages, texts, strict=True) if text
        )
        return Row(
            kept=_judge(question, spans),
            tokens=(tokens + titles) / sum(self._all_tokens[text] for text in self._prompt_texts(question)),
            sentence_tokens=tokens,
            sentences=sum(map(len, spans)),
        )

    def _prompt_texts(self, question: common.Question) -> list[str]:
        """Texts and titles: the whole input; a title is written in front of what is kept of its passage, as ours."""
        return [text for passage in question.passages for text in (passage.text, passage.title)]


def kept_spans(text: str, sentences: Sequence[str], result: str) -> list[metrics.Span]:
    """Find out which sentences are in a result that says nothing about where they came from.

    >>> kept_spans("One here. Two there.", ["One here.", "Two there."], "Two there.")
    [(10, 20)]

    Args:
        text: of the passage.
        sentences: of it, in order.
        result: some of them, in any order.

    Returns:
        Spans of the text.
    """
    spans = []
    place = 0
    for sentence in sentences:
        start = text.index(sentence, place)
        place = start + len(sentence)
        if sentence in result:
            spans.append((start, place))
    return spans
