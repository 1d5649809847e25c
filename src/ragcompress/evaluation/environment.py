"""Where an evaluation ran: versions, hardware, and the most memory that was used."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

LIBRARIES = (
    "ragcompress", "torch", "transformers", "sentence-transformers", "tokenizers", "numpy", "bm25s",
    "llama-index-core", "langchain-core", "langchain-classic", "trimwise", "llmlingua",
)  # fmt: skip
_MIB = 1024**2


def environment() -> dict[str, Any]:
    """Describe this machine and what is installed.

    Returns:
        ``python``, ``platform``, ``processor``, ``cores``, ``accelerator``, ``date``, and ``versions`` by library;
        JSON-safe, without the names of the machine and its user.
    """
    import torch

    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def reset_peak_memory() -> None:
    """Begin to look for the most memory anew, where the system allows that."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # not Linux, or not allowed
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


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
