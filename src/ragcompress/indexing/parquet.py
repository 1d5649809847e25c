"""Rows of Parquet files to records, a part at a time; what is damaged takes nothing else with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from ragcompress.errors import InputError, MissingExtraError
from ragcompress.indexing.lines import records
from ragcompress.indexing.summary import Reject
from ragcompress.indexing.windows import Record
from ragcompress.reading import Fields, documents_of_record

_ROWS_AT_ONCE = 1024


def check_columns(file: str, fields: Fields) -> None:
    """Refuse a file without texts.

    Args:
        file: its path.
        fields: names of the columns.

    Raises:
        InputError: the column of the text is not there.
        MissingExtraError: pyarrow is not installed.
    """
    parquet = _parquet()
    try:
        names = parquet.read_schema(file).names
    except _failures():  # it is left out, with the reason, when its turn comes
        return
    if not {fields.text, "docs"} & set(names):
        raise InputError(
            f"{file} has no column {fields.text!r}; its columns are {', '.join(map(repr, names)) or 'none'}.",
            hint="Name the column of the text: --text-field NAME.",
        )


def read_rows(file: str, fields: Fields) -> Iterator[Record | Reject]:
    """Read a file.

    Args:
        file: its path.
        fields: names of the columns.

    Yields:
        Documents, and rows that are none. Where several rows cannot be read, their reject says how many.
    """
    parquet = _parquet()
    try:
        table = parquet.ParquetFile(file)
        size = Path(file).stat().st_size / max(table.metadata.num_rows, 1)
    except _failures() as error:
        yield Reject(file, f"it cannot be read as Parquet: {_first_line(error)}")
        return
    with table:
        fields.note(table.schema_arrow.names)
        wanted = [name for name in table.schema_arrow.names if name in fields.names]
        number = 0
        for group in range(table.num_row_groups):
            end = number + table.metadata.row_group(group).num_rows
            for row in _rows(table, group, wanted):
                begin = number
                number = end if isinstance(row, _Unread) else number + 1
                place = f"{file}:{begin + 1}"
                # What the file takes, spread evenly over its rows without losing a byte to rounding.
                own = int(size * number) - int(size * begin)
                if isinstance(row, dict):
                    yield from _records(row, place, file, fields, own)
                else:
                    rows = "the row" if number - begin == 1 else f"{number - begin:,} rows from here on"
                    yield Reject(place, f"{rows} cannot be read: {_first_line(row)}", n_bytes=own)


class _Unread(Exception):  # noqa: N818 (never raised)
    """The rest of a group."""


def _rows(table: Any, group: int, columns: list[str]) -> Iterator[dict[str, Any] | Exception]:  # noqa: ANN401
    """Rows of a group; an exception in the place of one that cannot be converted."""
    try:
        for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, row_groups=[group], columns=columns):
            try:
                rows = batch.to_pylist()
            except _failures():
                rows = [_row(batch.slice(number, 1)) for number in range(batch.num_rows)]
            yield from rows
    except _failures() as error:
        yield _Unread(_first_line(error))


def _row(batch: Any) -> dict[str, Any] | Exception:  # noqa: ANN401 (pyarrow has no types)
    try:
        row: dict[str, Any] = batch.to_pylist()[0]
    except _failures() as error:
        return error
    return row


def _records(row: dict[str, Any], place: str, file: str, fields: Fields, size: int) -> Iterator[Record | Reject]:
    plain = _plain(row)
    for each in records(partial(documents_of_record, plain, place, file, fields), place, None, size):
        yield replace(each, content=json.dumps(plain, default=repr)) if isinstance(each, Reject) else each


def _plain(value: Any) -> Any:  # noqa: ANN401 (whatever a column holds)
    """As JSON knows it, where there is one obvious way."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else value


def _failures() -> tuple[type[Exception], ...]:
    """How pyarrow says that something is wrong with a file or a value in it."""
    import pyarrow as pa

    return OSError, ValueError, ArithmeticError, LookupError, pa.lib.ArrowException


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _parquet() -> Any:  # noqa: ANN401 (pyarrow has no types)
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError(
            "Parquet files need pyarrow, which is not installed.", hint="pip install 'ragcompress[store]'"
        ) from error
    return pyarrow.parquet
