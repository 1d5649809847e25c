"""Memory encoders: a compressor's inputs -> memory vectors in the decoder's embedding space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ragcompress.latent.adapters import active_adapter
from ragcompress.latent.formats import Row
from ragcompress.nn.batching import length_buckets, pad
from ragcompress.nn.memory_tokens import gather_memory

_BATCH_TOKENS_CPU = 512
_BATCH_TOKENS_GPU = 16_384


class EncodedRows(NamedTuple):
    """What a compressor made of its inputs.

    Attributes:
        memories: (n_rows,) tensors (n_slots, width), on the CPU.
        scores: (n_rows,) relevance, if the compressor has a reranking head.
    """

    memories: list[Tensor]
    scores: list[float] | None


class MemoryEncoder:
    """A transformer without its vocabulary projection, under one adapter or none, and maybe a connector.

    PISCO and COCOM use the decoder itself, OSCAR and the 2026 format a smaller model of its own.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        pad_id: int,
        adapter: str | None = None,
        connector: nn.Module | None = None,
        score_head: nn.Linear | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        """Take built objects.

        Args:
            model: gives ``last_hidden_state``; its final norm belongs to it, a vocabulary projection does not.
            pad_id: fills up the shorter rows of a batch.
            adapter: under which it runs; None: none.
            connector: from the model's width to the decoder's; None: they are the same.
            score_head: from the state behind the memory tokens to a relevance score; None: there is none.
            batch_tokens: padded size of a batch; None: by device.
        """
        self.model = model
        self.pad_id = pad_id
        self.adapter = adapter
        self.connector = connector
        self.score_head = score_head
        self.batch_tokens = batch_tokens
        # Padding stands on the right: under a causal mask nothing before it sees it, and no mask has to be built.
        self._needs_mask = not any(getattr(module, "is_causal", False) for module in model.modules())

    @property
    def device(self) -> torch.device:
        """Where the first weights are."""
        return next(self.model.parameters()).device

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Run the transformer; gradients flow if they are enabled.

        Args:
            ids: (batch, seq_len), padded on the right.
            mask: (batch, seq_len).

        Returns:
            (batch, seq_len, width of the compressor), after the final norm.
        """
        # Without an adapter the caller's choice must not reach a compressor that happens to have adapters.
        with active_adapter(self.adapter):
            found: Tensor = self.model(
                input_ids=ids, attention_mask=mask if self._needs_mask else None, use_cache=False
            ).last_hidden_state
        return found

    def forward(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor | None]:
        """Encode one batch; gradients flow if they are enabled.

        Args:
            rows: (batch,).

        Returns:
            Memory vectors (n_slots of all rows, width of the decoder) in row-major order, and scores (batch,) if
            there is a reranking head.
        """
        ids, mask = pad([row.ids for row in rows], self.pad_id, self.device)
        states = self.states(ids, mask)
        is_memory = torch.zeros_like(mask, dtype=torch.bool)
        for index, row in enumerate(rows):
            is_memory[index, : len(row.is_memory)] = torch.tensor(row.is_memory, device=mask.device)
        # A model that is spread over devices ends on another one than it begins on.
        is_memory, mask = is_memory.to(states.device), mask.to(states.device)
        vectors = gather_memory(states, is_memory)
        if self.connector is not None:
            vectors = self.connector(vectors)
        if self.score_head is None:
            return vectors, None
        last = mask.sum(dim=1) - 1
        scores = self.score_head(states[torch.arange(len(rows), device=last.device), last])
        return vectors, scores.squeeze(-1)

    def encode(self, rows: Sequence[Row], *, batch_tokens: int | None = None) -> EncodedRows:
        """Encode any number of inputs, in batches of similar length.

        Args:
            rows: (n_rows,).
            batch_tokens: padded size of a batch; None: the encoder's own.

        Returns:
            Memories and scores, in the order of the rows.
        """
        memories: list[Tensor | None] = [None] * len(rows)
        scores = [0.0] * len(rows)
        limit = (
            batch_tokens or self.batch_tokens or (_BATCH_TOKENS_CPU if self.device.type == "cpu" else _BATCH_TOKENS_GPU)
        )
        with torch.no_grad():
            for batch in length_buckets([len(row.ids) for row in rows], limit):
                vectors, found = self.forward([rows[index] for index in batch])
                parts = torch.split(vectors.cpu(), [sum(rows[index].is_memory) for index in batch])
                for index, part in zip(batch, parts, strict=True):
                    memories[index] = part.clone()  # a view would keep the whole batch alive in a store
                if found is not None:
                    for index, score in zip(batch, found.float().tolist(), strict=True):
                        scores[index] = score
        return EncodedRows(
            [memory for memory in memories if memory is not None], scores if self.score_head is not None else None
        )
