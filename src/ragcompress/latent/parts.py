"""What every published layout comes down to: settings and tables of tensors, from whichever files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

DECODER, ENCODER, SINGLE, COMPRESSOR = "decoder_adapter", "encoder_adapter", "default", "compr_adapter"
REASONER = "query_reasoner_adapter"


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """A checkpoint in memory, before a model is built of it.

    Attributes:
        folder: where it came from.
        layout: ``"pisco-v1"``, ``"clara-v1"``, ``"pisco-v2"`` or ``"cocom-v1"``.
        settings: the published configuration.
        adapters: of the decoder, by name: ``{"...q_proj.lora_A.weight": (r, in), ...}``.
        embeddings: ``model.embed_tokens.weight`` and, unless it is tied, ``lm_head.weight``: (vocabulary, width).
        compressor: state of a separate compressor, in the names of its transformer; None: there is none.
        compressor_folder: holds the configuration of a separate compressor; None: its base model does.
        compressor_adapter: LoRA matrices of a separate compressor that was not trained whole.
        connector: ``0.weight``, ``0.bias``, ``2.weight``, ``2.bias``; None: there is none.
        score_head: ``weight`` (1, width of the compressor) and ``bias`` (1,) of a reranking head.
        decoder_tokenizer: folder; None: the base model's.
        compressor_tokenizer: the same of a separate compressor.
        fingerprint: if the checkpoint states it, and its files are still those that it was stated of.
        base_fingerprint: of the base model that it was stated with; None: it has no other than its own.
    """

    folder: Path
    layout: str
    settings: Mapping[str, Any]
    adapters: Mapping[str, Mapping[str, Tensor]]
    embeddings: Mapping[str, Tensor]
    compressor: Mapping[str, Tensor] | None = None
    compressor_folder: Path | None = None
    compressor_adapter: Mapping[str, Tensor] | None = None
    connector: Mapping[str, Tensor] | None = None
    score_head: Mapping[str, Tensor] | None = None
    decoder_tokenizer: Path | None = None
    compressor_tokenizer: Path | None = None
    fingerprint: str | None = None
    base_fingerprint: str | None = None
    files: tuple[str, ...] = field(default=("*",))


def setting(parts_or_settings: Parts | Mapping[str, Any], name: str, where: Path | None = None) -> Any:  # noqa: ANN401
    """Read a setting that must be there.

    Args:
        parts_or_settings: a checkpoint, or its settings.
        name: of the setting.
        where: the checkpoint, for the error message.

    Returns:
        Its value.

    Raises:
        CheckpointError: ``config.json`` does not hold it.
    """
    settings = parts_or_settings.settings if isinstance(parts_or_settings, Parts) else parts_or_settings
    folder = parts_or_settings.folder if isinstance(parts_or_settings, Parts) else where
    if settings.get(name) is None:
        raise CheckpointError(f"config.json in {folder} has no {name!r}, which nothing else can tell.")
    return settings[name]


def whole_number(parts: Parts, name: str, *, at_least: int = 1) -> int:
    """Read a setting that must be a whole number.

    Args:
        parts: the checkpoint.
        name: of the setting.
        at_least: lower limit, included.

    Returns:
        The number.

    Raises:
        CheckpointError: it is missing or something else.
    """
    value = setting(parts, name)
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise CheckpointError(
            f"config.json in {parts.folder} has {name} = {value!r}; expected a whole number of at least {at_least}."
        )
    return value


# Settings by layout: type, and the value where the file is silent (the released classes' own defaults). A base model, a
# length or a rate has no default: guessing one would load without an error and answer nonsense.
_BOOL, _NUMBER, _NAME = (bool,), (int, type(None)), (str, type(None))
Settings = Mapping[str, tuple[tuple[type, ...], Any]]
_V1: Settings = {
    "sep": (_BOOL, False),
    "compr_model_name": (_NAME, None),
    "compr_n_layers": (_NUMBER, None),
    "compr_every_n_layer": (_NUMBER, None),
    "compr_base_model_name": (_NAME, "mistralai/Mistral-7B-Instruct-v0.2"),
    "compr_rms_norm": (_BOOL, False),
    "compr_use_mlp": (_BOOL, True),
    "compr_bidirectional": (_BOOL, False),
    "lora_r": (_NUMBER, 16),
    "lora_compressor": (_BOOL, False),
    "kbtc_training": (_BOOL, False),
    "different_mem_tokens": (_BOOL, False),
}
SETTINGS: Mapping[str, Settings] = {
    "pisco-v1": _V1,
    # CLaRa never builds a separate compressor, whatever its configuration names.
    "clara-v1": {**_V1, "compr_model_name": ((str, type(None)), None), "training_stage": ((str, type(None)), None)},
    "pisco-v2": {"lora_r_decoder": (_NUMBER, 64), "compressor_model_name": (_NAME, None)},
    "cocom-v1": {"sep": (_BOOL, False), "lora_r": (_NUMBER, 16), "compr_model_name": (_NAME, None)},
}


def checked(settings: Mapping[str, Any], layout: str, where: Path) -> dict[str, Any]:
    """Fill in what a configuration leaves out, and refuse what has the wrong type.

    Args:
        settings: as read.
        layout: which one.
        where: the file, for the error message.

    Returns:
        The settings, complete.

    Raises:
        CheckpointError: a setting has the wrong type.
    """
    complete = dict(settings)
    for name, (types, default) in SETTINGS[layout].items():
        value = complete.setdefault(name, default)
        right = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        if not right:
            expected = " or ".join("null" if each is type(None) else each.__name__ for each in types)
            raise CheckpointError(f"{where} has {name} = {value!r}; expected {expected}.")
    return complete
