"""The layout of the 2026 rewrite of PISCO and OSCAR: file names, keys and defaults as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.errors import CheckpointError
from ragcompress.latent.files import inner_names, read_model, read_table
from ragcompress.latent.parts import SINGLE, Parts, checked

if TYPE_CHECKING:
    from torch import Tensor

DECODER_STATE, CONNECTOR, COMPRESSOR = "decoder_state.pt", "connector.pt", "compressor"
COMPRESSOR_TOKENIZER, DECODER_TOKENIZER = "compressor_tokenizer", "decoder_tokenizer"
MODULES = {"model.embed_tokens": "model.embed_tokens.weight", "lm_head": "lm_head.weight"}
# Trained copies of whole modules stand beside the untrained originals, which nobody needs.
TRAINED, ORIGINAL = "modules_to_save.default.weight", "original_module.weight"
FILES = ("config.json", DECODER_STATE, CONNECTOR, "compressor/*", "*_tokenizer/*")


def read(folder: Path, settings: Mapping[str, Any]) -> Parts:
    """Read the files.

    Args:
        folder: of the checkpoint.
        settings: its ``config.json``.

    Returns:
        Its parts.

    Raises:
        CheckpointError: a file is missing, damaged, or holds something else.
    """
    settings = checked(settings, "pisco-v2", folder / "config.json")
    state = {name.removeprefix("base_model.model."): each for name, each in read_table(folder / DECODER_STATE).items()}
    adapter: dict[str, Tensor] = {}
    embeddings: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if ".lora_" in name:
            adapter[name.replace(f".{SINGLE}.weight", ".weight")] = tensor
    for module, key in MODULES.items():
        for candidate in (f"{module}.{TRAINED}", key):
            if candidate in state:
                embeddings[key] = state[candidate]
                break
    known = {f"{module}.{kind}" for module in MODULES for kind in (TRAINED, ORIGINAL)} | set(MODULES.values())
    unknown = sorted(name for name in state if ".lora_" not in name and name not in known)
    if unknown or not adapter or "model.embed_tokens.weight" not in embeddings:
        raise CheckpointError(
            f"{folder / DECODER_STATE} has "
            + (f"unknown weights {', '.join(unknown[:3])}." if unknown else "no LoRA matrices or no embeddings."),
        )
    for name in (COMPRESSOR, COMPRESSOR_TOKENIZER, DECODER_TOKENIZER):
        if not (folder / name).is_dir():
            raise CheckpointError(f"{folder} has no folder {name}/.")
    return Parts(
        folder,
        "pisco-v2",
        settings,
        {SINGLE: adapter},
        embeddings,
        compressor=inner_names(read_model(folder / COMPRESSOR)),
        compressor_folder=folder / COMPRESSOR,
        connector=read_table(folder / CONNECTOR),
        decoder_tokenizer=folder / DECODER_TOKENIZER,
        compressor_tokenizer=folder / COMPRESSOR_TOKENIZER,
        files=FILES,
    )
