"""The decoder: a causal language model with named adapters, embedded, run and decoded under one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ragcompress.errors import OptionError
from ragcompress.latent.adapters import active_adapter
from ragcompress.latent.text import TemplateTokenizer

if TYPE_CHECKING:
    from torch import nn


class Backbone:
    """A causal language model whose adapter is chosen by each forward pass.

    Attributes:
        model: the language model, adapters attached.
        text: its tokenizer, memory tokens added.
        adapter: under which it generates; None: none.
        base_generation: the base model's own generation settings; used only where a caller asks for them.
    """

    def __init__(self, model: Any, text: TemplateTokenizer, *, adapter: str | None = None) -> None:  # noqa: ANN401
        """Take built objects.

        Args:
            model: changed in place: its sampling defaults are set aside, since they differ from base to base.
            text: its tokenizer.
            adapter: under which it generates.

        Raises:
            OptionError: the embeddings are on no device.
        """
        import transformers

        settings: Any = transformers.GenerationConfig  # transformers leaves it without types
        if model.get_input_embeddings().weight.device.type == "meta":
            raise OptionError(
                "the embeddings were offloaded, where vectors cannot be put in their place.",
                hint="Keep model.embed_tokens and lm_head on a device in device_map.",
            )
        model.eval()
        self.model = model
        self.text = text
        self.adapter = adapter
        base = model.generation_config
        self.base_generation: dict[str, Any] = base.to_diff_dict() if base is not None else {}
        ends = base.eos_token_id if base is not None and base.eos_token_id is not None else None
        if ends is None:
            ends = text.tokenizer.eos_token_id
        self.end_ids = tuple(ends) if isinstance(ends, (list, tuple)) else () if ends is None else (int(ends),)
        model.generation_config = settings(
            eos_token_id=list(self.end_ids) or None, pad_token_id=text.pad_id, bos_token_id=text.tokenizer.bos_token_id
        )

    @property
    def inner(self) -> nn.Module:
        """The transformer without the vocabulary projection; its last hidden state is the one after the final norm."""
        inner: nn.Module = getattr(self.model, self.model.base_model_prefix)
        return inner

    @property
    def width(self) -> int:
        """Of an embedding."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return torch.device(self.model.get_input_embeddings().weight.device)

    @property
    def dtype(self) -> torch.dtype:
        """Of the embeddings."""
        dtype: torch.dtype = self.model.get_input_embeddings().weight.dtype
        return dtype

    @property
    def window(self) -> int:
        """How many positions the model reads."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 2048)

    def embed(self, ids: Tensor) -> Tensor:
        """Look up input embeddings.

        Args:
            ids: (batch, seq_len).

        Returns:
            (batch, seq_len, width).
        """
        found: Tensor = self.model.get_input_embeddings()(ids)
        return found

    def forward(self, inputs_embeds: Tensor, attention_mask: Tensor, **options: Any) -> Any:  # noqa: ANN401
        """Run the decoder under its adapter; gradients flow if they are enabled.

        Args:
            inputs_embeds: (batch, seq_len, width).
            attention_mask: (batch, seq_len).
            **options: of the model, e.g. ``labels``.

        Returns:
            The model's output: ``logits`` (batch, seq_len, vocabulary), maybe ``loss``.
        """
        with active_adapter(self.adapter):
            return self.model(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **options)

    def generate(self, inputs_embeds: Tensor, attention_mask: Tensor, **options: Any) -> Tensor:
        """Decode under the adapter.

        Args:
            inputs_embeds: (batch, seq_len, width), padded on the left.
            attention_mask: (batch, seq_len).
            **options: of ``transformers``' ``generate``.

        Returns:
            (batch, n_new_tokens) ids of what was written, filled up with the pad id.
        """
        with torch.no_grad(), active_adapter(self.adapter):
            found: Tensor = self.model.generate(inputs_embeds=inputs_embeds, attention_mask=attention_mask, **options)
        return found
