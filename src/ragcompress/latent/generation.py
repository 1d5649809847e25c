"""Decoding: options for transformers' ``generate``, stop strings, and answers that come piece by piece."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
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
    import transformers

    processors: list[Any] = []
    if penalty != 1.0:
        # Handed over as an object: by its own option, transformers would also leave out as many *new* tokens of a row
        # as the row has padding, since it takes vectors for a prompt of ids.
        processors.append(transformers.RepetitionPenaltyLogitsProcessor(penalty))
    if options.temperature > 0:
        processors.append(transformers.TemperatureLogitsWarper(float(options.temperature)))
        if options.top_k is not None:
            processors.append(transformers.TopKLogitsWarper(options.top_k))
        if options.top_p is not None:
            processors.append(transformers.TopPLogitsWarper(float(options.top_p)))
        processors.append(GumbelNoise(options.seed))
    build: Any = transformers.LogitsProcessorList
    return {
        "max_new_tokens": options.max_new_tokens,
        "num_beams": 1,
        "do_sample": False,
        "repetition_penalty": 1.0,
        "logits_processor": build(processors),
    }


class GumbelNoise:
    """Turns the arg-max that follows into a sample (a ``LogitsProcessor`` in all but name).

    arg-max of logits plus Gumbel noise is distributed as a draw from their softmax. Each row draws from a generator of
    its own, so that an answer depends neither on its batch nor on what other threads sample.
    """

    def __init__(self, seed: int | None) -> None:
        """Take the seed.

        Args:
            seed: None: drawn from torch's own random state.
        """
        self.seed = int(torch.randint(2**62, (1,)).item()) if seed is None else seed
        self.vary = seed is None
        self._generators: list[torch.Generator] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Add noise to the scores of the next token.

        Args:
            input_ids: (batch, n_new_tokens), not looked at.
            scores: (batch, vocabulary).

        Returns:
            (batch, vocabulary).
        """
        while len(self._generators) < scores.shape[0]:
            # Without a seed equal requests of a batch are to be answered differently.
            place = len(self._generators) if self.vary else 0
            self._generators.append(torch.Generator().manual_seed((self.seed + place) % 2**63))
        uniform = torch.stack([torch.rand(scores.shape[1], generator=each) for each in self._generators])
        uniform = uniform[: scores.shape[0]].clamp(min=1e-20).to(scores.device)
        return scores - torch.log(-torch.log(uniform))


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
