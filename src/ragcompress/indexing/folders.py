"""What is in a folder: the files that are read, and everything that is not, with the reason."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ragcompress.indexing.summary import Reject


@dataclass(frozen=True, slots=True)
class Found:
    """What was found.

    Attributes:
        files: with their sizes in bytes, in the order in which they are read.
        rejects: what cannot be read: folders, links that lead nowhere, pipes and the like.
        passed_over: how many files are of another kind, by suffix.
    """

    files: list[tuple[str, int]] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)


def search(folder: Path, suffixes: Collection[str], leave_out: Path | None = None) -> Found:
    """Search through a folder and what links in it lead to, in the order of the names.

    Args:
        folder: exists.
        suffixes: of files that are read, in lower case.
        leave_out: a file that is not read, whatever path leads to it; it need not exist.

    Returns:
        What is there; hidden files and folders are not.
    """
    found = Found()
    entered: set[tuple[int, int]] = set()

    def cannot_enter(error: OSError) -> None:
        found.rejects.append(Reject(str(error.filename), f"the folder cannot be read: {error.strerror or error}."))

    for place, folders, files in os.walk(folder, onerror=cannot_enter, followlinks=True):
        # Links may lead in a circle.
        here = identity(place)
        if here is None or here in entered:
            folders.clear()
            continue
        entered.add(here)
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for file in sorted(each for each in files if not each.startswith(".")):
            _add(found, str(Path(place) / file), suffixes, leave_out)
    return found


def identity(path: str | Path) -> tuple[int, int] | None:
    """What two paths have in common that lead to one file; None: there is none.

    Args:
        path: of a file or folder.

    Returns:
        Device and number.
    """
    try:
        about = os.stat(path)
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return None
    return about.st_dev, about.st_ino


def _add(found: Found, file: str, suffixes: Collection[str], leave_out: Path | None) -> None:
    suffix = Path(file).suffix.lower()
    if suffix not in suffixes:
        found.passed_over[suffix or "no suffix"] += 1
        return
    try:
        about = os.stat(file)
    except OSError as error:
        reason = "is a link that leads nowhere" if os.path.islink(file) else f"cannot be read: {error.strerror}"
        found.rejects.append(Reject(file, f"it {reason}."))
        return
    if not stat.S_ISREG(about.st_mode):  # reading a pipe would wait for ever
        found.rejects.append(Reject(file, "it is no regular file."))
    elif leave_out is None or (about.st_dev, about.st_ino) != identity(leave_out):
        found.files.append((file, about.st_size))
