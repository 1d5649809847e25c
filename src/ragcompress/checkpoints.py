"""Where checkpoints are, and their identity: folders and hub ids, sub-folders and revisions, cheap fingerprints.

Nothing here runs code from a checkpoint. A download is announced before it begins.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger("ragcompress")

# Files up to this size (configs, tokenizers, adapters) are hashed whole; of larger ones, samples.
_WHOLE_BYTES = 32 * 1024**2
_BLOCK_BYTES = 64 * 1024
_N_BLOCKS = 64


def resolve(
    checkpoint: str | Path,
    *,
    revision: str | None = None,
    allow_patterns: Sequence[str] | None = None,
    fallback_patterns: Sequence[str] = (),
    complete: Callable[[Path], bool] | None = None,
    offline_hint: str | None = None,
    local: bool = True,
) -> Path:
    """Find the folder of a checkpoint; a hub id is downloaded unless it is in the local cache.

    Args:
        checkpoint: a folder, or a hub id with an optional sub-folder (``owner/name/sub/folder``).
        revision: branch, tag or commit of a hub id.
        allow_patterns: files to download, as glob patterns inside the (sub-)folder; None: all.
        fallback_patterns: further files, downloaded if the folder is not complete without them.
        complete: whether a downloaded folder has what it takes; None: any has.
        offline_hint: what else the user could do when there is no network.
        local: whether it may be a folder, too; a name that stands in a file may not.

    Returns:
        A folder that exists.

    Raises:
        CheckpointError: no such folder, no such id, or no network.
    """
    folder = Path(checkpoint).expanduser()
    if folder.is_dir() and local:
        return folder
    text = str(checkpoint)
    parts = text.split("/")
    # A name whose first part is a folder here is a mistyped path.
    mistyped = len(parts) > 1 and Path(parts[0]).is_dir() and local
    looks_local = (
        mistyped or folder.is_absolute() or text.startswith((".", "~")) or "\\" in text or len(parts) < 2 or "" in parts
    )
    if (folder.exists() and local) or looks_local:
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise CheckpointError(
            f"checkpoint {text!r} {what}; expected a folder or a hub id such as 'owner/name'.",
            hint=_siblings(folder),
        )
    repository, sub_folder = "/".join(parts[:2]), "/".join(parts[2:])
    prefix = f"{sub_folder}/" if sub_folder else ""
    first = [prefix + pattern for pattern in (allow_patterns or ["*"])]
    every = first + [prefix + pattern for pattern in fallback_patterns]
    found: Path | None = None
    for patterns, local in [(every, True), (first, False)] + [(every, False)] * bool(fallback_patterns):
        snapshot = _snapshot(repository, revision, patterns, offline_hint, local=local)
        if snapshot is None:
            continue
        found = snapshot / sub_folder
        if found.is_dir() and (complete is None or complete(found)):
            break
    assert found is not None  # a download gives a folder or raises
    if not found.is_dir():
        raise CheckpointError(f"{repository} has no folder {sub_folder!r}.", hint=contents(found.parent))
    return found


def _snapshot(
    repository: str, revision: str | None, patterns: list[str], offline_hint: str | None, *, local: bool
) -> Path | None:
    """The folder of a hub repository; ``local``: from the cache, None if it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

    if local:
        try:
            return Path(
                snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=True)
            )
        except HFValidationError as error:
            raise CheckpointError(f"{repository!r} is neither a folder nor a hub id: {error}.") from error
        except LocalEntryNotFoundError:
            return None
    logger.warning(
        "there is no folder %s: downloading %s%s from the Hugging Face hub, once",
        repository,
        repository,
        f"@{revision}" if revision else "",
    )
    hint = " ".join(filter(None, ["Download it elsewhere and pass the folder.", offline_hint]))
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"there is no folder {repository!r}, and the Hugging Face hub has no such repository, or it is private.",
            hint="Check the path or id; for a private repository log in with `hf auth login`.",
        ) from error
    except Exception as error:  # the hub's clients raise many kinds of network error
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"there is no folder {repository!r}, and it could not be downloaded: {reason}.", hint=hint
        ) from error


def contents(folder: Path) -> str:
    """Say what is in a folder, for an error message.

    Args:
        folder: may be missing.

    Returns:
        One sentence.
    """
    if not folder.is_dir():
        return f"{folder} does not exist."
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return f"{folder} holds {', '.join(names[:12]) + more if names else 'nothing'}."


