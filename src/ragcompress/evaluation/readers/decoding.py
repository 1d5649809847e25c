"""Greedy decoding for an evaluation: timed, ended at a line end, and with the examples' keys and values computed once.

The base model's own generation settings (sampling, beams, penalties) never apply: they differ from model to model.
"""

from __future__ import annotations

import copy
import inspect
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ragcompress.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

KeysAndValues = tuple[tuple["Tensor", "Tensor"], ...]
# Rotations that depend on how long the whole text is: keys of its beginning cannot be computed without it.
_LENGTH_DEPENDENT = {"dynamic", "longrope"}


@dataclass(frozen=True, slots=True)
class Continuation:
    """What was written behind one row.

    Attributes:
        ids: new ones, without the token that ended them.
        prefill_ms: share of the batch's time to the first token.
        total_ms: share of the batch's whole time.
    """

    ids: list[int]
    prefill_ms: float
    total_ms: float


class GreedyDecoder:
    """A language model that goes on with rows of ids; safe to call from several threads."""

    def __init__(
        self, model: PreTrainedModel, *, end_ids: frozenset[int], pad_id: int, decode: Callable[[Sequence[int]], str]
    ) -> None:
        """Take built objects.

        Args:
            model: a causal language model or an encoder-decoder; put into evaluation mode, otherwise left alone.
            end_ids: tokens that end a text.
            pad_id: fills up.
            decode: ids -> text.
        """
        from transformers import GenerationConfig

        model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it without types
        settings: Any = GenerationConfig
        base = model.generation_config
        # A copy that shares the weights: the settings of the caller's model stay as they are.
        self.model: Any = copy.copy(model)
        self.model.generation_config = settings(
            do_sample=False,
            num_beams=1,
            eos_token_id=sorted(end_ids) or None,
            pad_token_id=pad_id,
            decoder_start_token_id=base.decoder_start_token_id,
            forced_bos_token_id=base.forced_bos_token_id,  # tells a multilingual model its language
        )
        self.end_ids = end_ids
        self.pad_id = pad_id
        self.decode = decode
        self.is_encoder_decoder = bool(model.config.is_encoder_decoder)
        self._prefixes: dict[tuple[int, ...], KeysAndValues] = {}
        self._lock = threading.Lock()

    @property
    def device(self) -> Any:  # noqa: ANN401 (a torch.device)
        """Where the weights are."""
        return self.model.device

    def shares_prefixes(self) -> bool:
        """Whether keys and values of a prefix may stand in front of padding.

        Not with windows that slide over positions in the batch, and not where positions or rotations are told
        otherwise than by ``position_ids``.
        """
        if self.is_encoder_decoder or getattr(self.model, "_is_stateful", False):
            return False
        from transformers import DynamicCache
        from transformers.cache_utils import DynamicLayer

        config = self.model.config.get_text_config()
        known = inspect.signature(self.model.forward).parameters
        rotations = getattr(config, "rope_parameters", None) or {}
        kinds = {rotations.get("rope_type"), *(each.get("rope_type") for each in rotations.values() if _is_map(each))}
        layers = DynamicCache(config=self.model.config).layers
        return (
            {"position_ids", "past_key_values"} <= set(known)
            and not getattr(config, "alibi", False)
            and not kinds & _LENGTH_DEPENDENT
            and bool(layers)
            and all(type(layer) is DynamicLayer for layer in layers)
        )

    def continue_rows(
        self,
        rows: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        prefix: Sequence[int] = (),
        one_line: bool = True,
    ) -> list[Continuation]:
        """Go on with a batch.

        Args:
            rows: (batch,) lists of ids, of similar length.
            max_new_tokens: of each.
            prefix: ids that all rows begin with, at least in part: what they begin with is computed once for all
                batches, and is in no time.
            one_line: whether a line end behind some text is the end.

        Returns:
            (batch,) continuations.
        """
        import torch

        n_shared = min(_n_common(prefix, row) for row in rows)
        cache = self._cache(tuple(prefix), n_shared, len(rows)) if n_shared else None
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self.pad_id)
        mask = torch.zeros_like(ids)
        for place, row in enumerate(rows):
            # Padding stands between what is shared and the rest of a row; for an encoder it stands behind.
            end = len(row) if self.is_encoder_decoder else longest
            for start, stop, part in ((0, n_shared, row[:n_shared]), (end - len(row) + n_shared, end, row[n_shared:])):
                ids[place, start:stop] = torch.tensor(part, dtype=torch.long)
                mask[place, start:stop] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        more = {} if cache is None else {"past_key_values": cache}
        watch = _Watch(self, len(rows), 1 if self.is_encoder_decoder else longest, one_line)
        written = self.model.generate(
            inputs=ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            stopping_criteria=[watch],
            logits_processor=[_RefuseNaN()],
            **more,
        )
        total_ms = (time.perf_counter() - watch.begin) * 1000 / len(rows)
        prefill_ms = watch.prefill_ms / len(rows)
        new = written[:, watch.n_before :].tolist()
        return [
            Continuation(self._without_end(each[:length]), prefill_ms, total_ms)
            for each, length in zip(new, watch.lengths, strict=True)
        ]

    def _without_end(self, ids: list[int]) -> list[int]:
        return ids[:-1] if ids and ids[-1] in self.end_ids else ids

    def _cache(self, prefix: tuple[int, ...], n_shared: int, n_rows: int) -> Any:  # noqa: ANN401 (a DynamicCache)
        """The keys and values of a prefix, for each row of a batch."""
        from transformers import DynamicCache

        with self._lock:
            if prefix not in self._prefixes:
                self._prefixes[prefix] = self._keys_and_values(prefix)
        cache = DynamicCache(config=self.model.config)
        for layer, (keys, values) in enumerate(self._prefixes[prefix]):
            shape = (n_rows, -1, -1, -1)
            cache.update(keys[:, :, :n_shared].expand(shape), values[:, :, :n_shared].expand(shape), layer)
        return cache

    def _keys_and_values(self, prefix: tuple[int, ...]) -> KeysAndValues:
        import torch
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        with torch.no_grad():
            self.model(input_ids=torch.tensor([prefix], device=self.device), past_key_values=cache, use_cache=True)
        layers: Any = cache.layers
        return tuple((layer.keys, layer.values) for layer in layers)


