"""``python -m ragcompress``: the command line, with every error as one clean line and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from ragcompress.cli import app
from ragcompress.errors import (
    CheckpointError,
    InputError,
    MissingExtraError,
    OptionError,
    RagCompressError,
    SpaceMismatchError,
)

INTERRUPTED = 130
TRACEBACK = "RAGCOMPRESS_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: without the program's name; None: those of the process.

    Returns:
        The exit code: 0 done; 1 unexpected; 2 bad usage, option or input; 3 checkpoint or missing extra;
        130 interrupted; 141 the reader of the output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A terminal that cannot show a character must not end the program.
            stream.reconfigure(errors="replace")
    try:
        app(args=None if arguments is None else list(arguments), prog_name="ragcompress")
    except SystemExit as leaving:  # how typer ends, well or not
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except RagCompressError as error:
        return _report(f"error: {error}", exit_code(error))
    except Exception as error:
        about = f"{type(error).__name__}: {error}".rstrip(": ")
        return _report(f"unexpected error: {about} ({TRACEBACK}=1 shows where)", 1)
    return 0


def exit_code(error: RagCompressError) -> int:
    """Choose the exit code of an error.

    Args:
        error: any of ours.

    Returns:
        2, 3 or 1.
    """
    if isinstance(error, (CheckpointError, MissingExtraError)):
        return 3
    return 2 if isinstance(error, (InputError, OptionError, SpaceMismatchError)) else 1


def _report(message: str, code: int) -> int:
    from ragcompress.terminal import tell

    if os.environ.get(TRACEBACK):
        traceback.print_exc()
    tell(message)
    return code


if __name__ == "__main__":
    sys.exit(main())
