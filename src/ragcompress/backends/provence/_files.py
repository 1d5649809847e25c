"""Reading a checkpoint's tokenizer and tensors: the files as they are, never code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.checkpoints import contents, read_json, require
from ragcompress.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

WEIGHTS = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
_SPECIAL_TOKENS = ("cls_token", "sep_token", "pad_token", "unk_token", "mask_token", "bos_token", "eos_token")
# A tokenizer without a limit of its own reports a huge number.
_NO_LIMIT = 1_000_000


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Read ``tokenizer.json`` exactly as it was published.

    ``AutoTokenizer`` builds the pipeline of some families anew, with another normaliser than the file has.

    Args:
        folder: of a checkpoint.

    Returns:
        A fast tokenizer.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    from transformers import PreTrainedTokenizerFast

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise CheckpointError(
            f"{folder} has no tokenizer.json; provence needs a fast tokenizer, which knows the place of every token.",
            hint=f"AutoTokenizer.from_pretrained(...).save_pretrained(folder) writes one. {contents(folder)}",
        )
    declared: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            declared |= read_json(folder / name)
    special = {name: declared[name] for name in _SPECIAL_TOKENS if declared.get(name)}
    special = {name: token["content"] if isinstance(token, Mapping) else token for name, token in special.items()}
    limit = declared.get("model_max_length")
    if isinstance(limit, (int, float)) and 0 < limit < _NO_LIMIT:
        special["model_max_length"] = int(limit)
    try:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path), **special)  # type: ignore[no-untyped-call]  # transformers leaves it without types
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise CheckpointError(f"{path} cannot be read: {str(error) or type(error).__name__}.") from error
    tokenizer.name_or_path = str(folder)
    return tokenizer


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a folder, from safetensors if there are any; pickles without code.

    Args:
        folder: of a checkpoint.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        CheckpointError: there are none, or a file is missing or damaged.
    """
    first = require(folder, WEIGHTS, "weights")
    paths = [first]
    if first.suffix == ".json":
        listed = read_json(first)
        if not isinstance(listed, Mapping) or not isinstance(listed.get("weight_map"), Mapping):
            raise CheckpointError(f"{first} does not say which file holds which weight.")
        # Only names inside of the folder: an index must not point anywhere else.
        paths = [folder / Path(str(name)).name for name in sorted(set(listed["weight_map"].values()))]
    weights: dict[str, Tensor] = {}
    for path in paths:
        weights |= _read_file(path, _safetensors if path.suffix == ".safetensors" else _pickle)
    return weights


def _read_file(path: Path, read: Callable[[Path], Any]) -> dict[str, Tensor]:
    import torch

    try:
        found = read(path)
    except Exception as error:  # torch, pickle, zipfile and safetensors each have their own
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise CheckpointError(f"{path} cannot be read as tensors: {reason[:200].rstrip('.')}.") from error
    if not isinstance(found, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise CheckpointError(f"{path} holds {type(found).__name__}; expected tensors by name.")
    return {str(name): tensor for name, tensor in found.items()}


def _safetensors(path: Path) -> Any:  # noqa: ANN401 (checked by the caller)
    from safetensors.torch import load_file

    return load_file(path)


def _pickle(path: Path) -> Any:  # noqa: ANN401 (checked by the caller)
    import torch

    return torch.load(path, map_location="cpu", weights_only=True)
