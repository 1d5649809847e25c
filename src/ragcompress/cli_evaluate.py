"""The command ``ragcompress evaluate``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ragcompress.errors import OptionError

if TYPE_CHECKING:
    from ragcompress.evaluation.records import Estimate, Summary

# What the closing lines say of each contestant, as far as it is known.
SHOWN = (
    "tokens", "token_compression", "support_recall", "document_recall", "answer_in_context", "cover_match", "f1",
    "judge", "added_ms",
)  # fmt: skip
_UNITS = {"share": " %", "ms": " ms"}


def evaluate(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA",
            help="Files of JSON Lines with id, question, answers and docs (title, text), or names of published "
            "datasets. Files ending in .yaml are experiments.",
        ),
    ],
    experiment: Annotated[
        list[Path] | None, typer.Option(help="A file of YAML with a compressor; may be repeated.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="One compressor, without a file: its name.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Of that backend: folder or hub id.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of that backend; VALUE is JSON, else a string."),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(help="Somebody else's compressor, held to that backend's length; may be repeated."),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            help="Answers from what is kept: folder, hub id or .gguf file of a language model, openai:MODEL, or own, "
            "that of a latent compressor. Default: nobody answers."
        ),
    ] = None,
    judge: Annotated[
        str | None, typer.Option(help="A language model that says whether answers are right; as --reader.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Of the reader's OpenAI-compatible endpoint.")] = None,
    judge_base_url: Annotated[str | None, typer.Option(help="Of the judge's.")] = None,
    reader_option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An option of the reader, e.g. dtype=bfloat16, max_new_tokens=16."),
    ] = None,
    judge_option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the judge.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the results; a run that was interrupted goes on there.")] = Path(
        "results"
    ),
    limit: Annotated[int | None, typer.Option(help="Only the first so many questions of each dataset.")] = None,
    answers: Annotated[int | None, typer.Option(help="Only the first so many questions are answered.")] = None,
    docs: Annotated[int | None, typer.Option(help="Only the first so many passages of each question.")] = None,
    gold_only: Annotated[bool, typer.Option("--gold-only", help="Only passages that support the answer.")] = False,
    shuffle_docs: Annotated[int | None, typer.Option(metavar="SEED", help="Draw an order of the passages.")] = None,
    split: Annotated[str | None, typer.Option(help="Of published datasets; default: one nobody trains on.")] = None,
    tokens: Annotated[
        str | None, typer.Option(help="What a token is without a reader: words (default) or characters.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu; default: the best there is.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything drawn.")] = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out records that cannot be used; else they stop the run.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, rather than go on with what an earlier run has left.")
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Write the summaries as a JSON list.")] = False,
) -> None:
    """Measure what survives compression, and what it costs.

    Beside each compressor stand no context, all documents, and its length in first tokens, random sentences and BM25.

    Then: ragcompress report results/ --out report.html
    """
    from ragcompress import terminal
    from ragcompress.cli import merge_options
    from ragcompress.evaluation.experiments import YAML_ENDINGS
    from ragcompress.evaluation.records import summary_as_json
    from ragcompress.evaluation.run import evaluate as run
    from ragcompress.view import visible

    # A shell writes `--experiment folder/*.yaml` out as one option and many arguments.
    files = [*(experiment or []), *(Path(each) for each in data if each.endswith(YAML_ENDINGS))]
    sources = [each for each in data if not each.endswith(YAML_ENDINGS)]
    compared: list[Any] = list(files)
    options = merge_options({}, option or [])
    if backend is not None:
        own = {"backend": backend, **({} if checkpoint is None else {"checkpoint": checkpoint}), **options}
        compared.append({"name": backend, "compressor": own, "peers": peer or []})
    elif checkpoint is not None or options or peer:
        raise OptionError("--checkpoint, --option and --peer belong to --backend, which is not there.")
    if not compared:
        raise OptionError(
            "there is nothing to evaluate.", hint="Name --backend recomp-extractive, say, or --experiment FILE.yaml."
        )

    def merged(flag: str, url: str | None, options: list[str] | None) -> dict[str, Any]:
        return merge_options({} if url is None else {"base_url": url}, options or [], flag=flag)

    try:
        with terminal.quiet_warnings(), _shown() as progress:
            summaries = run(
                sources,
                compared,
                reader=reader,
                reader_options=merged("--reader-option", base_url, reader_option),
                judge=judge,
                judge_options=merged("--judge-option", judge_base_url, judge_option),
                out=out,
                limit=limit,
                n_docs=docs,
                gold_only=gold_only,
                shuffle_docs=shuffle_docs,
                split=split,
                n_answers=answers,
                counter=tokens,
                device=device,
                seed=seed,
                skip_bad=skip_bad,
                restart=restart,
                progress=progress,
                remark=terminal.tell,
            )
    except KeyboardInterrupt:
        terminal.tell("interrupted; what was written is kept, and the same command goes on from there")
        raise
    if json_output:
        terminal.emit(json.dumps([summary_as_json(summary) for summary in summaries]) + "\n")
    else:
        terminal.emit("".join(f"{visible(line)}\n" for line in lines(summaries)))
    terminal.tell(f"results are in {out}; to look at them: ragcompress report {out} --out report.html")


def lines(summaries: list[Summary]) -> list[str]:
    """Say in a line each what came out.

    Args:
        summaries: of all datasets and contestants.

    Returns:
        Lines, aligned, under the names of their datasets.
    """
    wide = max((len(summary.contestant) for summary in summaries), default=0)
    found: list[str] = []
    for dataset in dict.fromkeys(summary.dataset for summary in summaries):
        found.append(f"{dataset}:")
        for summary in summaries:
            if summary.dataset != dataset:
                continue
            if summary.skipped is not None:
                found.append(f"  {summary.contestant:{wide}}  skipped: {summary.skipped}")
                continue
            cells = [_cell(name, summary.metrics[name]) for name in SHOWN if name in summary.metrics]
            failed = sum(summary.failures.values())
            cells += [f"{failed:,} failed"] if failed else []
            found.append(f"  {summary.contestant:{wide}}  {', '.join(cells)}")
            where = f"{dataset}/{summary.contestant}.jsonl"
            found += [f"    {message}; what was raised is in {where}" for message in summary.first_failures[:1]]
    return found


def _cell(name: str, estimate: Estimate) -> str:
    from ragcompress.evaluation.measures import MEASURES
    from ragcompress.evaluation.report.formatting import number

    # Of times the median, as in the report: one first call may take as long as all others.
    value = estimate.mean if estimate.p50 is None else estimate.p50
    return f"{MEASURES[name].label} {number(name, value)}{_UNITS.get(MEASURES[name].unit, '')}"


@contextmanager
def _shown() -> Iterator[Callable[[str, str, int, int], None]]:
    """Show how far a run is: a bar on a terminal, else a line when a contestant is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    from ragcompress import terminal

    console = Console(stderr=True)
    if not console.is_terminal:

        def tell(dataset: str, contestant: str, n_done: int, n_all: int) -> None:
            if n_done >= n_all:
                terminal.tell(f"{dataset}: {contestant}: {n_done:,} questions")

        yield tell
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def show(dataset: str, contestant: str, n_done: int, n_all: int) -> None:
            words = f"{dataset}: {contestant}"
            if words not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[words] = bar.add_task(words, total=n_all)
            bar.update(tasks[words], completed=n_done)

        yield show
