"""How many floating-point operations compressing and reading take: an estimate from sizes alone.

A forward pass of a transformer takes about two operations for each weight and position, embeddings aside, and those of
the output as well, which a prompt needs for its last position alone (Kaplan et al. 2020, section 2.1); attention among
positions, some percent at these lengths, is left out. A compressor is counted as if each of its weights saw each token
of the question and the documents once: right for encoders, off for what also writes (T5), and what a store holds
already is counted as well, since somebody had to compute it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

# How deep weights are looked for in the attributes of an object.
_DEPTH = 8


def forward_flops(n_parameters: int, n_positions: float) -> float:
    """Estimate the operations of a forward pass.

    >>> forward_flops(22_000_000, 100)
    4400000000.0

    Args:
        n_parameters: that are used at each position, so without embeddings.
        n_positions: tokens and memory slots, of the prompt and of what is written.

    Returns:
        Floating-point operations, additions and multiplications.
    """
    return 2.0 * n_parameters * n_positions


def count_parameters(thing: object) -> int:
    """Count the weights that an object computes with, embeddings of input and output aside.

    Args:
        thing: a torch module, or an object that holds some, e.g. a compressor.

    Returns:
        Their number, each once; 0 if there are none.
    """
    from torch import nn

    parts = [part for module in modules_of(thing) for part in module.modules()]
    aside: set[int] = set()
    for part in parts:
        find_output = getattr(part, "get_output_embeddings", None)
        output = find_output() if callable(find_output) else None
        for each in (part if isinstance(part, nn.Embedding) else None, output):
            aside |= set() if each is None else {id(weight) for weight in each.parameters()}
    sizes = {id(weight): weight.numel() for part in parts for weight in part.parameters(recurse=False)}
    return sum(size for weight, size in sizes.items() if weight not in aside)


def modules_of(thing: object) -> Iterator[Any]:
    """Find the torch modules that an object computes with.

    Args:
        thing: a module, or an object that holds some, e.g. a pipeline of compressors.

    Yields:
        The outermost modules.
    """
    from torch import nn

    level: list[Any] = [thing]
    seen: set[int] = set()
    for _ in range(_DEPTH):
        below: list[Any] = []
        for each in level:
            if id(each) in seen:
                continue
            seen.add(id(each))
            if isinstance(each, nn.Module):
                yield each
            else:
                below += _held(each)
        level = below


def _held(thing: object) -> Iterable[object]:
    if isinstance(thing, (list, tuple)):
        return thing
    if isinstance(thing, dict):
        return thing.values()
    # Objects of others hold half of the interpreter: only ours are looked into, and what they hold directly.
    if not type(thing).__module__.startswith("ragcompress"):
        return ()
    slots = [name for each in type(thing).__mro__ for name in getattr(each, "__slots__", ())]
    return [*vars(thing).values()] if hasattr(thing, "__dict__") else [getattr(thing, name, None) for name in slots]
