"""A Ray cluster for one run: joined or started, and left as it was."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ragcompress.errors import OptionError, RagCompressError

_CORES_PER_WORKER = 2
_SECONDS_TO_CONNECT = 10.0
_LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"


@contextmanager
def cluster(ray: Any, address: str | None) -> Iterator[None]:  # noqa: ANN401 (a module)
    """Use the cluster that there is, or start one and end it.

    Args:
        ray: the module.
        address: of a cluster; None: the one that this process is in, else one on this machine.

    Yields:
        Once, while it is there.

    Raises:
        OptionError: there is no such cluster, or this process is in another one.
        RagCompressError: Ray gave up.
    """
    with _told(ray), _quiet():
        if ray.is_initialized():
            if address is not None:
                raise OptionError(f"ray_address={address!r} was given, but this process is in a Ray cluster already.")
            yield
            return
        _start(ray, address)
        try:
            yield
        finally:
            ray.shutdown()


def _start(ray: Any, address: str | None) -> None:  # noqa: ANN401 (a module)
    _check_address(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with _log_level("fatal"), warnings.catch_warnings():
            # Lancedb warns of every fork; these start other programs at once and use nothing of it.
            warnings.filterwarnings("ignore", message=".*fork.*", category=RuntimeWarning)
            if address is None:
                ray.init(address="local", include_dashboard=False, **options)
            else:
                ray.init(address=address, **options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise OptionError(
            f"no Ray cluster could be {'started' if address is None else f'joined at {address!r}'}: {_line(error)}",
            hint="ray status shows whether one runs; without --ray-address a local one is started.",
        ) from error


def _check_address(address: str | None) -> None:
    """Refuse where nobody listens: Ray itself would try for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise OptionError(
            f"no Ray cluster could be joined at {address!r}: {error.strerror or error}.",
            hint="ray status shows whether one runs; without --ray-address a local one is started.",
        ) from error


@contextmanager
def _log_level(level: str) -> Iterator[None]:
    """What Ray's own processes say; they read it when they start, and errors come back to us anyway."""
    if _LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_LOG_LEVEL] = level
    try:
        yield
    finally:
        os.environ.pop(_LOG_LEVEL, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the log of Ray Data: errors are raised, too."""
    logger = logging.getLogger("ray.data")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _told(ray: Any) -> Iterator[None]:  # noqa: ANN401 (a module)
    """What Ray itself cannot do, in one line."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None) or error
        raise RagCompressError(
            f"Ray gave up: {type(cause).__name__}: {_line(cause)}",
            hint="Often a worker has no memory left or a disk is full: try fewer workers. What was written is kept, "
            "and the next run goes on.",
        ) from error


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True, slots=True)
class Devices:
    """What workers can run on.

    Attributes:
        gpu: GPUs; else processor cores.
        counts: how many each machine has.
    """

    gpu: bool
    counts: tuple[int, ...]

    @classmethod
    def found(cls, nodes: Iterable[Mapping[str, Any]], *, gpu: bool) -> Devices:
        """Count them.

        Args:
            nodes: of ``ray.nodes()``.
            gpu: GPUs, if there are any.

        Returns:
            What there is.
        """
        there = [node["Resources"] for node in nodes if node["Alive"]]
        kind = "GPU" if gpu and any(each.get("GPU", 0) >= 1 for each in there) else "CPU"
        return cls(kind == "GPU", tuple(int(each.get(kind, 0)) for each in there))

    def workers(self, asked: int | None) -> int:
        """How many workers there will be: one for each GPU, or for every two processor cores.

        Args:
            asked: another number; None: no other.

        Returns:
            The number.

        Raises:
            OptionError: there are fewer devices; Ray would wait for more, for ever.
        """
        if (asked or 1) > sum(self.counts):
            words = "GPUs" if self.gpu else "processor cores"
            raise OptionError(
                f"{asked or 1} workers were asked for, and the Ray cluster has {sum(self.counts)} {words}.",
                hint="Name fewer (--workers), or none: there will be one for each GPU, or for every two cores.",
            )
        each = 1 if self.gpu else min(_CORES_PER_WORKER, max(self.counts))
        return asked or sum(count // each for count in self.counts)

    def each(self, n_workers: int) -> dict[str, int]:
        """What one worker gets, such that all of them find a place.

        Args:
            n_workers: not more than there are devices.

        Returns:
            Arguments of Ray.
        """
        if self.gpu:
            return {"num_gpus": 1}
        most = max(self.counts)
        return {
            "num_cpus": next(n for n in range(most, 0, -1) if sum(count // n for count in self.counts) >= n_workers)
        }
