"""Memories that are shaped like hidden states, drawn at random, and questions that lie near some of them.

A flattened memory is ``scale * (common + sum_i sqrt(share_i) z_i direction_i + 0.3 noise)``:

* ``common``: one Gaussian vector, the same for all. Two documents have a cosine of about 0.5 by it alone.
* ``z``: 256 Gaussian numbers, a document's own; ``direction_i`` are Gaussian vectors, the same for all, and ``share_i``
  falls as 1 / sqrt(i) and sums to 1. So documents differ in few ways, the first of them more than the last.
* ``noise``: Gaussian, a document's own.
* ``scale``: 1; 20 in four channels, the same ones in all slots: outliers as hidden states have them.

A question is drawn like a document, but for ``z``: ``likeness`` times that of one document, its source, plus
``sqrt(1 - likeness ** 2)`` times new Gaussian numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_DIRECTIONS = 256
_NOISE = 0.3
_OUTLIERS, _OUTLIER_SCALE = 4, 20.0
BLOCK = 1000


@dataclass
class Synthetic:
    """Draws memories; equal arguments give equal memories.

    Attributes:
        slots: vectors of a memory.
        width: of each.
        seed: of everything.
        likeness: of the ``z`` of a question and of its source.
    """

    slots: int
    width: int
    seed: int = 0
    likeness: float = 0.5
    _common: Tensor = field(init=False, repr=False)
    _directions: Tensor = field(init=False, repr=False)
    _scale: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Draw what all documents share."""
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        n_numbers = self.slots * self.width
        share = torch.arange(1, _DIRECTIONS + 1).float() ** -0.5
        self._common = torch.randn(n_numbers, generator=generator)
        self._directions = torch.randn(_DIRECTIONS, n_numbers, generator=generator)
        self._directions *= (share / share.sum()).sqrt()[:, None]
        scale = torch.ones(self.width)
        scale[torch.randperm(self.width, generator=generator)[:_OUTLIERS]] = _OUTLIER_SCALE
        self._scale = scale.repeat(self.slots)

    def documents(self, block: int) -> Tensor:
        """Draw a block of documents.

        Args:
            block: its number; 0: documents 0 to 999.

        Returns:
            (BLOCK, slots, width) bfloat16.
        """
        import torch

        generator = torch.Generator().manual_seed(1_000_003 * (self.seed + 1) + block)
        return self._drawn(torch.randn(BLOCK, _DIRECTIONS, generator=generator), generator)

    def questions(self, n_questions: int) -> Tensor:
        """Draw questions; the source of question i is document i of block 0.

        Args:
            n_questions: at most BLOCK.

        Returns:
            (n_questions, slots, width) bfloat16.
        """
        import torch

        generator = torch.Generator().manual_seed(1_000_003 * (self.seed + 1))
        sources = torch.randn(BLOCK, _DIRECTIONS, generator=generator)[:n_questions]
        generator.manual_seed(1_000_003 * (self.seed + 1) - 1)
        new = torch.randn(n_questions, _DIRECTIONS, generator=generator)
        return self._drawn(self.likeness * sources + (1 - self.likeness**2) ** 0.5 * new, generator)

    def _drawn(self, own: Tensor, generator: object) -> Tensor:
        import torch

        noise = torch.randn(len(own), self.slots * self.width, generator=generator)  # type: ignore[call-overload]
        flat = self._scale * (self._common + own @ self._directions + _NOISE * noise)
        return flat.to(torch.bfloat16).reshape(len(own), self.slots, self.width)
