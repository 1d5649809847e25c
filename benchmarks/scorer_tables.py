"""Tables of how sentences are ranked: what each scorer keeps, and what it costs."""

from __future__ import annotations

from cells import Results, ends, number, ratio_cell, share, table

MARKS = (("sentences", "gold sentences"), ("documents", "supporting documents"), ("answers", "an answer"))


def scorer_tables(results: Results) -> list[str]:
    """All scorer experiments.

    Args:
        results: by experiment.

    Returns:
        Markdown blocks; none without such results.
    """
    blocks: list[str] = []
    for name, result in results.items():
        if result["benchmark"] == "scorers":
            blocks.append(f"#### {name}")
            for mark, label in MARKS:
                header, rows = [f"share kept: {label}"], []
                for dataset, each in result["results"]["datasets"].items():
                    by_ranking = each["rankings"]
                    by_k = [k for k, values in by_ranking["default"].items() if mark in values]
                    header = [header[0], *by_ranking]
                    for k in by_k:
                        cells = []
                        for ranking, values in by_ranking.items():
                            interval = values[k][f"{mark}_minus_default_interval"]
                            cells.append(
                                share(values[k][mark]) + ("" if ranking == "default" else f" {ends(interval)}")
                            )
                        rows.append([f"{dataset} ({each['questions']}), {k} sentences", *cells])
                if rows:
                    blocks.append(table(header, rows))
            blocks.append("In brackets: 95 % interval of the difference from the default.")
        if result["benchmark"] == "scorer_speed":
            rows = [
                [f"{dataset}, {ranking}", number(took), ratio_cell(each["over_dense"][ranking])
                 if ranking in each["over_dense"] else ""]
                for dataset, each in result["results"]["datasets"].items()
                for ranking, took in each["milliseconds"].items()
            ]  # fmt: skip
            blocks += [f"#### {name}", table(["warm", "ms a question (median)", "over dense"], rows)]
    return blocks
