"""RECOMP abstractive: whole calls against transformers' bare ``generate`` on the same batches, and kinds of cache.

No T5 comes with a pip package, so the weights are random; the shape is that of a published T5, and what is timed does
not depend on what is written. The tokenizer is MiniLM's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from measures import common, metrics, timing

if TYPE_CHECKING:
    from ragcompress.backends.recomp_abstractive.model import Summarizer

# d_model, d_kv, d_ff, layers, heads
SHAPES = {"t5-small": (512, 64, 2048, 6, 8), "t5-base": (768, 64, 3072, 12, 12)}


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        shape: of the model, one of ``SHAPES``.
        questions: how many.
        per_batch: questions in one call.
        passages: of each question that are read.
        summary_tokens: that are written for each; the model never ends by itself.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the weights and the bootstrap.
    """

    dataset: str
    shape: str = "t5-small"
    questions: int = 24
    per_batch: int = 8
    passages: int = 5
    summary_tokens: int = 32
    rounds: int = 5
    threads: int | None = None
    seed: int = 0


def run(options: Options) -> dict[str, Any]:
    """Measure.

    Args:
        options: of the experiment.

    Returns:
        Results with ``targets``.

    Raises:
        MissingError: data or the tokenizer's package is not there.
    """
    import torch

    from ragcompress.backends.recomp_abstractive import RecompAbstractive, RecompAbstractiveConfig

    threads = common.set_threads(options.threads)
    summarizer = _summarizer(options)
    compressor = RecompAbstractive(summarizer, RecompAbstractiveConfig(max_summary_tokens=options.summary_tokens))
    questions = common.read_questions(options.dataset, options.questions)
    calls = []
    for start in range(0, len(questions), options.per_batch):
        some = questions[start : start + options.per_batch]
        texts = [one.documents()[: options.passages] for one in some]
        rows = [compressor._builder.build(one.text, each)[0].ids for one, each in zip(some, texts, strict=True)]
        calls.append(([one.text for one in some], texts, rows))

    def bare(**arguments: Any) -> Callable[[Any], Callable[[], object]]:
        from ragcompress.nn.batching import length_buckets, pad

        def prepare(call: Any) -> Callable[[], object]:  # noqa: ANN401 (as above)
            rows = call[2]
            batches = [
                pad([rows[place] for place in batch], summarizer._pad_id, "cpu")
                for batch in length_buckets([len(row) for row in rows], summarizer.batch_tokens)
            ]

            def generate() -> list[Any]:
                with torch.no_grad():
                    return [
                        summarizer.model.generate(  # type: ignore[operator]  # transformers' mixin
                            input_ids=ids, attention_mask=mask, num_beams=1, do_sample=False,
                            max_length=options.summary_tokens, **arguments,
                        )
                        for ids, mask in batches
                    ]  # fmt: skip

            return generate

        return prepare

    contestants: dict[str, Callable[[Any], Callable[[], object]]] = {
        "bare generate": bare(),
        "bare generate, static cache": bare(cache_implementation="static"),
        "compress_batch": lambda call: lambda: compressor.compress_batch(call[0], call[1]),
    }
    _same_ids(summarizer, bare()(calls[0])(), calls[0][2], options)
    seconds = timing.take_turns(contestants, calls, rounds=options.rounds)
    over = {
        label: metrics.speed_ratio(seconds[label], seconds["bare generate"], seed=options.seed)
        for label in list(contestants)[1:]
    }
    return {
        "threads": threads,
        "questions": len(questions),
        "source_tokens": metrics.mean([float(len(row)) for call in calls for row in call[2]]),
        "parameters": sum(parameter.numel() for parameter in summarizer.model.parameters()),
        "milliseconds": {label: timing.milliseconds(each) for label, each in seconds.items()},
        "over_bare_generate": over,
        "targets": [
            common.target(
                f"recomp-abstractive, whole calls over bare generate ({options.shape}'s shape)",
                over["compress_batch"]["value"],
                1.10,
                "x",
            )
        ],
    }


def _summarizer(options: Options) -> Summarizer:
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    from ragcompress.backends.recomp_abstractive.model import Summarizer
    from ragcompress.nn.linear import use_onednn

    tokenizer = AutoTokenizer.from_pretrained(common.model_folder())
    width, head_width, inner, layers, heads = SHAPES[options.shape]
    torch.manual_seed(options.seed)
    config = T5Config(
        vocab_size=32128, d_model=width, d_kv=head_width, d_ff=inner, num_layers=layers, num_heads=heads,
        pad_token_id=0, eos_token_id=32127,
    )  # fmt: skip
    config.decoder_start_token_id = 0
    model = T5ForConditionalGeneration(config)
    use_onednn(model)
    return Summarizer(model, tokenizer, name=options.shape)


def _same_ids(summarizer: Summarizer, generated: list[Any], rows: list[list[int]], options: Options) -> None:
    """The comparison is one only if both write the same."""
    from ragcompress.nn.batching import length_buckets

    written = summarizer.write(rows, [options.summary_tokens - 1] * len(rows))
    for batch, ids in zip(length_buckets([len(row) for row in rows], summarizer.batch_tokens), generated, strict=True):
        for place, row in zip(batch, ids.tolist(), strict=True):
            assert row[1:] == written[place].ids, "generate and ours write different ids"