def _siblings(path: Path) -> str | None:
    """The folders beside a missing one that have a similar name; not everything there, which may be private."""
    if not path.parent.is_dir():
        return f"{path.parent} does not exist either."
    beside = [each.name for each in path.parent.iterdir() if each.is_dir()]
    close = difflib.get_close_matches(path.name, beside, n=3)
    return f"Similar names in {path.parent}: {', '.join(close)}." if close else None


def require(folder: Path, alternatives: Sequence[str], what: str) -> Path:
    """Find one of several files in a folder.

    Args:
        folder: of a checkpoint.
        alternatives: glob patterns, the preferred one first.
        what: what the files hold, for the error message.

    Returns:
        The first file found.

    Raises:
        CheckpointError: none is there; says what was looked for and what is there.
    """
    for pattern in alternatives:
        found = sorted(folder.glob(pattern))
        if found:
            return found[0]
    raise CheckpointError(f"{folder} has no {what}: looked for {', '.join(alternatives)}.", hint=contents(folder))


def read_json(path: Path) -> Any:  # noqa: ANN401 (whatever the file holds)
    """Read a JSON file of a checkpoint.

    Args:
        path: of the file.

    Returns:
        What it holds.

    Raises:
        CheckpointError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable as JSON: {error}.") from error


def fingerprint_folder(folder: Path, patterns: Sequence[str] = ("**/*",)) -> str:
    """Identify a checkpoint by its content, without reading gigabytes.

    Small files are hashed whole; of a large one its size, the first block (in safetensors: the header with every
    tensor's name, shape and place), the last, and blocks spread evenly between. Training moves nearly every weight,
    so samples see it. Paths, times and files that nobody loads do not count.

    Args:
        folder: of a checkpoint.
        patterns: the files that are loaded from it.

    Returns:
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts):
            continue
        size = path.stat().st_size
        digest.update(f"\0{relative.as_posix()}\0{size}\0".encode())
        for block in _blocks(path, size):
            digest.update(block)
    return digest.hexdigest()[:16]


def _blocks(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        if size <= _WHOLE_BYTES:
            while block := file.read(1024**2):
                yield block
            return
        header = _BLOCK_BYTES
        if path.suffix == ".safetensors":
            declared = 8 + int.from_bytes(file.read(8), "little")
            header = declared if declared <= _WHOLE_BYTES else _BLOCK_BYTES
            file.seek(0)
        yield file.read(header)
        for index in range(_N_BLOCKS):
            file.seek((size - _BLOCK_BYTES) * index // (_N_BLOCKS - 1))
            yield file.read(_BLOCK_BYTES)


def fingerprint_tensors(tensors: Mapping[str, Tensor], settings: str = "") -> str:
    """Identify weights that are in memory already; large tensors are sampled.

    Args:
        tensors: by name, any shapes.
        settings: whatever else changes the outputs.

    Returns:
        16 hexadecimal digits.
    """
    import torch

    digest = hashlib.sha256(settings.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tuple(tensor.shape)}\0{tensor.dtype}\0".encode())
        flat = tensor.detach().reshape(-1)
        step = max(1, flat.numel() // (1024**2 // 4))
        sample = flat[::step].contiguous().cpu()
        digest.update(sample.view(torch.uint8).numpy().tobytes() if sample.numel() else b"")
    return digest.hexdigest()[:16]


@contextmanager
def no_loading_bar() -> Iterator[None]:
    """Keep transformers from drawing its progress bar of weights on the terminal of whoever loads a small model."""
    from transformers.utils import logging as library

    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it without types
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bar()  # type: ignore[no-untyped-call]  # as above


def check_free(folder: Path) -> None:
    """Refuse a place where something is already.

    Args:
        folder: where something is to be written.

    Raises:
        CheckpointError: there is a file, or a folder that is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(
            f"{folder} exists and is not empty; nothing was written.",
            hint=contents(folder) if folder.is_dir() else None,
        )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Write a folder all or nothing: a draft beside it takes its name when everything is written.

    Args:
        folder: must not exist, or be empty.

    Yields:
        The draft to write into.

    Raises:
        CheckpointError: there is something in the folder already.
    """
    check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield draft
        if folder.exists():
            folder.rmdir()
        for written in draft.rglob("*"):  # temporary folders and safetensors are private to their owner
            written.chmod(0o755 if written.is_dir() else 0o644)
        draft.chmod(0o755)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
