"""Open a LanceDB table of memories or make an empty one, and say what is wrong with what is there."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ragcompress.errors import InputError, MissingExtraError, OptionError
from ragcompress.stores import rows

if TYPE_CHECKING:
    from lancedb.db import DBConnection
    from lancedb.table import Table

OBJECT_STORAGE = ("s3", "gs", "az")
# What lancedb raises, whatever went wrong.
FAILURES = (RuntimeError, OSError, ValueError)
_RUST_PLACE = re.compile(r", /\S+\.rs:\d+:\d+")
_TABLE = re.compile(r"[0-9a-zA-Z_][0-9a-zA-Z._-]{0,99}", re.ASCII)


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


def damaged(location: str, table: str, error: Exception) -> InputError:
    """Say that a table cannot be read or written.

    Args:
        location: of the store.
        table: its name.
        error: what lancedb said.

    Returns:
        The error to raise.
    """
    return InputError(
        f"the table {table!r} at {location} cannot be used: {_first_line(error)}.",
        hint="If files of it are missing or damaged, delete it: what it held is encoded again.",
    )


def open_table(location: str, name: str) -> Table:
    """Open a table, or make an empty one.

    Args:
        location: checked.
        name: of the table, checked.

    Returns:
        The table; each read looks for what other processes have committed meanwhile.

    Raises:
        MissingExtraError: lancedb is not installed.
        OptionError: the location is a folder of something else, or cannot be written.
        InputError: the table is damaged, not one of ours, or of a newer version.
    """
    try:
        import lancedb
    except ImportError as error:
        raise MissingExtraError(
            f"LanceDBStore needs lancedb, which cannot be imported ({error}).",
            hint="pip install 'ragcompress[store]'",
        ) from error
    _refuse_folder_of_something_else(location, name)
    try:
        connection = lancedb.connect(location, read_consistency_interval=timedelta(0))
        exists = name in _table_names(connection)
        table = None if exists else _create(connection, name)
    except FAILURES as error:
        raise OptionError(
            f"no store can be made at {location}: {_first_line(error)}.",
            hint="Name a folder that can be written, or an address whose credentials are set.",
        ) from error
    if table is None:
        table = _open_existing(connection, location, name)
    _check_format(table, location, name)
    return table


def _refuse_folder_of_something_else(location: str, name: str) -> None:
    folder = local_folder(location, name)
    if folder is None or folder.is_dir() or not folder.parent.is_dir():
        return
    with suppress(PermissionError):
        inside = sorted(each.name for each in folder.parent.iterdir() if not each.name.startswith("."))
        if inside and not any(each.endswith(".lance") for each in inside):
            raise OptionError(
                f"{location} is a folder of something else (it holds {inside[0]!r}) and no store.",
                hint="Name a folder that is empty or does not exist yet.",
            )


def _create(connection: DBConnection, name: str) -> Table | None:
    """Make the table; None: another process was quicker, so that it is there to be opened."""
    try:
        return connection.create_table(name, schema=rows.schema())
    except FAILURES:
        for _ in range(20):
            if name in _table_names(connection):
                return None
            time.sleep(0.05)
        raise


def _open_existing(connection: DBConnection, location: str, name: str) -> Table:
    try:
        return connection.open_table(name)
    except FAILURES as error:
        # A process that was killed while it made the table leaves a folder without a first version.
        folder = local_folder(location, name)
        if folder is not None and not any((folder / "_versions").glob("*")) and not any((folder / "data").glob("*")):
            with suppress(*FAILURES):
                return connection.create_table(name, schema=rows.schema(), exist_ok=True)
        raise damaged(location, name, error) from error


def _check_format(table: Table, location: str, name: str) -> None:
    version = (table.schema.metadata or {}).get(rows.FORMAT_FIELD, b"")
    if not version.isdigit():
        raise InputError(
            f"the table {name!r} at {location} is no store of ragcompress.", hint="Name another table or folder."
        )
    if int(version) > rows.FORMAT_VERSION:
        raise InputError(
            f"the store at {location} has the format {int(version)}; this version of ragcompress reads formats up to "
            f"{rows.FORMAT_VERSION}.",
            hint="pip install --upgrade ragcompress",
        )
    if missing := sorted(set(rows.schema().names) - set(table.schema.names)):
        raise InputError(
            f"the store at {location} lacks columns: {', '.join(missing)}.",
            hint="Delete it: what it held is encoded again.",
        )


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
