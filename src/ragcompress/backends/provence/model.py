"""The encoder with its two heads: a relevance score for the pair, a keep probability for every token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from ragcompress.errors import OptionError
from ragcompress.nn.pooling import first_token, masked_mean

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_POOLINGS = {"cls": first_token, "mean": masked_mean}


class Scored(NamedTuple):
    """What the model says of a batch.

    Attributes:
        scores: (batch,), unbounded.
        keep: (batch, seq_len), from 0 to 1; meaningless on padding.
    """

    scores: Tensor
    keep: Tensor


class RankingHead(nn.Module):
    """Dense layer, activation, a norm in some families, and the outputs, of which the first is the score."""

    def __init__(
        self, width: int, n_outputs: int, activation: str, *, bias: bool = True, norm: nn.Module | None = None
    ) -> None:
        """Build random layers.

        Args:
            width: of the states.
            n_outputs: rows of the last layer; released checkpoints have one.
            activation: as transformers names it.
            bias: whether the dense layer has one.
            norm: between the activation and the last layer; None: nothing.
        """
        from transformers.activations import ACT2FN

        super().__init__()
        self.dense = nn.Linear(width, width, bias=bias)
        self.activation = ACT2FN[activation]
        self.norm = norm
        self.output = nn.Linear(width, n_outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        """Score pooled states.

        Args:
            pooled: (batch, width).

        Returns:
            (batch,).
        """
        states = self.activation(self.dense(pooled))
        if self.norm is not None:
            states = self.norm(states)
        scores: Tensor = self.output(states)[:, 0]
        return scores


class ProvenceModel(nn.Module):
    """An encoder of transformers with a ranking head over its first state and a two-way head over every state.

    The architecture is the paper's (arXiv 2501.16214, section 3) on any encoder.

    Attributes:
        backbone: an encoder of transformers.
        ranking_head: scores the pooled state.
        token_head: drop or keep, for every token.
        layout: name of the published layout that the weights are saved in.
        pooling: ``"cls"`` or ``"mean"``.
        max_length: tokens of a window, as the checkpoint was made; at most ``max_positions``.
    """

    def __init__(
        self, backbone: PreTrainedModel, ranking_head: RankingHead, *, layout: str, pooling: str = "cls"
    ) -> None:
        """Take built objects; ``_checkpoint.load`` reads them from a folder.

        Args:
            backbone: an encoder of transformers.
            ranking_head: what scores the pooled state.
            layout: name of the published layout that the weights are saved in.
            pooling: ``"cls"`` or ``"mean"``.
        """
        super().__init__()
        self.backbone = backbone
        self.ranking_head = ranking_head
        self.token_head = nn.Linear(int(backbone.config.hidden_size), 2)
        self.layout = layout
        self.pooling = pooling
        self.max_length = self.max_positions
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.token_head.weight.device

    @property
    def max_positions(self) -> int:
        """The longest input."""
        return max_positions(self.backbone.config)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Scored:
        """Score pairs and their tokens.

        Args:
            input_ids: (batch, seq_len).
            attention_mask: (batch, seq_len), 0 on padding.

        Returns:
            Scores and keep probabilities, in float32.
        """
        states = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        scores = self.ranking_head(_POOLINGS[self.pooling](states, attention_mask))
        return Scored(scores.float(), keep_probabilities(self.token_head(states)))


def keep_probabilities(logits: Tensor) -> Tensor:
    """Turn the token head's logits into probabilities.

    Args:
        logits: (batch, seq_len, 2): drop, keep.

    Returns:
        (batch, seq_len), float32.
    """
    return logits.float().softmax(dim=-1)[..., 1]


def max_positions(config: PretrainedConfig) -> int:
    """The longest input that an encoder reads.

    Args:
        config: of transformers.

    Returns:
        Tokens; RoBERTa's family counts positions from behind the padding id.
    """
    positions = int(config.max_position_embeddings)
    if config.model_type == "xlm-roberta":
        return positions - int(config.pad_token_id or 0) - 1
    return positions


@dataclass(frozen=True, slots=True)
class Family:
    """An architecture, by the names of its classes in transformers.

    Attributes:
        config_class: of the configuration.
        model_class: of the encoder.
        arguments: of the encoder, beside the configuration.
        fields: of the configuration, beside ``_FIELDS``, that say what the encoder is.
    """

    config_class: str
    model_class: str
    arguments: Mapping[str, Any]
    fields: frozenset[str]


_FIELDS = frozenset({
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "initializer_range",
    "max_position_embeddings", "pad_token_id", "bos_token_id", "eos_token_id",
})  # fmt: skip
_BERT_FIELDS = {
    "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "type_vocab_size", "layer_norm_eps",
}  # fmt: skip
FAMILIES = {
    "deberta-v2": Family("DebertaV2Config", "DebertaV2Model", {}, frozenset({
        *_BERT_FIELDS, "attention_head_size", "conv_act", "conv_groups", "conv_kernel_size", "embedding_size", "legacy",
        "max_relative_positions", "norm_rel_ebd", "pooler_dropout", "pooler_hidden_act", "pooler_hidden_size",
        "pos_att_type", "position_biased_input", "position_buckets", "relative_attention", "share_att_key",
    })),
    "xlm-roberta": Family("XLMRobertaConfig", "XLMRobertaModel", {"add_pooling_layer": False}, frozenset({
        *_BERT_FIELDS, "classifier_dropout",
    })),
    "modernbert": Family("ModernBertConfig", "ModernBertModel", {}, frozenset({
        "attention_bias", "attention_dropout", "classifier_activation", "classifier_bias", "classifier_dropout",
        "classifier_pooling", "cls_token_id", "decoder_bias", "embedding_dropout", "global_attn_every_n_layers",
        "global_rope_theta", "hidden_activation", "initializer_cutoff_factor", "layer_types", "local_attention",
        "local_rope_theta", "mlp_bias", "mlp_dropout", "norm_bias", "norm_eps", "rope_parameters", "rope_scaling",
        "sep_token_id",
    })),
}  # fmt: skip


def build_config(family: str, values: Mapping[str, Any]) -> PretrainedConfig:
    """Build an encoder's configuration from what says how it is built.

    All else is left out: some fields have transformers fetch and run kernels, others change what the encoder returns.

    Args:
        family: of ``FAMILIES``.
        values: fields of the configuration.

    Returns:
        The configuration of transformers.
    """
    import transformers

    known = _FIELDS | FAMILIES[family].fields
    own = {name: value for name, value in values.items() if name in known}
    config: PretrainedConfig = getattr(transformers, FAMILIES[family].config_class)(**own)
    return config


def build_model(
    config: PretrainedConfig, *, n_outputs: int, layout: str, weights: Mapping[str, Tensor] | None = None
) -> ProvenceModel:
    """Build a model.

    Args:
        config: of the encoder; its ``model_type`` names the family.
        n_outputs: rows of the ranking head's last layer.
        layout: see ``ProvenceModel``.
        weights: of the whole model, complete; None: random.

    Returns:
        The model, on the CPU, in float32.

    Raises:
        OptionError: no such family.
    """
    import transformers

    family = FAMILIES.get(config.model_type)
    if family is None:
        raise OptionError(f"provence runs on {', '.join(FAMILIES)}, not on {config.model_type!r}.")
    model_class = getattr(transformers, family.model_class)
    if weights is None:
        backbone = model_class(config, **family.arguments)
    else:
        own = {key.removeprefix("backbone."): weights[key] for key in weights if key.startswith("backbone.")}
        # Through from_pretrained, so that no time is lost on random weights.
        backbone = model_class.from_pretrained(
            None, config=config, state_dict=own, dtype=torch.float32, **family.arguments
        )
    model = ProvenceModel(backbone, _ranking_head(config, n_outputs), layout=layout, pooling=_pooling(config))
    if weights is not None:
        rest = {key: tensor.float() for key, tensor in weights.items() if not key.startswith("backbone.")}
        model.load_state_dict(rest, strict=False)
    return model


def _pooling(config: PretrainedConfig) -> str:
    return str(getattr(config, "classifier_pooling", None) or "cls") if config.model_type == "modernbert" else "cls"


def _ranking_head(config: PretrainedConfig, n_outputs: int) -> RankingHead:
    width = int(config.hidden_size)
    if config.model_type == "deberta-v2":
        return RankingHead(width, n_outputs, str(getattr(config, "pooler_hidden_act", None) or "gelu"))
    if config.model_type == "xlm-roberta":
        return RankingHead(width, n_outputs, "tanh")
    norm = nn.LayerNorm(width, eps=config.norm_eps, bias=config.norm_bias)
    return RankingHead(width, n_outputs, config.classifier_activation, bias=config.classifier_bias, norm=norm)
