"""What an evaluation found, to look at: one page that needs nothing beside itself, or tables in Markdown."""

from ragcompress.evaluation.report.reading import DatasetResults, Results, read_results
from ragcompress.evaluation.report.writing import markdown, write_report

__all__ = ["DatasetResults", "Results", "markdown", "read_results", "write_report"]
