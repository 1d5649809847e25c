"""The command ``ragcompress report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ragcompress.errors import OptionError

DEFAULT_PAGE = Path("report.html")


def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Folder that `ragcompress evaluate` has written.")],
    out: Annotated[
        Path | None,
        typer.Option(help="File to write; default: report.html, or with --markdown the standard output."),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Write tables for a README.")] = False,
    questions: Annotated[
        int | None,
        typer.Option(
            help="The most single questions of a dataset that the page carries, those that changed first; 200."
        ),
    ] = None,
) -> None:
    """Show what an evaluation found: one page that needs no network, or tables in Markdown.

    The page holds questions and passages of the data; --questions 0 leaves them out.
    """
    from ragcompress import terminal
    from ragcompress.evaluation.report import writing

    if markdown:
        if questions is not None:
            raise OptionError("--questions is for the page; --markdown writes no single questions.")
        text = writing.markdown(results, out=out)
        if out is None:
            terminal.emit(text)
        else:
            terminal.tell(f"wrote {out}")
        return
    target = out or DEFAULT_PAGE
    n_questions = writing.N_QUESTIONS if questions is None else questions
    written = writing.write_report(results, target, n_questions=n_questions)
    terminal.tell(f"wrote {target} ({written.stat().st_size / 1e6:.1f} MB)")
