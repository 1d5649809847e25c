"""Names to backends, through the entry points of installed packages; built-ins register like everyone else.

A package registers a ``Compressor`` subclass under the group ``ragcompress.backends``::

    [project.entry-points."ragcompress.backends"]
    my-backend = "my_package:MyCompressor"
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ragcompress.compressor import Compressor, LoadSpec, OfflineCompressor
from ragcompress.errors import (
    MissingExtraError,
    OptionError,
    RagCompressError,
    UnknownBackendError,
    unknown_name_message,
)
from ragcompress.memories import VECTOR_STORE_BYTES, InMemoryStore, MemoryStore, open_store

GROUP = "ragcompress.backends"


def available() -> tuple[str, ...]:
    """Names of the installed backends, sorted; imports none of them.

    Returns:
        Names for ``load``.
    """
    return tuple(sorted({entry.name for entry in entry_points(group=GROUP)}))


def find(name: str) -> type[Compressor]:
    """Import one backend.

    Args:
        name: as ``available`` lists it.

    Returns:
        The compressor class.

    Raises:
        UnknownBackendError: nothing of this name is installed, or two packages claim it.
        MissingExtraError: the backend needs something that is not installed.
        OptionError: the entry point is not a compressor.
    """
    # An editable install next to a built one lists the same entry twice; only different targets are a conflict.
    entries: dict[str, EntryPoint] = {entry.value: entry for entry in entry_points(group=GROUP) if entry.name == name}
    if not entries:
        raise UnknownBackendError(unknown_name_message("backend", name, available()))
    if len(entries) > 1:
        raise UnknownBackendError(
            f"backend {name!r} is claimed by {' and '.join(sorted(entries))}.", hint="Uninstall one of the packages."
        )
    (entry,) = entries.values()
    owner = f" of {entry.dist.name}" if entry.dist is not None else ""
    try:
        backend = entry.load()
    except RagCompressError:
        raise
    except ImportError as error:
        raise MissingExtraError(f"backend {name!r}{owner} cannot be imported: {error}.") from error
    except Exception as error:
        raise OptionError(f"backend {name!r}{owner} failed while being imported: {error!r}.") from error
    if not (isinstance(backend, type) and issubclass(backend, Compressor)):
        raise OptionError(f"backend {name!r}{owner} is registered as {entry.value}, which is no Compressor subclass.")
    return backend


def load(
    name: str,
    checkpoint: str | Path | None = None,
    *,
    base: str | Path | None = None,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    store: MemoryStore | str | None = None,
    **config: Any,
) -> Compressor:
    """Load a compressor by name.

    Args:
        name: of the backend, as ``available`` lists it.
        checkpoint: path or hub id, with an optional sub-folder; None: the backend's default.
        base: overrides the base model named inside an adapter checkpoint.
        device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
        dtype: of the weights, e.g. ``"bfloat16"``.
        revision: of a hub checkpoint.
        store: where query-independent vectors are kept: a store, an address such as ``"memory://NAME"``, or None for
            a new ``InMemoryStore`` (256 MiB; 4 GiB for backends that make vectors).
        **config: options of the backend, e.g. ``top_k=6`` or ``preset="paper"``.

    Returns:
        The compressor.

    Raises:
        UnknownBackendError: no such backend; lists those there are, closest first.
        OptionError: no such option, or out of range.
        CheckpointError: the checkpoint cannot be found or does not fit.
        MissingExtraError: an optional dependency is missing; has the pip command.
    """
    backend = find(name)
    device, dtype = _plain(device), _plain(dtype)
    if checkpoint is not None and not isinstance(checkpoint, (str, Path)):
        raise OptionError(f"checkpoint must be a path or a hub id, got {type(checkpoint).__name__} {checkpoint!r}.")
    for option, value in (("device", device), ("dtype", dtype), ("revision", revision)):
        if value is not None and not isinstance(value, str):
            raise OptionError(f"{option} must be a string or None, got {type(value).__name__} {value!r}.")
    if base is not None:
        config["base"] = base
    opened = open_store(store) if store is not None else None
    if opened is None and backend.info.kind == "vectors":
        opened = InMemoryStore(VECTOR_STORE_BYTES)  # offline or not: handles have to lead somewhere
    elif opened is None and issubclass(backend, OfflineCompressor):
        opened = InMemoryStore()
    compressor = backend.from_pretrained(
        checkpoint, device=device, dtype=dtype, revision=revision, store=opened, **config
    )
    given = {"device": device, "dtype": dtype, "revision": revision, "store": store, **config}
    compressor.spec = LoadSpec(
        backend=name,
        checkpoint=None if checkpoint is None else str(checkpoint),
        options={option: value for option, value in given.items() if value is not None},
    )
    return compressor


def _plain(value: Any) -> Any:  # noqa: ANN401 (whatever came; it is checked afterwards)
    """``torch.bfloat16`` and ``torch.device("cpu")`` as the names that options are written down by."""
    return str(value).removeprefix("torch.") if type(value).__module__ == "torch" else value
