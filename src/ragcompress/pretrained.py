"""Models of transformers read from a folder: every weight from the file, none made up, none ignored."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.checkpoints import contents, no_loading_bar, read_json
from ragcompress.errors import CheckpointError, OptionError
from ragcompress.options import build_config

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

# What of a folder is read, and so what is downloaded. Anchored at the start, so that the same names in sub-folders
# (other formats, training checkpoints) stay where they are.
MODEL_FILES = ("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
# Pickled weights are fetched and read only where there are no others.
PICKLED_FILES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
TOKENIZERS = ("tokenizer.json", "vocab.txt", "*.model")
# Our own options, beside a model that we saved.
SETTINGS_FILE = "ragcompress.json"
_WEIGHT_PATTERNS = ("model*.safetensors", "pytorch_model*.bin")
_MOST_KEYS = 5


def is_complete(folder: Path) -> bool:
    """Whether a folder can be loaded: an earlier visit may have left a configuration without weights in the cache."""
    wanted = (("config.json",), WEIGHTS, TOKENIZERS)
    return all(any(any(folder.glob(pattern)) for pattern in patterns) for patterns in wanted)


def weight_files(folder: Path) -> tuple[str, ...]:
    """The pattern of the weight files that a folder is read from; for its fingerprint."""
    return next(((pattern,) for pattern in _WEIGHT_PATTERNS if any(folder.glob(pattern))), ())


def number_format(dtype: str | None) -> torch.dtype:
    """Turn the name of a number format into torch's.

    Args:
        dtype: e.g. ``"bfloat16"``; None: float32.

    Returns:
        The format.

    Raises:
        OptionError: torch has no such floating-point format.
    """
    import torch

    kind = getattr(torch, dtype or "float32", None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise OptionError(f"dtype must be 'float32', 'bfloat16' or 'float16', got {dtype!r}.")
    return kind


def read_config(folder: Path) -> PretrainedConfig:
    """Read the configuration of a model.

    Args:
        folder: of a checkpoint.

    Returns:
        The configuration.

    Raises:
        CheckpointError: transformers cannot read it.
    """
    from transformers import AutoConfig

    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever it met
        raise CheckpointError(_unreadable(folder, error), hint=contents(folder)) from error
    return config


def read_model(
    auto_class: Any,  # noqa: ANN401 (one of transformers' Auto classes, which share no type)
    folder: Path,
    *,
    dtype: str | None,
    unused_keys: re.Pattern[str] | None = None,
    optional_keys: re.Pattern[str] | None = None,
) -> Any:  # noqa: ANN401 (as above)
    """Read a model; random or ignored weights are an error.

    Args:
        auto_class: e.g. ``AutoModel``.
        folder: of a checkpoint.
        dtype: of the weights; None: float32.
        unused_keys: in the file but not in the model, and rightly so.
        optional_keys: in the model but not in every file, and not needed.

    Returns:
        The model.

    Raises:
        CheckpointError: files are missing or do not fit together; names the weights.
        OptionError: unknown dtype.
    """
    kind = number_format(dtype)
    try:
        with no_loading_bar(), _untied_as_declared(folder):
            model, report = auto_class.from_pretrained(
                folder,
                dtype=kind,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # reported below, by name
                trust_remote_code=False,
            )
    except Exception as error:  # transformers and safetensors raise whatever they met
        raise CheckpointError(_unreadable(folder, error), hint=contents(folder)) from error
    missing = sorted(key for key in report["missing_keys"] if not (optional_keys and optional_keys.search(key)))
    surplus = sorted(key for key in report["unexpected_keys"] if not (unused_keys and unused_keys.search(key)))
    wrong = sorted(str(entry[0] if isinstance(entry, (tuple, list)) else entry) for entry in report["mismatched_keys"])
    for keys, what in (
        (missing, "lack"),
        (surplus, "have, beyond what the model uses,"),
        (wrong, "have other shapes for"),
    ):
        if keys:
            more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
            raise CheckpointError(
                f"the weights in {folder} {what} {', '.join(keys[:_MOST_KEYS])}{more}.",
                hint=f"Is it a checkpoint of {type(model).__name__}, and complete?",
            )
    return model


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Read the tokenizer beside a model.

    Args:
        folder: of a checkpoint.

    Returns:
        The tokenizer, a fast one where there is one.

    Raises:
        CheckpointError: transformers cannot read it.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # transformers raises whatever it met
        raise CheckpointError(_unreadable(folder, error), hint=contents(folder)) from error
    return tokenizer


def read_settings(folder: Path, config_class: type, backend: str) -> dict[str, Any]:
    """Read the options that ``save_pretrained`` wrote.

    Args:
        folder: of a checkpoint.
        config_class: of the backend.
        backend: its name, for the error message.

    Returns:
        Options; empty if the folder has none.

    Raises:
        CheckpointError: the file holds something else.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        return {}
    try:
        options = read_json(path)["config"]
        build_config(config_class, options)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} does not hold options of {backend}: {error}.",
            hint="Was it written by a newer version? Without the file the defaults are used.",
        ) from error
    return dict(options)


@contextmanager
def _untied_as_declared(folder: Path) -> Iterator[None]:
    """Leave out the advice to declare embeddings as untied, where the configuration of the folder does so.

    T5 of transformers 5 plans to tie them in any case, finds that the file holds different ones, and unties them.
    """
    if read_json(folder / "config.json").get("tie_word_embeddings") is not False:
        yield
        return

    def other(record: logging.LogRecord) -> bool:
        return "tie_word_embeddings=False" not in record.getMessage()

    library = logging.getLogger("transformers.modeling_utils")
    library.addFilter(other)
    try:
        yield
    finally:
        library.removeFilter(other)


def _unreadable(folder: Path, error: Exception) -> str:
    return f"{folder} cannot be read: {str(error) or type(error).__name__}."
