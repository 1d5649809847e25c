"""The hub layout of PISCO and OSCAR (2025), and COCOM's (2024): file names, keys and defaults as data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.checkpoints import contents
from ragcompress.errors import CheckpointError
from ragcompress.latent.files import as_table, inner_names, read_model, read_table, read_tensors
from ragcompress.latent.parts import DECODER, ENCODER, REASONER, SINGLE, Parts, checked

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger("ragcompress")

ADAPTERS = "adapters.pth"
EMBEDDINGS = "decoder_first_last_layers.pth"
COMPRESSOR, CONNECTOR = "compressor/compressor.pth", "compressor/mlp.pth"
COMPRESSOR_EMBEDDINGS, COMPRESSOR_ADAPTERS = "compressor/first_layer.pth", "compressor/compressor_adapters.pth"
TRIMMED = "mistral_trimmed"  # not only for Mistral, whatever the name says
TRIMMED_PREFIX = "custom_model."
COCOM_PREFIX = "decoder.base_model.model."
EMBEDDING_KEYS = ("model.embed_tokens.weight", "lm_head.weight")
FILES = ("config.json", ADAPTERS, EMBEDDINGS, "compressor/*.pth")


def read(folder: Path, settings: Mapping[str, Any], *, layout: str = "pisco-v1") -> Parts:
    """Read PISCO's, OSCAR's or CLaRa's files.

    Args:
        folder: of the checkpoint.
        settings: its ``config.json``.
        layout: ``"pisco-v1"`` or ``"clara-v1"``.

    Returns:
        Its parts.

    Raises:
        CheckpointError: a file is missing, damaged, or holds something else.
    """
    settings = checked(settings, layout, folder / "config.json")
    known = (DECODER, ENCODER, REASONER) if layout == "clara-v1" else (DECODER, ENCODER)
    embeddings = read_table(folder / EMBEDDINGS)
    if EMBEDDING_KEYS[0] not in embeddings or set(embeddings) - set(EMBEDDING_KEYS):
        raise CheckpointError(
            f"{folder / EMBEDDINGS} holds {', '.join(sorted(embeddings)) or 'nothing'}; expected "
            f"{' and '.join(EMBEDDING_KEYS)} (only the first where they are tied)."
        )
    adapters = _read_adapters(folder / ADAPTERS, embeddings, known)
    if settings["compr_model_name"] is None or layout == "clara-v1":
        return Parts(folder, layout, settings, adapters, embeddings, files=FILES)
    connector = read_table(folder / CONNECTOR) if settings["compr_use_mlp"] else None
    if settings["lora_compressor"]:
        return Parts(
            folder,
            "pisco-v1",
            settings,
            adapters,
            embeddings,
            compressor=_only_embedding(read_table(folder / COMPRESSOR_EMBEDDINGS), folder),
            compressor_adapter=inner_names(read_table(folder / COMPRESSOR_ADAPTERS), TRIMMED_PREFIX),
            connector=connector,
            files=FILES,
        )
    state = read_table(folder / COMPRESSOR)
    return Parts(
        folder,
        "pisco-v1",
        settings,
        adapters,
        embeddings,
        inner_names(state, TRIMMED_PREFIX),
        connector=connector,
        files=FILES,
    )


def _only_embedding(state: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    found = [tensor for name, tensor in state.items() if name.endswith("embed_tokens.weight")]
    if len(found) != 1:
        raise CheckpointError(f"{folder / COMPRESSOR_EMBEDDINGS} holds {sorted(state)}; expected one embedding matrix.")
    return {"embed_tokens.weight": found[0]}


def _read_adapters(path: Path, embeddings: Mapping[str, Tensor], known: Sequence[str]) -> dict[str, dict[str, Tensor]]:
    import torch

    found = read_tensors(path)
    if not isinstance(found, Mapping) or not found:
        raise CheckpointError(f"{path} holds {type(found).__name__}; expected adapters by name.")
    adapters = {}
    for name, table in found.items():
        weights = as_table(table, f"adapter {name!r} in {path}")
        # Some savers add the embedding matrices to every adapter; they must then be the ones that the checkpoint has.
        for key in EMBEDDING_KEYS:
            extra = weights.pop(key, None)
            expected = embeddings.get(key)
            if extra is None or expected is None:
                continue
            if extra.shape != expected.shape or not torch.allclose(extra.float(), expected.float(), atol=1e-3):
                raise CheckpointError(
                    f"adapter {name!r} in {path} brings another {key} than {EMBEDDINGS} holds; one of the two files "
                    "belongs to another checkpoint."
                )
        adapters[str(name)] = weights
    unknown = sorted(set(adapters) - set(known))
    if unknown:
        hint = "CLaRa's checkpoints have it: rc.load('clara', ...)." if REASONER in unknown else None
        raise CheckpointError(
            f"{path} has unknown adapters {', '.join(unknown)}; expected {' and '.join(known)}.", hint=hint
        )
    return adapters


def read_cocom(folder: Path, settings: Mapping[str, Any]) -> tuple[Parts, dict[str, Tensor]]:
    """Read COCOM's files, which hold the whole decoder.

    Args:
        folder: of the checkpoint.
        settings: its ``config.json``.

    Returns:
        Parts, and the decoder's other weights in the names of the base model.

    Raises:
        CheckpointError: a file is missing or damaged, or it is a variant that is not read.
    """
    if settings.get("compr_model_name") is not None:
        raise CheckpointError(
            f"{folder} is a COCOM-light checkpoint (its compressor is {settings['compr_model_name']!r}), which is not "
            "supported.",
            hint="The COCOM checkpoints whose decoder compresses are.",
        )
    state = read_model(folder)
    adapter, embeddings, rest = {}, {}, {}
    for name, tensor in state.items():
        inner = name.removeprefix(COCOM_PREFIX)
        if inner == name:
            raise CheckpointError(f"{folder} has the unknown weight {name!r}; expected names under {COCOM_PREFIX}.")
        if ".lora_" in inner:
            adapter[inner.replace(f".{SINGLE}.weight", ".weight")] = tensor
        elif inner in EMBEDDING_KEYS:
            embeddings[inner] = tensor
        else:
            rest[inner.replace(".base_layer.", ".")] = tensor
    if not adapter or EMBEDDING_KEYS[0] not in embeddings:
        raise CheckpointError(f"{folder} holds no LoRA matrices or no embeddings.", hint=contents(folder))
    settings = checked(settings, "cocom-v1", folder / "config.json")
    files = ("config.json", "*.safetensors", "*.safetensors.index.json")
    return Parts(folder, "cocom-v1", settings, {SINGLE: adapter}, embeddings, files=files), rest