def _is_map(value: object) -> bool:
    return isinstance(value, dict)


def _n_common(prefix: Sequence[int], row: Sequence[int]) -> int:
    """How many ids of the prefix a row begins with; one of the row is left, for the model to go on from."""
    limit = min(len(prefix), len(row) - 1)
    return next((place for place in range(limit) if prefix[place] != row[place]), max(0, limit))


class _RefuseNaN:
    """Refuses scores that are not numbers: the largest of none is the first token (a ``LogitsProcessor``)."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        if bool(scores.isnan().any()):
            raise InputError(
                "the model gave scores that are not numbers.",
                hint="Some models overflow in float16: use dtype='bfloat16' or 'float32'.",
            )
        return scores


class _Watch:
    """Ends each row at an end token, or at a line end behind some text, and looks at the clock.

    A ``StoppingCriteria`` in all but name; fetching the ids waits for the device, so that the times are true.
    """

    def __init__(self, decoder: GreedyDecoder, n_rows: int, n_before: int, one_line: bool) -> None:
        self.decoder = decoder
        self.one_line = one_line
        self.n_before = n_before
        self.lengths: list[int | None] = [None] * n_rows
        self.prefill_ms = 0.0
        self.begin = time.perf_counter()

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:  # noqa: ANN401 (transformers' signature)
        import torch

        rows = input_ids[:, self.n_before :].tolist()
        self.prefill_ms = self.prefill_ms or (time.perf_counter() - self.begin) * 1000
        for place, row in enumerate(rows):
            if self.lengths[place] is None and self._is_done(row):
                self.lengths[place] = len(row)
        return torch.tensor([length is not None for length in self.lengths], device=input_ids.device)

    def _is_done(self, row: list[int]) -> bool:
        if row[-1] in self.decoder.end_ids:
            return True
        return self.one_line and "\n" in self.decoder.decode(row).lstrip()
