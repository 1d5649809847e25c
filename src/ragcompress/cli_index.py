"""The command ``ragcompress index``."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragcompress.errors import InputError, OptionError, SpaceMismatchError, closest_first

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from ragcompress.indexing.sources import Sources
    from ragcompress.indexing.summary import IndexSummary

# How often a line is written where there is no terminal to draw a bar on.
_SECONDS_BETWEEN_LINES = 30.0
_NAMES_SHOWN = 6


def index(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files (.jsonl, .ndjson, .parquet, .txt, .md) and folders of them; - is the standard input, JSON "
            "Lines. An object or a row is a document with text (title, id, metadata), or has docs, a list of those.",
        ),
    ],
    store: Annotated[str, typer.Option(help="Where to: lancedb://FOLDER, a folder, s3://..., gs://..., az://...")],
    backend: Annotated[str, typer.Option(help="clara, pisco, recomp-extractive: one that encodes ahead of time.")],
    checkpoint: Annotated[str | None, typer.Option(help="Folder or hub id.")] = None,
    base: Annotated[str | None, typer.Option(help="The base model: folder or hub id.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu; default: the best there is.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the weights, e.g. bfloat16.")] = None,
    store_dtype: Annotated[
        str | None,
        typer.Option(help="Of stored vectors: float32, bfloat16, float16 or int8; default: as they come."),
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray (pip install the extra distributed).")] = "local",
    batch_tokens: Annotated[int | None, typer.Option(help="Padded size of a batch; default: by device.")] = None,
    workers: Annotated[int | None, typer.Option(help="Of Ray; default: one a GPU, or for every two cores.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, e.g. auto or ray://HOST:10001; default: one on this machine.")
    ] = None,
    rejects: Annotated[
        Path, typer.Option(help="JSON Lines of what was left out, with the reasons; made anew if something was.")
    ] = Path("rejects.jsonl"),
    text_field: Annotated[str, typer.Option(help="Name of the text in objects and rows.")] = "text",
    title_field: Annotated[str, typer.Option(help="Name of the title.")] = "title",
    id_field: Annotated[str, typer.Option(help="Name of the id.")] = "id",
    metadata_field: Annotated[
        list[str] | None, typer.Option(help="A further field to keep in the metadata; may be repeated.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Any other option of the backend; VALUE is JSON, else a string."),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of text and JSON Lines.")] = "utf-8",
    json_output: Annotated[bool, typer.Option("--json", help="Write the summary as a JSON object.")] = False,
) -> None:
    """Encode a corpus ahead of time, so that questions find its vectors.

    Run it again after an interruption, or when documents were added: it does only what is missing.

    With clara, documents can be retrieved from the store; with other backends it serves what other retrievers find.
    """
    from ragcompress import indexing, registry, terminal
    from ragcompress.cli import merge_options
    from ragcompress.compressor import OfflineCompressor
    from ragcompress.indexing.rejects import RejectsFile
    from ragcompress.indexing.sources import Sources
    from ragcompress.indexing.targets import StoreTarget, cannot_search, check_place, open_target
    from ragcompress.options import check_choice, check_range
    from ragcompress.reading import STDIN, Fields
    from ragcompress.searching import SearchingCompressor

    # Everything that can be wrong without a model is found before one is loaded.
    named = {"base": base, "device": device, "dtype": dtype, "batch_tokens": batch_tokens}
    options = merge_options({name: value for name, value in named.items() if value is not None}, option or [])
    if "store" in options:
        raise OptionError("--option store has a flag: --store.")
    _check_backend(backend)
    registry.find(backend).check_options(**options)
    check_choice("engine", engine, ("local", "ray"))
    check_range("workers", workers, at_least=1, whole=True)
    if engine == "ray":
        from ragcompress.indexing.on_ray import require_ray

        require_ray()
    fields = Fields(text_field, title_field, id_field, more=tuple(metadata_field or ()))
    found = Sources(sources, fields=fields, encoding=encoding, rejects=rejects)
    RejectsFile(rejects)
    check_place(store, store_dtype)
    if found.remark:
        terminal.tell(found.remark)
    with terminal.quiet_warnings():
        with terminal.progress(f"loading {backend}"):
            compressor = registry.load(backend, checkpoint, **options)
        assert isinstance(compressor, OfflineCompressor)  # its class was checked
        try:
            target = open_target(compressor, store, store_dtype)
        except SpaceMismatchError as error:
            another = _command(context, store=f"{store.rstrip('/')}-2")
            raise SpaceMismatchError(
                str(error).removesuffix(error.hint or "").rstrip(),
                hint=f"Name the checkpoint, dtype and options that built it, or a new place: {another}",
            ) from error
        if isinstance(target, StoreTarget) and issubclass(registry.find(backend), SearchingCompressor):
            terminal.tell(f"what is kept here serves other retrievers alone: {cannot_search(compressor)}")
        try:
            with _shown(found) as progress:
                summary = indexing.index(
                    compressor,
                    found,
                    store,
                    engine=engine,
                    workers=workers,
                    ray_address=ray_address,
                    dtype=store_dtype,
                    rejects=rejects,
                    progress=progress,
                )
        except KeyboardInterrupt:
            terminal.tell("interrupted; what was written is kept, and the same command goes on from there")
            raise
    if not summary.n_documents:
        for each in summary.rejected[:1]:
            raise InputError(
                f"none of {summary.n_rejected:,} records can be used: {each.place}: {each.reason}",
                hint=f"All reasons are in {rejects}.",
            )
        places = ("the standard input" if source == STDIN else source for source in sources)
        raise InputError(f"there is nothing to index in {', '.join(places)}.")
    if json_output:
        entry = {**asdict(summary), "tokens_per_second": summary.tokens_per_second}
        entry["rejected"] = [
            {"place": each.place, "reason": each.reason, "content": each.content} for each in summary.rejected
        ]
        terminal.emit(json.dumps(entry) + "\n")
    else:
        terminal.emit(f"{summary}\n{summary.store}\n")
    for name in dict.fromkeys(fields.more):
        if name not in fields.seen:
            others = ", ".join(map(repr, closest_first(name, fields.seen)[:_NAMES_SHOWN])) or "none"
            terminal.tell(
                f"warning: no record has --metadata-field {name!r}; the names in them, closest first: {others}"
            )
    for each in summary.rejected[:3]:
        terminal.tell(f"left out: {each.place}: {each.reason}")
    if summary.n_rejected:
        left_out = "1 record was" if summary.n_rejected == 1 else f"{summary.n_rejected:,} records were"
        terminal.tell(f"{left_out} left out, with the reason in {rejects}")


def _check_backend(backend: str) -> None:
    from ragcompress import registry
    from ragcompress.compressor import OfflineCompressor

    if issubclass(registry.find(backend), OfflineCompressor):
        return
    offline = []
    for name in registry.available():
        try:
            offline += [name] if issubclass(registry.find(name), OfflineCompressor) else []
        except Exception:  # noqa: S112 (a broken package of somebody else's must not hide the others)
            continue
    raise OptionError(
        f"backend {backend!r} computes nothing before the question is known.", hint=f"These do: {', '.join(offline)}."
    )


def _command(context: typer.Context, **changed: str) -> str:
    """The command as it was typed, with other values of some options."""
    words = ["ragcompress", "index"]
    for parameter in context.command.params:
        name = str(parameter.name)
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE":
            continue
        value = changed.get(name, context.params[name])
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        if parameter.param_type_name == "argument":
            words += values
        elif getattr(parameter, "is_flag", False):
            words.append(parameter.opts[0])
        else:
            words += [word for each in values for word in (parameter.opts[0], str(each))]
    return shlex.join(words)


@contextmanager
def _shown(sources: Sources) -> Iterator[Callable[[IndexSummary], None]]:
    """Show how far a run is: a bar on a terminal, else a line now and then."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(sources.n_bytes)
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    if sources.n_bytes:
        columns += [BarColumn(), TaskProgressColumn(), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading", total=sources.n_bytes or None)

        def show(summary: IndexSummary) -> None:
            n_done = summary.n_documents + summary.n_rejected
            words = f"{n_done:,} documents, {summary.tokens_per_second:,.0f} tokens/s"
            bar.update(task, completed=summary.n_bytes_read, description=words)

        yield show


def _lines(n_bytes: int | None) -> Callable[[IndexSummary], None]:
    from ragcompress import terminal

    last: list[Any] = [time.monotonic()]

    def show(summary: IndexSummary) -> None:
        if time.monotonic() - last[0] < _SECONDS_BETWEEN_LINES:
            return
        last[0] = time.monotonic()
        words = f"{summary.n_documents:,} documents, {summary.tokens_per_second:,.0f} tokens/s"
        if n_bytes and summary.n_bytes_read:
            left = summary.seconds * (n_bytes - summary.n_bytes_read) / summary.n_bytes_read
            words += f", {100 * summary.n_bytes_read // n_bytes} %, about {left / 60:,.0f} minutes left"
        terminal.tell(words)

    return show
