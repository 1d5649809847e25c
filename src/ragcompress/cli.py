"""The command line, ``ragcompress``: compress files, index corpora, evaluate, convert checkpoints, list backends.

Exit codes: 0 done; 1 unexpected; 2 bad usage, option or input; 3 checkpoint or missing extra; 130 interrupted;
141 the reader of the output went away. Everything heavy is imported where it is used, so that ``--help`` is quick.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragcompress import __version__, cli_evaluate, cli_index, cli_report
from ragcompress.errors import InputError, OptionError

if TYPE_CHECKING:
    from ragcompress.types import CompressedContext, Document

EXIT_CODES = (
    "Exit codes: 0 done; 1 unexpected; 2 bad usage, option or input; 3 checkpoint or missing extra; 130 interrupted; "
    "141 the reader of the output went away. RAGCOMPRESS_TRACEBACK=1 shows where an error came from."
)
# Documents are encoded in chunks, so that the progress bar moves; each is large enough for full batches.
CHUNK_DOCUMENTS = 64
CHUNK_CHARS = 200_000

app = typer.Typer(
    add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ragcompress {__version__}")
        raise typer.Exit


@app.callback()
def ragcompress(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Context compression for RAG: keep of the documents what answers the query."""


@app.command(epilog=EXIT_CODES)
def compress(
    query: Annotated[str, typer.Argument(help="The question.")],
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Documents: .md and text files, one document each; .jsonl with an object with text (title, id, "
            "metadata) a line, or with docs, a list of those; - is the standard input, text or JSON Lines.",
        ),
    ],
    backend: Annotated[str, typer.Option(help="Name, as `ragcompress backends` lists them.")] = "recomp-extractive",
    checkpoint: Annotated[str | None, typer.Option(help="Folder or hub id.")] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu; default: the best there is.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the weights, e.g. bfloat16.")] = None,
    top_k: Annotated[int | None, typer.Option(help="How many are kept: sentences, or documents with vectors.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="The most tokens of the result.")] = None,
    ratio: Annotated[float | None, typer.Option(help="The least compression: input / kept tokens.")] = None,
    threshold: Annotated[float | None, typer.Option(help="The lowest score that is kept.")] = None,
    preset: Annotated[str | None, typer.Option(help="Options as published elsewhere, e.g. paper.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Any other option of the backend; VALUE is JSON, else a string."),
    ] = None,
    encoding: Annotated[str, typer.Option(help="Of the files.")] = "utf-8",
    json_output: Annotated[bool, typer.Option("--json", help="Write one JSON object.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page that shows what was kept in the originals.")
    ] = None,
) -> None:
    """Compress files for a query.

    A terminal shows what was kept of each document.

    A pipe gets the plain text for the prompt; the sizes go to the standard error.
    """
    from ragcompress import registry, terminal
    from ragcompress.composing import info_of
    from ragcompress.reading import read_files
    from ragcompress.view import sizes

    named = {
        "device": device, "dtype": dtype, "top_k": top_k, "max_tokens": max_tokens, "ratio": ratio,
        "threshold": threshold, "preset": preset,
    }  # fmt: skip
    options = merge_options({name: value for name, value in named.items() if value is not None}, option or [])
    # Everything that can be wrong without a model is found before one is loaded.
    target = terminal.check_target(html, files) if html is not None else None
    registry.find(backend).check_options(**options)
    info = info_of(registry.find(backend), options)
    if info.needs_query and not query.strip():
        raise InputError("the query is empty; this backend keeps what is relevant to a query.")
    if info.kind == "vectors" and "store" not in options:
        raise OptionError(
            f"{backend} writes handles, whose vectors would end with this process.",
            hint="Keep them: --option store=lancedb://FOLDER. A reader in Python answers from there.",
        )
    documents = read_files(files, encoding=encoding, on_empty=lambda what: terminal.tell(f"warning: {what}"))
    with terminal.quiet_warnings():
        context = _compress(backend, checkpoint, options, query, documents)
        if target is not None:
            from ragcompress.html import page

            terminal.write_page(target, page(context))
        if json_output:
            terminal.emit(json.dumps(terminal.as_json(context), allow_nan=False) + "\n")
        elif sys.stdout.isatty():
            from rich.console import Console

            terminal.show(context, Console())
        else:
            terminal.emit(f"{context.text}\n" if context.segments else "")
            terminal.tell(sizes(context))
        if target is not None:
            terminal.tell(f"wrote {target}")


def _compress(
    backend: str, checkpoint: str | None, options: dict[str, Any], query: str, documents: Sequence[Document]
) -> CompressedContext:
    from ragcompress import registry
    from ragcompress.compressor import OfflineCompressor
    from ragcompress.memories import InMemoryStore
    from ragcompress.terminal import progress

    if "store" not in options and issubclass(registry.find(backend), OfflineCompressor):
        # Without a limit: nothing that was encoded for this one query may be thrown away before it is answered.
        options = {**options, "store": InMemoryStore(None)}
    with progress(f"loading {backend}"):
        compressor = registry.load(backend, checkpoint, **options)
    if not isinstance(compressor, OfflineCompressor):
        with progress("compressing"):
            return compressor.compress(query, documents)
    begin = time.perf_counter()
    with progress("encoding documents", len(documents)) as advance:
        for chunk in _chunks(documents):
            compressor.remember(chunk)
            advance(len(chunk))
    ahead = (time.perf_counter() - begin) * 1000
    context = compressor.compress(query, documents)
    timings = {**context.timings, "encode_ms": context.timings.get("encode_ms", 0.0) + ahead}
    return replace(context, timings=timings)


def _chunks(documents: Sequence[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    n_chars = 0
    for document in documents:
        if chunk and (len(chunk) >= CHUNK_DOCUMENTS or n_chars + len(document.text) > CHUNK_CHARS):
            yield chunk
            chunk, n_chars = [], 0
        chunk.append(document)
        n_chars += len(document.text)
    if chunk:
        yield chunk


_EXAMPLES = {
    "--option": "--option titles=ignore",
    "--reader-option": "--reader-option dtype=bfloat16",
    "--judge-option": "--judge-option dtype=bfloat16",
}


def merge_options(named: Mapping[str, Any], pairs: Sequence[str], *, flag: str = "--option") -> dict[str, Any]:
    """Join the options that have a flag with those given as ``--option key=value``.

    Args:
        named: those with a flag that were given.
        pairs: ``key=value``; the value is JSON where it can be read as such, else a string.
        flag: that the pairs were given with; those of ``--option`` are a backend's.

    Returns:
        Keyword arguments, of ``ragcompress.load`` for those of a backend.

    Raises:
        OptionError: a pair has no ``=``, has a flag of its own, or an option was given twice.
    """
    options = dict(named)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        # Dashes as in the flags: --option batch-tokens=64 is what one would guess.
        key = key.strip().replace("-", "_")
        if not equals or not key:
            raise OptionError(f"{flag} expects KEY=VALUE, got {pair!r}.", hint=f"E.g. {_EXAMPLES[flag]}")
        if flag == "--option" and key in ("checkpoint", "name"):
            raise OptionError(f"--option {key} has a flag: --{'backend' if key == 'name' else key}.")
        if key in options:
            raise OptionError(f"{key} is given twice.")
        try:
            options[key] = json.loads(value)
        except (ValueError, RecursionError):
            options[key] = value
    return options


@app.command(epilog=EXIT_CODES)
def convert(
    checkpoint: Annotated[str, typer.Argument(help="Folder or hub id, in any layout that the backend reads.")],
    folder: Annotated[Path, typer.Argument(help="Written anew; must not exist, or be empty.")],
    backend: Annotated[str, typer.Option(help="Name, as `ragcompress backends` lists them.")],
    base: Annotated[str | None, typer.Option(help="The base model: folder or hub id.")] = None,
    compressor_base: Annotated[str | None, typer.Option(help="That of a separate compressor.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Of the weights, e.g. bfloat16; default: as they are.")] = None,
    revision: Annotated[str | None, typer.Option(help="Of a hub id.")] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="ragcompress (safetensors and JSON), or published: as the authors' code reads it."),
    ] = None,
    include_base: Annotated[
        bool, typer.Option("--include-base", help="Write the base model's weights along: the folder needs no other.")
    ] = False,
) -> None:
    """Write a published checkpoint as safetensors and JSON: no pickle, tokenizers included."""
    from ragcompress import registry, terminal
    from ragcompress.checkpoints import check_free

    found = registry.find(backend)
    if not hasattr(found, "save_pretrained"):
        raise OptionError(f"backend {backend!r} has no weights to convert.")
    check_free(folder)
    given = {"base": base, "compressor_base": compressor_base, "dtype": dtype, "revision": revision}
    options = {name: value for name, value in given.items() if value is not None}
    how: dict[str, Any] = {"layout": layout} if layout is not None else {}
    how |= {"include_base": True} if include_base else {}
    with terminal.quiet_warnings():
        with terminal.progress(f"loading {checkpoint}"):
            compressor = registry.load(backend, checkpoint, device="cpu", **options)
        with terminal.progress(f"writing {folder}"):
            compressor.save_pretrained(folder, **how)  # type: ignore[attr-defined]  # asked for above
    needed = getattr(getattr(compressor, "model", None), "base", None)
    if needed and not include_base and layout != "published":
        terminal.tell(
            f"it needs its base model, {needed}, beside it, from the hub, or as base=; --include-base adds it"
        )
    terminal.tell(f"wrote {folder}")


app.command("index", epilog=EXIT_CODES)(cli_index.index)
app.command("evaluate", epilog=EXIT_CODES)(cli_evaluate.evaluate)
app.command("report", epilog=EXIT_CODES)(cli_report.report)


@app.command(epilog=EXIT_CODES)
def backends(
    json_output: Annotated[bool, typer.Option("--json", help="Write a JSON list.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write the table of the README.")] = False,
) -> None:
    """List the installed backends and the published checkpoints that they read."""
    from ragcompress import registry, terminal

    if json_output and markdown:
        raise OptionError("--json and --markdown exclude each other.")
    rows = terminal.backend_rows(registry.available())
    if json_output:
        terminal.emit(json.dumps(rows, indent=2) + "\n")
    elif markdown:
        terminal.emit(terminal.backend_markdown(rows))
    else:
        terminal.backend_table(rows)
