"""Where an evaluation ran: versions, hardware, and the most memory that was used."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import gc
import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Everybody computes with these.
COMMON = ("ragcompress", "torch", "transformers", "sentence-transformers", "tokenizers", "numpy")
LIBRARIES = (
    *COMMON, "bm25s", "llama-index-core", "langchain-core", "langchain-classic", "langchain-community", "trimwise",
    "llmlingua",
)  # fmt: skip
_MIB = 1024**2


def environment() -> dict[str, Any]:
    """Describe this machine and what is installed.

    Returns:
        ``python``, ``platform``, ``processor``, ``cores``, ``accelerator``, ``date``, and ``versions`` by library;
        JSON-safe, without the names of the machine and its user.
    """
    import torch

    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions_of(LIBRARIES),
    }


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Say which versions are installed.

    Args:
        packages: as pip names them.

    Returns:
        Versions by package, of those that are there.
    """
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def reset_peak_memory() -> float | None:
    """Give back what is not used any more, and begin to look for the most memory anew, where the system allows that.

    Returns:
        What is used now, in MiB: by models, data, and what others have left; None where the system does not say.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / _MIB
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc's keeps what it has
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):  # not Linux, or not allowed
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_memory_mib()


def peak_memory_mib() -> float | None:
    """Say how much memory was used at most since ``reset_peak_memory``.

    Returns:
        Of the device on a GPU, else resident memory of the process, in MiB; None where the system does not say.
    """
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / _MIB
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None
