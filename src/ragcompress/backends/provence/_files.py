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
# As ``ProvenceConfig.max_length``.
_LEAST_LENGTH = 16


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
            found = read_json(folder / name)
            if not isinstance(found, Mapping):
                raise CheckpointError(f"{folder / name} holds {type(found).__name__}; expected fields by name.")
            declared |= found
    settings: dict[str, Any] = {
        name: _special_token(folder, name, declared[name]) for name in _SPECIAL_TOKENS if declared.get(name)
    }
    if declared.get("model_max_length") is not None:
        limit = check_length(folder / "tokenizer_config.json", "model_max_length", declared["model_max_length"])
        if limit < _NO_LIMIT:
            settings["model_max_length"] = limit
    try:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path), **settings)  # type: ignore[no-untyped-call]  # transformers leaves it without types
    except Exception as error:  # the tokenizers library raises bare exceptions
        raise CheckpointError(f"{path} cannot be read: {str(error) or type(error).__name__}.") from error
    tokenizer.name_or_path = str(folder)
    return tokenizer


def _special_token(folder: Path, name: str, token: object) -> str:
    content = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(content, str):
        raise CheckpointError(
            f"the tokenizer in {folder} has {name}={token!r}; expected a string, or a dictionary with 'content'."
        )
    return content


def check_length(path: Path, name: str, value: object) -> int:
    """Refuse lengths that no window can have.

    Args:
        path: the file, for the message.
        name: of the field.
        value: what stands there.

    Returns:
        The value.

    Raises:
        CheckpointError: it is not a whole number, or below 16.
    """
    if isinstance(value, float) and value.is_integer():  # 1e30: no limit
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < _LEAST_LENGTH:
        raise CheckpointError(
            f"{path} has {name} {value!r}; expected a whole number of tokens, at least {_LEAST_LENGTH}."
        )
    return value


def check_vocabulary(folder: Path, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
    """Refuse a tokenizer that gives ids for which the encoder has no embedding.

    Args:
        folder: for the message.
        tokenizer: a fast one.
        vocab_size: of the encoder.

    Raises:
        CheckpointError: says which token, its id and how many there are.
    """
    n_pieces = tokenizer.backend_tokenizer.get_vocab_size(with_added_tokens=False)
    if n_pieces > vocab_size:
        raise CheckpointError(
            f"the tokenizer in {folder} has {n_pieces} pieces, but the encoder embeds {vocab_size}.",
            hint="Is it the tokenizer of this checkpoint?",
        )
    for name in ("cls", "sep", "pad"):
        # A token that the vocabulary lacks is added behind its end.
        token = getattr(tokenizer, f"{name}_token_id", None)
        if token is not None and token >= vocab_size:
            raise CheckpointError(
                f"the tokenizer in {folder} has {name}_token={getattr(tokenizer, f'{name}_token')!r} with id {token}; "
                f"expected one of the {vocab_size} that the encoder embeds.",
                hint="Is the token written as in tokenizer.json?",
            )


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
        files = list(listed["weight_map"].values())
        if wrong := [file for file in files if not isinstance(file, str)]:
            raise CheckpointError(f"{first} names {wrong[0]!r} as a file of weights; expected strings.")
        # Only names inside of the folder: an index must not point anywhere else.
        paths = [folder / Path(file).name for file in sorted(set(files))]
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
