"""What the command line shows: results and backends for people, progress, and plain text for pipes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.errors import EmptyResultWarning, InputError, OptionError, PassThroughWarning
from ragcompress.tokens import encodable
from ragcompress.types import CompressedContext, MemorySegment, TextSegment
from ragcompress.view import plural, sizes, visible

if TYPE_CHECKING:
    from rich.console import Console

# Shell convention: 128 + the number of SIGPIPE.
BROKEN_PIPE = 141
# Wide enough for one line a backend, where there is no terminal to ask.
PIPED_WIDTH = 160


def emit(text: str) -> None:
    """Write to the standard output, and leave quietly if nobody reads it any more.

    Args:
        text: what is written; lone surrogates are replaced.
    """
    try:
        sys.stdout.write(encodable(text))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more while shutting down, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(BROKEN_PIPE) from None


def tell(text: str) -> None:
    """Write a line for people to the standard error.

    Args:
        text: one line; control characters are replaced.
    """
    sys.stderr.write(f"{visible(text)}\n")
    sys.stderr.flush()


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Show our own warnings as one line each; those of other libraries say nothing to whoever types a command."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for category in (EmptyResultWarning, PassThroughWarning):
            warnings.simplefilter("always", category)
        warnings.showwarning = lambda message, *_args, **_more: tell(f"warning: {message}")
        yield


@contextmanager
def progress(step: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show on the standard error what is being done, if that is a terminal; it disappears when it is done.

    Args:
        step: what is being done.
        total: how many things there are to do; None: unknown, and no bar.

    Yields:
        To be called with the number of things that were just done.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn

    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    columns += [] if total is None else [BarColumn(), MofNCompleteColumn()]
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(step, total=total)
        yield lambda done: bar.advance(task, done)


def check_target(path: Path, inputs: Sequence[str]) -> Path:
    """Refuse a place where a page cannot be written, before any work is done.

    Args:
        path: where the page is to go; a link is followed.
        inputs: files that are read, and so must not be overwritten.

    Returns:
        The path, resolved.

    Raises:
        OptionError: it is a directory, one of the inputs, or in a directory that does not exist.
    """
    if str(path) == "-":
        raise OptionError("--html needs the path of a file.", hint="The standard output is for the text or --json.")
    if path.is_dir():
        raise OptionError(f"--html {path} is a directory; the path of a file is expected.")
    target = path.resolve()
    if not target.parent.is_dir():
        raise OptionError(f"--html {path}: the directory {target.parent} does not exist.")
    if any(Path(name).resolve() == target for name in inputs if name != "-"):
        raise OptionError(f"--html {path} is one of the files to read and would be overwritten.")
    return target


def write_page(target: Path, markup: str) -> None:
    """Write a page, all or nothing.

    Args:
        target: as ``check_target`` returns it.
        markup: of the page.

    Raises:
        InputError: it cannot be written.
    """
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            draft.write_text(markup, encoding="utf-8")
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror or error}.") from error


def as_json(context: CompressedContext) -> dict[str, Any]:
    """Describe a result as JSON-safe values.

    Args:
        context: the result.

    Returns:
        Query, documents (without their text), segments, the text for the prompt, and sizes; ``ratio`` is None where
        nothing was kept.
    """
    known = len(context.document_tokens) == len(context.documents)
    return {
        "query": encodable(context.query),
        "text": encodable(context.text),
        "documents": [
            {
                "id": None if document.id is None else encodable(document.id),
                "title": None if document.title is None else encodable(document.title),
                "n_tokens": context.document_tokens[index] if known else None,
            }
            for index, document in enumerate(context.documents)
        ],
        "segments": [_segment_as_json(segment) for segment in context.segments],
        "n_tokens": context.n_tokens,
        "n_slots": context.n_slots,
        # JSON has no infinity.
        "ratio": context.ratio if context.n_slots or not context.n_tokens else None,
        "counter": context.counter,
        "truncated": context.truncated,
        "space": context.space,
        "timings": dict(context.timings),
    }


def _segment_as_json(segment: TextSegment | MemorySegment) -> dict[str, Any]:
    places = [{"document": each.document, "start": each.start, "end": each.end} for each in segment.sources]
    # NaN and infinities have no place in JSON either.
    score = segment.score if segment.score is not None and abs(segment.score) < float("inf") else None
    own: dict[str, Any] = (
        {"kind": "vectors", "handle": segment.handle, "n_slots": segment.n_slots}
        if isinstance(segment, MemorySegment)
        else {"kind": "text", "text": encodable(segment.text), "n_tokens": segment.n_tokens}
    )
    return own | {"sources": places, "score": score}


def show(context: CompressedContext, console: Console) -> None:
    """Show a result to people: sizes before and after, and what was kept of each document.

    Args:
        context: the result.
        console: where to.
    """
    from rich.table import Table
    from rich.text import Text

    console.print(Text(_line(context.query), style="bold"))
    console.print(Text(_line(sizes(context)), style="cyan"))
    if context.truncated:
        console.print(Text("A length limit of the model cut a part of the input off.", style="yellow"))
    for part in context.by_document():
        heading = Text("\n").append(", ".join(_name(context, index) for index in part.documents), style="bold")
        known = len(context.document_tokens) == len(context.documents)
        before = f"{sum(context.document_tokens[index] for index in part.documents):,} → " if known else ""
        unit = "slots" if any(isinstance(segment, MemorySegment) for segment in part.segments) else "tokens"
        console.print(heading.append(f"  {before}{part.n_slots:,} {unit}", style="dim"))
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for segment in part.segments:
            score = "" if segment.score is None else f"{segment.score:.3g}"
            slots = f"{plural(segment.n_slots, 'memory slot')}" if isinstance(segment, MemorySegment) else segment.text
            table.add_row(f"  {score}", Text(_line(slots)))
        console.print(table)
    used = {source.document for segment in context.segments for source in segment.sources}
    rest = [_name(context, index) for index in range(len(context.documents)) if index not in used]
    if rest:
        more = f" and {plural(len(rest) - 20, 'more document')}" if len(rest) > 20 else ""
        console.print(Text(f"\nNothing kept of {', '.join(rest[:20])}{more}", style="dim"))


def _name(context: CompressedContext, index: int) -> str:
    document = context.documents[index]
    return _line(f"[{index}] {document.title or document.id or ''}".rstrip())


def _line(text: str) -> str:
    """One line that no terminal takes for an instruction."""
    return visible(" ".join(text.split()))


def backend_rows(names: Sequence[str]) -> list[dict[str, Any]]:
    """Ask backends what they are; one that cannot be imported says why.

    Args:
        names: as the registry lists them.

    Returns:
        One dictionary a backend, JSON-safe, with the fields of ``BackendInfo`` or with ``error``.
    """
    from dataclasses import asdict

    from ragcompress import registry

    rows = []
    for name in names:
        try:
            rows.append({"name": name, **asdict(registry.find(name).info), "error": None})
        except Exception as error:  # other people's packages fail in their own ways, and must not hide the others
            rows.append({"name": name, "error": str(error) or type(error).__name__})
    return rows


def _checkpoints(row: dict[str, Any], separator: str, quote: str = "") -> str:
    return separator.join(f"{quote}{each['id']}{quote} ({each['licence']})" for each in row["checkpoints"])


def backend_table(rows: Sequence[dict[str, Any]]) -> None:
    """Show backends to people, on the standard output.

    Args:
        rows: of ``backend_rows``.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True)
    for title in ("kind", "query", "ahead of time", "published checkpoints (licence)"):
        table.add_column(title, overflow="fold")
    for row in rows:
        name = Text(_line(row["name"]), style="bold")
        if row["error"] is not None:
            table.add_row(name, Text("broken", style="red"), "", "", Text(_line(row["error"])))
            continue
        query = "needed" if row["needs_query"] else "not needed"
        checkpoints = Text(visible(_checkpoints(row, "\n")) or "none")
        table.add_row(name, Text(_line(row["kind"])), query, Text(_line(row["offline"] or "nothing")), checkpoints)
    console = Console() if sys.stdout.isatty() else Console(width=PIPED_WIDTH)
    with console.capture() as captured:
        console.print(table)
    emit(captured.get())


def backend_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Write backends as the table of the README.

    Args:
        rows: of ``backend_rows``; broken ones say why.

    Returns:
        A Markdown table.
    """
    lines = ["| backend | what it does | result | query | ahead of time | published checkpoints (licence) |"]
    lines.append("|---|---|---|---|---|---|")
    for row in rows:
        if row["error"] is not None:
            cells = [f"`{row['name']}`", f"broken: {row['error']}", "", "", "", ""]
        else:
            name = f"[`{row['name']}`]({row['paper']})" if row["paper"] else f"`{row['name']}`"
            query = "needed" if row["needs_query"] else "not needed"
            checkpoints = _checkpoints(row, "<br>", "`") or "none"
            cells = [name, row["summary"], row["kind"], query, row["offline"] or "nothing", checkpoints]
        lines.append(f"| {' | '.join(_line(str(cell)).replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"
