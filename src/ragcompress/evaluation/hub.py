"""Data sets by name, through the ``datasets`` library, as records in the format of our files.

Each data set is an entry of ``NAMED``: where it is, and how a row becomes a record. ``NAME=REPOSITORY[:CONFIG]`` reads
rows of another repository, or of a folder: for questions that were published without passages, say. None of the
entries could be compared with the hub while they were written (see ``hub_rows``). A row of another shape is refused,
never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ragcompress.errors import InputError, MissingExtraError, OptionError, RagCompressError, unknown_name_message
from ragcompress.evaluation.hub_rows import Json, Row, musique, retrieved, triviaqa, with_sentences
from ragcompress.options import check_range

_MOST_SHOWN = 10
_BRING_PASSAGES = (
    'Write the questions with the passages that you retrieved as JSON Lines, {"id", "question", "answers": [...], '
    '"docs": [{"title", "text"}, ...]} a line, and pass the file; or name a data set, or a folder, whose rows hold '
    "passages under 'ctxs': NAME=REPOSITORY[:CONFIG], nq=someone/nq-with-passages, say."
)


@dataclass(frozen=True, slots=True)
class NamedData:
    """What was read of a data set.

    Attributes:
        records: in the format of our files.
        skipped: why rows were left out, each with its number.
        repository: where they come from.
        split: which part.
        config: of the repository; None: its only one.
    """

    records: tuple[Json, ...]
    skipped: tuple[str, ...]
    repository: str
    split: str
    config: str | None = None

    @property
    def source(self) -> str:
        """Repository, config and split in words."""
        return f"{self.repository}{f' ({self.config})' if self.config else ''}, {self.split}"


@dataclass(frozen=True, slots=True)
class Named:
    """A data set that has a name here.

    Attributes:
        repository: id on the Hugging Face hub.
        config: of the repository; None: its only one.
        split: the one with answers that nobody trains on.
        record: row -> record; ``id`` may be missing.
        has_passages: whether the rows of that repository hold passages.
    """

    repository: str
    config: str | None
    split: str
    record: Callable[[Row], Json]
    has_passages: bool = True


NAMED: Mapping[str, Named] = {
    "hotpotqa": Named("hotpotqa/hotpot_qa", "distractor", "validation", with_sentences),
    "2wikimultihopqa": Named("xanhho/2WikiMultihopQA", None, "dev", with_sentences),
    "musique": Named("dgslibisey/MuSiQue", None, "validation", musique),
    "triviaqa": Named("mandarjoshi/trivia_qa", "rc", "validation", triviaqa),
    "nq": Named("google-research-datasets/nq_open", None, "validation", retrieved, has_passages=False),
    "popqa": Named("akariasai/PopQA", None, "test", retrieved, has_passages=False),
}


def load_named(
    name: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    repository: str | None = None,
    config: str | None = None,
    revision: str | None = None,
) -> NamedData:
    """Read a data set by name.

    Args:
        name: as in ``NAMED``; or with a repository, see ``parse_name``.
        split: None: the one with answers that nobody trains on.
        limit: only the first so many questions; None: all.
        skip_bad: whether rows that cannot be used are left out; else the first of them are named.
        repository: another hub id, or a folder, with rows of the same shape, or with ``question``, ``answers`` and
            passages under ``ctxs``, ``positive_passages`` and ``negative_passages``, or ``docs``. None: what the name
            says.
        config: of that repository.
        revision: branch, tag or commit.

    Returns:
        The records.

    Raises:
        OptionError: there is no data set of this name (lists those there are, closest first), or the repository is
            named twice.
        InputError: the data set has no passages, cannot be reached, or has rows that cannot be used.
        MissingExtraError: the ``datasets`` library is not installed.
    """
    given = name
    if isinstance(name, str) and "=" in name:
        name, own_repository, own_config = parse_name(name)
        if repository is not None or config is not None:
            raise OptionError(f"{given!r} names a repository, and repository= or config= came beside it.")
        repository, config = own_repository, own_config
    if not isinstance(name, str) or name not in NAMED:
        raise OptionError(unknown_name_message("data set", name, list(NAMED)), hint="A file of JSON Lines works, too.")
    check_range("limit", limit, at_least=1, whole=True)
    named = NAMED[name]
    if repository is None and not named.has_passages:
        raise InputError(f"{name} ({named.repository}) holds questions without passages.", hint=_BRING_PASSAGES)
    where, part = repository or named.repository, split or named.split
    part_of = config if repository is not None else config or named.config
    records, wrong = [], []
    try:
        rows = open_rows(where, part_of, part, revision, streaming=limit is not None)
        for number, row in enumerate(rows, start=1):
            try:
                record = record_of(named, row)
            except InputError as error:
                wrong.append(f"{name}:{number}: {error}")
                continue
            records.append({"id": f"{name}-{record.pop('id', None) or f'{part}-{number}'}", **record})
            if len(records) == limit:
                break
    except RagCompressError:
        raise
    except Exception as error:  # the hub's clients raise many kinds of error
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise InputError(
            f"{name} could not be read from {where} ({part}): {type(error).__name__}: {reason}.",
            hint=f"Without a network, pass a file of JSON Lines, or a folder that holds a copy: {name}=FOLDER.",
        ) from error
    if wrong and not skip_bad:
        more = f"\n… and {len(wrong) - _MOST_SHOWN:,} more" if len(wrong) > _MOST_SHOWN else ""
        raise InputError("\n".join(wrong[:_MOST_SHOWN]) + more, hint="\n--skip-bad leaves such rows out.")
    if not records:
        raise InputError(f"{where} ({part}) holds no question that can be used.", hint=wrong[0] if wrong else None)
    return NamedData(tuple(records), tuple(wrong), where, part, part_of)


def parse_name(text: str) -> tuple[str, str | None, str | None]:
    """Take a name apart that may say where the rows are.

    >>> parse_name("nq"), parse_name("nq=my/nq-with-passages:top20"), parse_name("nq=copies/nq")
    (('nq', None, None), ('nq', 'my/nq-with-passages', 'top20'), ('nq', 'copies/nq', None))

    Args:
        text: ``NAME`` or ``NAME=REPOSITORY[:CONFIG]``; the repository is a hub id or a folder.

    Returns:
        Name, repository and config; None: not said. Whether there is such a data set is not asked.

    Raises:
        OptionError: nothing stands where a repository or a config is expected.
    """
    name, equals, place = text.partition("=")
    if not equals:
        return text, None, None
    repository, colon, config = place.rpartition(":")
    # The colon of C:\data, or of a folder above the last one, parts nothing.
    if not colon or "/" in config or "\\" in config:
        repository, colon, config = place, "", ""
    if not name.strip() or not repository.strip() or (colon and not config.strip()):
        raise OptionError(f"expected NAME=REPOSITORY[:CONFIG], got {text!r}.", hint="nq=someone/nq-with-passages, say.")
    return name, repository, config or None


def open_rows(
    repository: str, config: str | None, split: str, revision: str | None, *, streaming: bool
) -> Iterable[Row]:
    """Open a data set; the only place that reaches for the network.

    Args:
        repository: hub id, or a folder.
        config: of the repository.
        split: which part.
        revision: branch, tag or commit.
        streaming: whether rows are fetched one by one; else the data set is downloaded, once.

    Returns:
        Its rows.

    Raises:
        MissingExtraError: the ``datasets`` library is not installed.
    """
    try:
        import datasets  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "data sets by name need the library datasets.", hint="pip install 'ragcompress[evaluation]'"
        ) from error
    rows: Iterable[Row] = datasets.load_dataset(repository, config, split=split, revision=revision, streaming=streaming)
    return rows


def record_of(named: Named, row: Row) -> Json:
    """Map a row.

    Args:
        named: the data set.
        row: of it, or of one of the general shape; see ``load_named``.

    Returns:
        A record, its ``id`` without the name of the data set, if it has one.

    Raises:
        InputError: a field is missing or holds something else; says which.
    """
    general = any(row.get(key) for key in ("ctxs", "docs", "positive_passages"))
    try:
        record = retrieved(row) if general else named.record(row)
    except KeyError as error:
        keys = ", ".join(map(repr, row)) or "none"
        raise InputError(f"the row has no field {error}; its fields are: {keys}.") from error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the row has another shape than the data set's authors published: {error}.") from error
    if not record["answers"]:
        raise InputError("the row has no answer.")
    if not record["docs"]:
        raise InputError("the row has no passage.", hint=_BRING_PASSAGES)
    return record
