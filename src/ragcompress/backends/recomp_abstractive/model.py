"""Greedy decoding of an encoder-decoder: in batches of similar length, which rows leave when they are done.

Written out instead of calling transformers' ``generate``: T5's own configuration asks for four beams, a prefix and at
least 30 tokens in summaries, which makes the empty summary impossible; nothing of it can get in here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ragcompress.errors import InputError, OptionError
from ragcompress.nn.batching import length_buckets, pad
from ragcompress.tokens import TokenizerCounter, private_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


# Families whose configurations may name a number of positions that does not bind them.
_RELATIVE = {"t5", "mt5", "umt5", "longt5", "switch_transformers"}


class Written(NamedTuple):
    """What was written for one input.

    Attributes:
        ids: new token ids, without start and end.
        ended: whether the model came to an end by itself.
    """

    ids: list[int]
    ended: bool


class Summarizer:
    """An encoder-decoder with its tokenizer; safe to call from several threads."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_tokens: int = 4096,
        name: str | None = None,
    ) -> None:
        """Take built objects; ``load_summarizer`` reads them from a folder.

        Args:
            model: an encoder-decoder of transformers with a language-model head.
            tokenizer: its fast tokenizer.
            batch_tokens: padded size of a batch of inputs, in tokens.
            name: of the vocabulary, for the token counter; None: the last part of the tokenizer's.

        Raises:
            OptionError: the model is no encoder-decoder, says no start or end token, or the tokenizer is a slow one.
        """
        if not getattr(model.config, "is_encoder_decoder", False) or not model.can_generate():
            raise OptionError(
                f"{type(model).__name__} is no encoder-decoder that writes; recomp-abstractive needs one, such as "
                "T5ForConditionalGeneration.",
                hint="To prune with an encoder use 'recomp-extractive' or 'provence'.",
            )
        model.eval()  # type: ignore[no-untyped-call]  # transformers leaves it without types
        self.model = model
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.engine = private_tokenizer(tokenizer)
        generation = model.generation_config
        self.start_id = _first(generation.decoder_start_token_id, model.config.decoder_start_token_id)
        self.end_ids = _several(generation.eos_token_id, model.config.eos_token_id)
        if self.start_id is None or not self.end_ids:
            raise OptionError(
                f"the configuration of {type(model).__name__} lacks decoder_start_token_id or eos_token_id.",
                hint="Set both on model.config; T5 has 0 and 1.",
            )
        # Multilingual models are told their language by it; T5 has none.
        self.first_id: int | None = generation.forced_bos_token_id
        self._pad_id = int(model.config.pad_token_id or 0)
        # Learned positions end; T5's relative ones do not.
        positions = getattr(model.config, "max_position_embeddings", None)
        self.n_positions = int(positions) if positions and model.config.model_type not in _RELATIVE else None
        short = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        self.counter = TokenizerCounter(self.engine, name or short.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1])
        # Its clean-up of spaces is for word pieces; with byte pairs it would eat spaces that were meant.
        self._clean_up = type(self.engine.model).__name__ != "BPE"

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return torch.device(self.model.device)

    def write(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> list[Written]:
        """Write greedily, in batches of similar length.

        Args:
            rows: (n_rows,) lists of ids.
            limits: (n_rows,), the most new tokens of each.

        Returns:
            (n_rows,) new ids.
        """
        written: list[list[int]] = [[] for _ in rows]
        ended = [False] * len(rows)
        for batch in length_buckets([len(row) for row in rows], self.batch_tokens):
            steps = self._steps([rows[index] for index in batch], [limits[index] for index in batch])
            for places, tokens in steps:
                for place, token in zip(places, tokens, strict=True):
                    if token in self.end_ids:
                        ended[batch[place]] = True
                    else:
                        written[batch[place]].append(token)
        return [Written(*each) for each in zip(written, ended, strict=True)]

    def stream(self, row: Sequence[int], limit: int) -> Iterator[str]:
        """Write greedily and hand over the text as it comes, word by word.

        Args:
            row: ids.
            limit: the most new tokens.

        Yields:
            Pieces of text; together what ``decode`` gives for ``write``.
        """
        ids: list[int] = []
        shown = ""
        for _, tokens in self._steps([row], [limit]):
            if tokens[0] in self.end_ids:
                break
            ids += tokens
            # The last word may grow, and the clean-up takes spaces away behind it: "is n ' t" becomes "isn't".
            stable = self.decode(ids).rsplit(" ", 2)[0]
            if len(stable) > len(shown) and stable.startswith(shown):
                yield stable[len(shown) :]
                shown = stable
        text = self.decode(ids)
        if len(text) > len(shown):
            yield text[len(shown) :]

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text, as the released script does.

        Args:
            ids: any number.

        Returns:
            Text without special tokens and without white space at its ends.
        """
        text = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=self._clean_up)
        return str(text).strip()

    def _steps(self, rows: Sequence[Sequence[int]], limits: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Decode a batch; yields the rows that are still at work and the new token of each."""
        ids, mask = pad(rows, self._pad_id, self.device)
        with torch.no_grad():
            states = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        active = list(range(len(rows)))
        assert self.start_id is not None
        newest = torch.full((len(rows), 1), self.start_id, device=self.device)
        cache: Any = None
        n_new = 0
        while active:
            with torch.no_grad():  # not around the yield, which would reach into the caller's code
                output = self.model(
                    encoder_outputs=(states,),
                    attention_mask=mask,
                    decoder_input_ids=newest,
                    past_key_values=cache,
                    use_cache=True,
                )
                cache = output.past_key_values
                logits = output.logits[:, -1]
                tokens = logits.argmax(dim=-1).tolist()
                # The place of a largest number among none is the first: padding, which would read as silence.
                if bool(logits.amax(dim=-1).isnan().any()):
                    raise InputError(
                        "the model gave scores that are not numbers.",
                        hint="T5 overflows in float16: load it with dtype='bfloat16' or 'float32'.",
                    )
            if n_new == 0 and self.first_id is not None:
                tokens = [self.first_id] * len(active)
            n_new += 1
            yield active, tokens
            kept = [
                place
                for place, token in enumerate(tokens)
                if token not in self.end_ids and n_new < limits[active[place]]
            ]
            if len(kept) < len(active):
                active = [active[place] for place in kept]
                if not active:
                    return
                chosen = torch.tensor(kept, device=self.device)
                states, mask = states[chosen], mask[chosen]
                cache.batch_select_indices(chosen)
                tokens = [tokens[place] for place in kept]
            newest = torch.tensor(tokens, device=self.device)[:, None]


def _first(*values: Any) -> int | None:
    return next((int(value) for value in values if value is not None), None)


def _several(*values: Any) -> frozenset[int]:
    for value in values:
        if value is not None:
            return frozenset(map(int, value if isinstance(value, (list, tuple)) else [value]))
    return frozenset()
