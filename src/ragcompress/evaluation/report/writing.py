"""From a folder of results to a file: all or nothing, and never over what was read."""

from __future__ import annotations

from pathlib import Path

from ragcompress.errors import OptionError
from ragcompress.evaluation.report.markdown_tables import markdown_tables
from ragcompress.evaluation.report.page import page
from ragcompress.evaluation.report.reading import Results, read_results
from ragcompress.options import check_range
from ragcompress.terminal import write_page

N_QUESTIONS = 200


def write_report(results: str | Path, out: str | Path, *, n_questions: int = N_QUESTIONS) -> Path:
    """Write results as one page that needs nothing beside itself.

    Args:
        results: folder that an evaluation has written, or that of one of its datasets.
        out: file to write; one that is there is replaced.
        n_questions: the most single questions of a dataset that the page carries, passages included: those that
            changed first.

    Returns:
        The file.

    Raises:
        InputError: the results cannot be read or do not belong into one report, or the page cannot be written.
        OptionError: ``out`` is no place for a page, or ``n_questions`` is negative.
        MissingExtraError: Jinja is not installed.
    """
    check_range("questions", n_questions, at_least=0, whole=True)
    target = place_for(out)
    found = read_results(results)
    _check_no_input(target, found)
    write_page(target, page(found, n_questions=n_questions))
    return target


def markdown(results: str | Path, *, out: str | Path | None = None) -> str:
    """Write results as tables of Markdown, one a dataset.

    Args:
        results: folder that an evaluation has written, or that of one of its datasets.
        out: file to write as well; one that is there is replaced.

    Returns:
        The text.

    Raises:
        InputError: the results cannot be read or do not belong into one report, or the file cannot be written.
        OptionError: ``out`` is no place for a file.
    """
    target = None if out is None else place_for(out)
    found = read_results(results)
    text = markdown_tables(found)
    if target is not None:
        _check_no_input(target, found)
        write_page(target, text)
    return text


def place_for(out: str | Path) -> Path:
    """Refuse a place where no file can be written, before any work is done.

    Args:
        out: where it is to go; a link is followed.

    Returns:
        The path, resolved.

    Raises:
        OptionError: it is a directory, or in one that does not exist.
    """
    path = Path(out)
    if str(out) == "-" or path.is_dir():
        what = "names no file" if str(out) == "-" else f"{out} is a directory"
        raise OptionError(f"--out {what}; the path of a file is expected.", hint="E.g. --out report.html")
    target = path.resolve()
    if not target.parent.is_dir():
        raise OptionError(f"--out {out}: the directory {target.parent} does not exist.")
    return target


def _check_no_input(target: Path, results: Results) -> None:
    if target in {path.resolve() for path in results.files}:
        raise OptionError(f"--out {target} is one of the results and would be overwritten.", hint="Name another file.")
