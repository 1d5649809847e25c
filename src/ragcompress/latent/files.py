"""Reading and writing tensors on disk: never code, never half a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.checkpoints import contents, read_json
from ragcompress.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(path: Path) -> Any:  # noqa: ANN401 (a dictionary, maybe nested; checked by the caller)
    """Read a pickle or safetensors file of tensors to the CPU; pickles with ``weights_only`` alone.

    Args:
        path: of the file.

    Returns:
        What it holds.

    Raises:
        CheckpointError: it is missing, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing.", hint=contents(path.parent))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        import torch

        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch, pickle, zipfile and safetensors each have their own
        reason = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise CheckpointError(
            f"{path} ({path.stat().st_size:,} bytes) cannot be read as tensors: {reason[:200].rstrip('.')}.",
            hint="Is the download complete?",
        ) from error


def read_table(path: Path) -> dict[str, Tensor]:
    """Read a flat dictionary of tensors.

    Args:
        path: of the file.

    Returns:
        Tensors by name.

    Raises:
        CheckpointError: it is missing or damaged, or holds something else.
    """
    return as_table(read_tensors(path), str(path))


def as_table(found: object, where: str) -> dict[str, Tensor]:
    """Check that something is a flat dictionary of tensors.

    Args:
        found: what a file held.
        where: the file, for the error message.

    Returns:
        The dictionary.

    Raises:
        CheckpointError: it is something else.
    """
    import torch

    if not isinstance(found, Mapping) or not all(isinstance(tensor, torch.Tensor) for tensor in found.values()):
        raise CheckpointError(f"{where} holds {type(found).__name__}; expected tensors by name.")
    return {str(name): tensor for name, tensor in found.items()}


def read_model(folder: Path) -> dict[str, Tensor]:
    """Read a whole model's safetensors, in one file or in several with an index.

    Args:
        folder: of the model.

    Returns:
        Tensors by name.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        listed = read_json(index)
        if not isinstance(listed, Mapping) or not isinstance(listed.get("weight_map"), Mapping):
            raise CheckpointError(f"{index} does not say which file holds which weight.")
        # Only names inside of the folder: an index must not point anywhere else.
        names = sorted({Path(str(name)).name for name in listed["weight_map"].values()})
    state: dict[str, Tensor] = {}
    for name in names:
        state |= read_table(folder / name)
    return state


def inner_names(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Names inside of a transformer: a causal language model's own prefix and its unused head go.

    Args:
        state: tensors by name.
        prefix: a further one to take off first.

    Returns:
        The same tensors, without the head.
    """
    stripped = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return {name.removeprefix("model."): tensor for name, tensor in stripped.items() if name != "lm_head.weight"}


def write_table(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors.

    Args:
        path: of the new file.
        tensors: by name; none may share memory with another.
    """
    from safetensors.torch import save_file

    table = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(table, path, metadata={"format": "pt"})  # transformers asks for the mark
