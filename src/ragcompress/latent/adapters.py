"""Named LoRA adapters on one model, chosen by each forward pass for itself.

peft's ``set_adapter`` writes into the model, so that two threads switch under each other's forward passes. Here the
layers are peft's, but which adapter is active is read from a context variable: each thread has its own answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ragcompress.errors import CheckpointError

if TYPE_CHECKING:
    from peft import LoraConfig

# The seven projections of Llama, Mistral and Qwen blocks: every linear layer but the output head.
ALL_LINEAR = "all-linear"
LORA_ALPHA_OVER_R = 2  # alpha / r of every published model here
LORA_DROPOUT = 0.1

_ACTIVE: ContextVar[tuple[str, ...] | None] = ContextVar("ragcompress_adapter", default=None)


@contextmanager
def active_adapter(name: str | None) -> Iterator[None]:
    """Run forward passes of this thread under one adapter.

    Args:
        name: of the adapter; None: the base model alone.

    Yields:
        Nothing.
    """
    token = _ACTIVE.set(() if name is None else (name,))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


class _ChosenPerForward:
    """Mixed into peft's layers: the active adapter is this thread's, not the layer's."""

    @property
    def active_adapter(self) -> list[str]:
        chosen = _ACTIVE.get()
        if chosen is None and getattr(self, "training", False):
            # Gradient checkpointing runs layers again, maybe in another thread: never under the base model alone.
            raise RuntimeError("a layer with adapters runs outside of active_adapter(...) while it is being trained.")
        return list(chosen or ())

    @property
    def disable_adapters(self) -> bool:
        return False

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        """Pickle by the class underneath: this one is made on the fly."""
        return _rebuild, (type(self).__mro__[2],), self.__dict__


@cache
def _with_choice(layer_class: Any) -> Any:  # noqa: ANN401 (a class; types of modules count as unhashable)
    return type(f"Chosen{layer_class.__name__}", (_ChosenPerForward, layer_class), {})


def _rebuild(layer_class: Any) -> nn.Module:  # noqa: ANN401 (a class)
    chosen = _with_choice(layer_class)
    module: nn.Module = chosen.__new__(chosen)
    return module


def add_adapters(model: nn.Module, ranks: Mapping[str, int]) -> None:
    """Attach LoRA adapters, with weights that change nothing yet.

    Args:
        model: a causal language model; changed in place, frozen but for the adapters.
        ranks: rank by name of the adapter.

    Raises:
        CheckpointError: a rank is below 1.
    """
    from peft import inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    for name, rank in ranks.items():
        if rank < 1:
            raise CheckpointError(f"adapter {name!r} has rank {rank}; expected at least 1.")
        with torch.random.fork_rng(devices=[]):  # peft draws random weights: the caller's random state stays as it is
            inject_adapter_in_model(_lora_config(model, rank), model, name)
        if hasattr(model, "peft_config"):  # peft's book-keeping, which makes it warn of the next adapter
            del model.peft_config
    for module in model.modules():
        if isinstance(module, LoraLayer) and not isinstance(module, _ChosenPerForward):
            module.__class__ = _with_choice(type(module))  # same layout, another property


def _lora_config(model: nn.Module, rank: int) -> LoraConfig:
    from peft import LoraConfig

    find_head = getattr(model, "get_output_embeddings", None)
    head = find_head() if callable(find_head) else None
    targets = sorted(
        {
            # A module that has an adapter already is a layer of peft's with the linear layer inside.
            name.removesuffix(".base_layer").rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not head and ".lora_" not in name
        }
    )
    return LoraConfig(
        r=rank,
        lora_alpha=LORA_ALPHA_OVER_R * rank,
        lora_dropout=LORA_DROPOUT,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )


_PARAMETER = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])\.(?P<adapter>[^.]+)\.weight$")


def adapter_parameters(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """The parameters of one adapter by their published names.

    Args:
        model: with adapters.
        name: of the adapter.

    Returns:
        ``model.layers.0.self_attn.q_proj.lora_A.weight`` and so on, (r, in); ``lora_B``: (out, r).
    """
    found = {}
    for full_name, parameter in model.named_parameters():
        match = _PARAMETER.match(full_name)
        if match and match["adapter"] == name:
            found[f"{match['module']}.lora_{match['side']}.weight"] = parameter
    return found


def load_adapter(model: nn.Module, name: str, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Copy weights into an adapter, all or nothing.

    Args:
        model: with an adapter of this name.
        name: of the adapter.
        weights: by published name; nothing missing, nothing surplus.
        where: the file, for the error message.

    Raises:
        CheckpointError: names or shapes do not fit; says which.
    """
    copy_weights(
        {f"{name}/{key}": parameter for key, parameter in adapter_parameters(model, name).items()},
        {f"{name}/{key}": tensor for key, tensor in weights.items()},
        where=f"adapter {name!r} in {where}",
        hint="Is it an adapter of another base model?",
    )


def copy_weights(
    parameters: Mapping[str, Tensor], weights: Mapping[str, Tensor], *, where: str, hint: str | None = None
) -> None:
    """Copy tensors by name after checking all of them, so that nothing is ever half-loaded.

    Args:
        parameters: destinations.
        weights: sources; the same names and shapes.
        where: what is being loaded, for the error message.
        hint: what else may be wrong.

    Raises:
        CheckpointError: names or shapes do not fit; says which.
    """
    missing, surplus = sorted(set(parameters) - set(weights)), sorted(set(weights) - set(parameters))
    if missing or surplus:
        told = [f"{kind} {_some(names)}" for kind, names in (("lacks", missing), ("has unknown", surplus)) if names]
        raise CheckpointError(f"{where} {' and '.join(told)}.", hint=hint)
    wrong = [name for name, tensor in weights.items() if tuple(tensor.shape) != tuple(parameters[name].shape)]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{where}: {name} has shape {tuple(weights[name].shape)}, expected {tuple(parameters[name].shape)}"
            + (f" ({len(wrong)} tensors differ)." if len(wrong) > 1 else "."),
            hint=hint,
        )
    with torch.no_grad():
        for name, tensor in weights.items():
            parameters[name].copy_(tensor)


def _some(names: Sequence[str]) -> str:
    """The first few of many names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def adapter_rank(weights: Mapping[str, Tensor], *, where: str) -> int:
    """Read the rank off an adapter's weights.

    Args:
        weights: by published name.
        where: the file, for the error message.

    Returns:
        r.

    Raises:
        CheckpointError: there is no LoRA matrix, or the ranks differ.
    """
    ranks = {tensor.shape[0] for name, tensor in weights.items() if name.endswith(".lora_A.weight")}
    if len(ranks) != 1:
        what = f"matrices of ranks {sorted(ranks)}" if ranks else "no LoRA matrices"
        raise CheckpointError(f"{where} holds {what}; expected LoRA matrices of one rank.")
    return int(ranks.pop())
