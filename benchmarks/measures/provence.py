"""Provence: a whole ``compress`` over the model's bare forward pass on exactly the same batches.

No Provence comes with a pip package, so the weights are random; the shape is that of a published DeBERTa-v3, and what
is timed does not depend on what is kept. The tokenizer is MiniLM's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from measures import common, metrics, timing

if TYPE_CHECKING:
    from torch import Tensor

    from ragcompress import CompressedContext
    from ragcompress.backends.provence import Provence

# width, layers, heads, width between
SHAPES = {"xsmall": (384, 12, 6, 1536), "small": (768, 6, 12, 3072), "base": (768, 12, 12, 3072)}


@dataclass(frozen=True, slots=True)
class Options:
    """What varies between experiments.

    Attributes:
        dataset: name of the data file without ``.jsonl``.
        shape: of the model, one of ``SHAPES``.
        questions: how many, each with all of its passages.
        batch_tokens: padded size of a batch; None: the library's choice.
        rounds: repetitions of everything.
        threads: of torch; None: its own choice.
        seed: of the weights and the bootstrap.
    """

    dataset: str
    shape: str = "small"
    questions: int = 12
    batch_tokens: int | None = None
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

    threads = common.set_threads(options.threads)
    questions = common.read_questions(options.dataset, options.questions)
    compressor = _compressor(options)
    batches: dict[common.Question, list[tuple[Tensor, Tensor]]] = {}
    contexts: list[CompressedContext] = []
    for question in questions:
        own = batches.setdefault(question, [])
        hook = compressor.model.register_forward_pre_hook(lambda module, given, own=own: own.append(given))
        contexts.append(compressor.compress(question.text, question.documents()))
        hook.remove()

    def whole(question: common.Question) -> Callable[[], object]:
        documents = question.documents()
        return lambda: compressor.compress(question.text, documents)

    def bare(question: common.Question) -> Callable[[], object]:
        def forward() -> None:
            with torch.no_grad():
                for ids, mask in batches[question]:
                    compressor.model(ids, mask)

        return forward

    seconds = timing.take_turns({"ragcompress": whole, "bare": bare}, questions, rounds=options.rounds)
    ratio = metrics.speed_ratio(seconds["ragcompress"], seconds["bare"], seed=options.seed)
    shapes = [tuple(ids.shape) for own in batches.values() for ids, _ in own]
    tokens = sum(int(mask.sum()) for own in batches.values() for _, mask in own)
    return {
        "threads": threads,
        "parameters": sum(weight.numel() for weight in compressor.model.parameters()),
        "batch_tokens": compressor.batch_tokens,
        "questions": len(questions),
        "passages_per_question": metrics.mean([float(len(question.passages)) for question in questions]),
        "windows_per_question": sum(rows for rows, _ in shapes) / len(questions),
        "padding": 1 - tokens / sum(rows * length for rows, length in shapes),
        "share_of_tokens_kept": metrics.mean([context.n_slots / context.n_tokens for context in contexts]),
        "milliseconds": {name: timing.milliseconds(each) for name, each in seconds.items()},
        "over_bare": ratio,
        "targets": [
            common.target(
                "Provence, whole compress over the bare forward on the same batches", ratio["value"], 1.1, "x"
            )  # type: ignore[arg-type]
        ],
    }


def _compressor(options: Options) -> Provence:
    """A random DeBERTa-v3 with both heads, on the CPU; about half of the sentences are kept."""
    import torch
    from transformers import AutoTokenizer

    from ragcompress.backends.provence import Provence, ProvenceConfig
    from ragcompress.backends.provence.model import build_config, build_model
    from ragcompress.nn.linear import use_onednn

    width, n_layers, n_heads, between = SHAPES[options.shape]
    tokenizer = AutoTokenizer.from_pretrained(common.model_folder())
    config = build_config(
        "deberta-v2",
        {
            "vocab_size": len(tokenizer),
            "hidden_size": width,
            "num_hidden_layers": n_layers,
            "num_attention_heads": n_heads,
            "intermediate_size": between,
            "relative_attention": True,
            "position_buckets": 256,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pooler_hidden_size": width,
        },
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = build_model(config, n_outputs=1, layout="provence")
    use_onednn(model)
    return Provence(
        model,
        tokenizer,
        ProvenceConfig(threshold=0.5, rounding="probability-mean"),
        batch_tokens=options.batch_tokens,
    )
