"""Evaluation: how much of what supports the answer survives compression, whether the answer does, and what it costs.

The names below are loaded on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragcompress.evaluation.experiments import Experiment as Experiment
    from ragcompress.evaluation.experiments import read_experiment as read_experiment
    from ragcompress.evaluation.question_files import dataset_of as dataset_of
    from ragcompress.evaluation.question_files import read_dataset as read_dataset
    from ragcompress.evaluation.questions import Dataset as Dataset
    from ragcompress.evaluation.questions import Passage as Passage
    from ragcompress.evaluation.questions import Question as Question
    from ragcompress.evaluation.questions import Selection as Selection
    from ragcompress.evaluation.readers import ContextReader as ContextReader
    from ragcompress.evaluation.readers import PromptReader as PromptReader
    from ragcompress.evaluation.readers import Reading as Reading
    from ragcompress.evaluation.readers import as_reader as as_reader
    from ragcompress.evaluation.records import Estimate as Estimate
    from ragcompress.evaluation.records import Record as Record
    from ragcompress.evaluation.records import Summary as Summary
    from ragcompress.evaluation.run import evaluate as evaluate

_EXPORTS = {
    "experiments": ("Experiment", "read_experiment"),
    "question_files": ("dataset_of", "read_dataset"),
    "questions": ("Dataset", "Passage", "Question", "Selection"),
    "readers": ("ContextReader", "PromptReader", "Reading", "as_reader"),
    "records": ("Estimate", "Record", "Summary"),
    "run": ("evaluate",),
}
_MODULE_OF = {name: module for module, names in _EXPORTS.items() for name in names}
__all__ = sorted(_MODULE_OF)  # noqa: PLE0605 (computed from the table above)


def __getattr__(name: str) -> Any:  # noqa: ANN401 (a module attribute)
    """Load a public name on first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'ragcompress.evaluation' has no attribute {name!r}")
    value = getattr(import_module(f"ragcompress.evaluation.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)
