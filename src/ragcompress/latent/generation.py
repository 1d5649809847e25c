"""Decoding: options for transformers' ``generate``, stop strings, and answers that come piece by piece."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ragcompress.reader import GenerationOptions

if TYPE_CHECKING:
    from ragcompress.latent.backbone import Backbone


def generate_arguments(options: GenerationOptions, backbone: Backbone) -> dict[str, Any]:
    """Translate options; everything that a base model's own settings could change is said explicitly.

    Args:
        options: of the caller.
        backbone: for ``repetition_penalty="base"``.

    Returns:
        Keyword arguments of transformers' ``generate``.
    """
    penalty = options.repetition_penalty
    if penalty == "base":
        penalty = float(backbone.base_generation.get("repetition_penalty") or 1.0)
    arguments: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
        "num_beams": 1,
        "do_sample": options.temperature > 0,
        "repetition_penalty": 1.0,
    }
    if penalty != 1.0:
        # Handed over as an object: by its own option, transformers would also leave out as many *new* tokens of a row
        # as the row has padding, since it takes vectors for a prompt of ids.
        from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

        build: Any = LogitsProcessorList
        arguments["logits_processor"] = build([RepetitionPenaltyLogitsProcessor(penalty)])
    if options.temperature > 0:
        # 0 turns top_k off; transformers would otherwise draw from its own default of 50.
        arguments |= {"temperature": options.temperature, "top_p": options.top_p or 1.0, "top_k": options.top_k or 0}
    return arguments


@contextmanager
def seeded(options: GenerationOptions, device: torch.device) -> Iterator[None]:
    """Make sampling repeatable and leave torch's own random state alone; does nothing without a seed.

    Args:
        options: of the caller.
        device: of the model.

    Yields:
        Nothing.
    """
    if options.seed is None or options.temperature == 0:
        yield
        return
    with _SEEDING, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(options.seed)
        yield


# torch's random state belongs to the process: two seeded samplings at once would draw from each other's.
_SEEDING = threading.Lock()


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Find the earliest stop string.

    >>> first_stop("one. two", [" two", "."])
    3

    Args:
        text: what was written so far.
        stops: strings that end an answer.

    Returns:
        The offset of the first one; None: there is none.
    """
    found = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    return min(found, default=None)


def safe_length(text: str, stops: Sequence[str]) -> int:
    """How much of an unfinished text cannot belong to a stop string any more.

    >>> safe_length("It was E", ["END"])
    7

    Args:
        text: what was written so far, without a whole stop string in it.
        stops: strings that end an answer.

    Returns:
        An offset.
    """
    held = 0
    for stop in stops:
        for length in range(min(len(stop) - 1, len(text)), held, -1):
            if text.endswith(stop[:length]):
                held = length
                break
    return len(text) - held


class StopAtStrings:
    """Ends each row of a batch at its first stop string (a ``StoppingCriteria`` in all but name)."""

    def __init__(self, stops: Sequence[str], decode: Callable[[Sequence[int]], str]) -> None:
        """Take the strings and the way to write ids out.

        Args:
            stops: any number.
            decode: ids -> text.
        """
        self.stops = stops
        self.decode = decode

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ANN401 (transformers' signature)
        """Say which rows are done.

        Args:
            input_ids: (batch, n_new_tokens): with ``inputs_embeds`` only new ids are handed over.
            scores: not looked at.

        Returns:
            (batch,) booleans.
        """
        done = [first_stop(self.decode(row), self.stops) is not None for row in input_ids.tolist()]
        return torch.tensor(done, device=input_ids.device)


class Cancelled:
    """Ends generation as soon as nobody listens any more."""

    def __init__(self) -> None:
        """Start as not cancelled."""
        self.event = threading.Event()

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ANN401 (transformers' signature)
        """Say whether all rows are done."""
        return torch.full((input_ids.shape[0],), self.event.is_set(), device=input_ids.device)


class TokenQueue:
    """Receives ids from ``generate`` (a ``BaseStreamer`` in all but name)."""

    def __init__(self) -> None:
        """Start empty."""
        self.queue: queue.SimpleQueue[list[int] | BaseException | None] = queue.SimpleQueue()

    def put(self, value: Tensor) -> None:
        """Take the newest ids of a single row."""
        self.queue.put(value.reshape(-1).tolist())

    def end(self) -> None:
        """Take note that nothing more comes; the thread that runs ``generate`` says so, too, if that fails."""


def stream_ids(run: Callable[[TokenQueue, Cancelled], None]) -> Iterator[list[int]]:
    """Run a generation in a thread of its own and hand its ids over as they come.

    Args:
        run: calls ``generate`` with the streamer and the stopping criterion it is given.

    Yields:
        The newest ids. Whoever stops listening stops the generation, after one more token.
    """
    tokens, cancelled = TokenQueue(), Cancelled()

    def work() -> None:
        try:
            run(tokens, cancelled)
            tokens.queue.put(None)
        except BaseException as error:  # raised again where somebody sees it
            tokens.queue.put(error)

    thread = threading.Thread(target=work, name="ragcompress-stream", daemon=True)
    thread.start()
    try:
        while (item := tokens.queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        cancelled.event.set()
        thread.join()
