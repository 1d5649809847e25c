"""Open a LanceDB table or make an empty one, and say what is wrong with what is there."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ragcompress.errors import InputError, MissingExtraError, OptionError

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.db import DBConnection
    from lancedb.table import Table

OBJECT_STORAGE = ("s3", "gs", "az")
# What lancedb raises, whatever went wrong.
FAILURES = (RuntimeError, OSError, ValueError)
_RUST_PLACE = re.compile(r", /\S+\.rs:\d+:\d+")
_TABLE = re.compile(r"[0-9a-zA-Z_][0-9a-zA-Z._-]{0,99}", re.ASCII)
# A full disk, a file above what a process may write, a used-up quota, and a full disk on Windows.
_NO_ROOM = re.compile(
    r"no space left( on device)?|file too large|quota exceeded|not enough space|os error (28|27|122)\b", re.IGNORECASE
)
# What else goes wrong, and what helps.
_ADVICE = (
    (
        r"permission|access ?denied|forbidden|unauthorized|not permitted|read-only|credential|os error (1|13|30)\b",
        "Make sure that this process may read and write there; for object storage, set the credentials.",
    ),
    (
        r"timed? ?out|connection|dns error|lookup address|error sending request|throttl|slow ?down|unavailable",
        "The place is out of reach: try again later; what was committed before is kept.",
    ),
    (r"conflict|concurrent", "Others write to it all the time: run it again; what was committed before is kept."),
    (r"too many open files|os error 24\b", "Raise the limit of open files, e.g. ulimit -n 4096, and run it again."),
    (
        r"not found|invalid range|too small|magic|corrupt|checksum|decode|parse",
        "Files of it are missing or damaged: delete it, and encode what it held again.",
    ),
)


def check_location(location: object) -> str:
    """Bring a location into one form.

    Args:
        location: a folder, ``"lancedb://FOLDER"`` or the address of object storage.

    Returns:
        An absolute path, so that it stays the same place in another working directory and after pickling; or the
        address.

    Raises:
        OptionError: it is neither.
    """
    if not isinstance(location, (str, Path)) or not str(location).removeprefix("lancedb://"):
        raise OptionError(f"location must be a folder or an address, got {location!r}.")
    place = str(location).removeprefix("lancedb://")
    scheme, separator, _ = place.partition("://")
    if separator and scheme not in OBJECT_STORAGE:
        known = ", ".join(repr(f"{each}://...") for each in OBJECT_STORAGE)
        raise OptionError(
            f"no store has the address {location!r}.", hint=f"Known: a folder, 'lancedb://FOLDER', {known}."
        )
    return place if separator else str(Path(place).expanduser().absolute())


def check_table_name(table: object) -> str:
    """Check the name of a table.

    Args:
        table: becomes the name of a folder.

    Returns:
        The name.

    Raises:
        OptionError: it could mean something else in a path.
    """
    if not isinstance(table, str) or not _TABLE.fullmatch(table):
        raise OptionError(f"table must be a name of letters, digits, '_', '.' and '-', got {table!r}.")
    return table


def local_folder(location: str, table: str) -> Path | None:
    """Where a table lies.

    Args:
        location: checked.
        table: its name.

    Returns:
        The folder; None: in object storage.
    """
    return None if "://" in location else Path(location) / f"{table}.lance"


def failed(location: str, table: str, error: Exception) -> InputError:
    """Say that a table cannot be read or written.

    Args:
        location: of the store.
        table: its name.
        error: what lancedb said.

    Returns:
        The error to raise.
    """
    if found := _NO_ROOM.search(str(error)):
        return InputError(
            f"there is no room left at {location} ({found[0]}): this could not be written to the table {table!r}; what "
            "was committed before is kept.",
            hint="Free space there, or name another place, and run it again.",
        )
    return InputError(
        f"the table {table!r} at {location} cannot be used: {_first_line(error)}.",
        hint=_advice(str(error)),
    )


def _advice(said: str) -> str:
    found = (advice for pattern, advice in _ADVICE if re.search(pattern, said, re.IGNORECASE))
    return next(found, "Try again; if that does not help, build another in an empty folder.")


def open_table(location: str, name: str, make_schema: Callable[[], pa.Schema], *, owner: str, kind: str) -> Table:
    """Open a table, or make an empty one.

    Args:
        location: checked.
        name: of the table, checked.
        make_schema: columns and metadata of a new table; called where pyarrow is there.
        owner: class that asks, for messages.
        kind: what it makes of the table, for messages.

    Returns:
        The table; each read looks for what other processes have committed meanwhile.

    Raises:
        MissingExtraError: lancedb is not installed.
        OptionError: the location is a folder of something else, or cannot be written.
        InputError: the table is damaged, or there is no room for it.
    """
    _check_installed(owner)
    refuse_folder_of_something_else(location, name, kind)
    try:
        connection = _connected(location)
        table = None if name in _table_names(connection) else _create(connection, name, make_schema)
    except FAILURES as error:
        if _NO_ROOM.search(str(error)):
            raise failed(location, name, error) from error
        raise OptionError(
            f"no {kind} can be made at {location}: {_first_line(error)}.",
            hint="Name a folder that can be written, or an address whose credentials are set.",
        ) from error
    if table is not None:
        return table
    if _was_never_made(location, name):
        try:
            return connection.create_table(name, schema=make_schema(), exist_ok=True)
        except FAILURES as error:
            # Else another process may have been quicker.
            if _NO_ROOM.search(str(error)):
                raise failed(location, name, error) from error
    return _open(connection, location, name)


def open_existing(location: str, name: str, owner: str) -> Table | None:
    """Open a table where there is one; for a local folder that there is none costs a look at the folder.

    Args:
        location: checked.
        name: of the table, checked.
        owner: class that asks, for messages.

    Returns:
        The table; None: there is none, or nobody has written its first version yet.

    Raises:
        MissingExtraError: lancedb is not installed.
        InputError: the table is damaged, or the place cannot be read.
    """
    _check_installed(owner)
    return _open(_connected(location), location, name) if is_there(location, name) else None


def is_there(location: str, name: str) -> bool:
    """Whether there is a table; one whose first version nobody has written yet does not count.

    Args:
        location: checked.
        name: of the table, checked.

    Returns:
        True, also if it is damaged.

    Raises:
        InputError: the place cannot be read.
    """
    folder = local_folder(location, name)
    try:
        if folder is not None:
            return folder.is_dir() and not _was_never_made(location, name)
        return name in _table_names(_connected(location))
    except FAILURES as error:
        raise failed(location, name, error) from error


def _check_installed(owner: str) -> None:
    try:
        import lancedb  # noqa: F401 (only whether it can be)
    except ImportError as error:
        raise MissingExtraError(
            f"{owner} needs lancedb, which cannot be imported ({error}).", hint="pip install 'ragcompress[store]'"
        ) from error


def _connected(location: str) -> DBConnection:
    import lancedb

    return lancedb.connect(location, read_consistency_interval=timedelta(0))


def refuse_folder_of_something_else(location: str, name: str, kind: str) -> None:
    """Refuse to make a table among somebody else's files.

    Args:
        location: an address.
        name: of the table that would be made.
        kind: what it is to be, for the error message.

    Raises:
        OptionError: the folder holds something, and no table.
    """
    folder = local_folder(location, name)
    if folder is None or folder.is_dir() or not folder.parent.is_dir():
        return
    with suppress(PermissionError):
        inside = sorted(each.name for each in folder.parent.iterdir() if not each.name.startswith("."))
        if inside and not any(each.endswith(".lance") for each in inside):
            raise OptionError(
                f"{location} is a folder of something else (it holds {inside[0]!r}) and no {kind}.",
                hint="Name a folder that is empty or does not exist yet.",
            )


def _create(connection: DBConnection, name: str, make_schema: Callable[[], pa.Schema]) -> Table | None:
    """Make the table; None: another process was quicker, so that it is there to be opened."""
    try:
        return connection.create_table(name, schema=make_schema())
    except FAILURES as error:
        # What has failed for want of room leaves a folder, too.
        for _ in range(0 if _NO_ROOM.search(str(error)) else 20):
            if name in _table_names(connection):
                return None
            time.sleep(0.05)
        raise


def _was_never_made(location: str, name: str) -> bool:
    """Whether a process was killed while it made the table: there is a folder without a first version."""
    folder = local_folder(location, name)
    return folder is not None and not any((folder / "_versions").glob("*")) and not any((folder / "data").glob("*"))


def _open(connection: DBConnection, location: str, name: str) -> Table:
    try:
        return connection.open_table(name)
    except FAILURES as error:
        raise failed(location, name, error) from error


def _table_names(connection: DBConnection) -> list[str]:
    names: list[str] = []
    token: str | None = None
    while True:
        page = connection.list_tables(page_token=token)
        names += page.tables
        token = page.page_token
        if not token:
            return names


def _first_line(error: Exception) -> str:
    """What lancedb said, without the places in its own sources."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return _RUST_PLACE.sub("", line).rstrip(".")
