"""Our own layout: safetensors and JSON, no pickle, tokenizers included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.checkpoints import fingerprint_folder, no_loading_bar, read_json
from ragcompress.errors import CheckpointError
from ragcompress.latent.adapters import adapter_parameters
from ragcompress.latent.files import read_table, write_table
from ragcompress.latent.loading import OWN_BASE, base_fingerprint
from ragcompress.latent.parts import COMPRESSOR, SETTINGS, Parts, checked

if TYPE_CHECKING:
    from torch import Tensor

    from ragcompress.latent.model import LatentModel

DESCRIPTION = "ragcompress.json"
FORMAT_VERSION = 1
ADAPTERS, EMBEDDINGS, CONNECTOR = "adapters.safetensors", "embeddings.safetensors", "connector.safetensors"
SCORE_HEAD, COMPRESSOR_FOLDER = "score_head.safetensors", "compressor"
COMPRESSOR_STATE = f"{COMPRESSOR_FOLDER}/model.safetensors"
COMPRESSOR_ADAPTER = f"{COMPRESSOR_FOLDER}/adapter.safetensors"
DECODER_TOKENIZER, COMPRESSOR_TOKENIZER = "decoder_tokenizer", "compressor_tokenizer"
WEIGHT_FILES = ("*.safetensors", "compressor/*", "base/*", "*_tokenizer/*")
FILES = (DESCRIPTION, "*.safetensors", "compressor/*", "*_tokenizer/*")


def read(folder: Path) -> Parts:
    """Read a folder in our layout.

    Args:
        folder: of the checkpoint.

    Returns:
        Its parts.

    Raises:
        CheckpointError: a file is missing or damaged, or a newer version wrote it.
    """
    told = read_json(folder / DESCRIPTION)
    if not isinstance(told, Mapping) or not isinstance(told.get("settings"), Mapping):
        raise CheckpointError(f"{folder / DESCRIPTION} does not describe a latent checkpoint.")
    if told.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} is written in format {told.get('format')!r}; this version reads {FORMAT_VERSION}.",
            hint="Upgrade ragcompress." if isinstance(told.get("format"), int) else None,
        )
    if told.get("layout") not in SETTINGS:
        raise CheckpointError(f"{folder / DESCRIPTION} names the unknown layout {told.get('layout')!r}.")
    adapters: dict[str, dict[str, Tensor]] = {}
    for name, tensor in read_table(folder / ADAPTERS).items():
        adapter, _, inner = name.partition("/")
        adapters.setdefault(adapter, {})[inner] = tensor
    separate = (folder / COMPRESSOR_FOLDER).is_dir()
    return Parts(
        folder=folder,
        layout=told["layout"],
        settings=checked(told["settings"], told["layout"], folder / DESCRIPTION),
        adapters=adapters,
        embeddings=read_table(folder / EMBEDDINGS),
        compressor=read_table(folder / COMPRESSOR_STATE) if separate else None,
        compressor_folder=folder / COMPRESSOR_FOLDER if separate else None,
        compressor_adapter=read_table(folder / COMPRESSOR_ADAPTER) if (folder / COMPRESSOR_ADAPTER).is_file() else None,
        connector=read_table(folder / CONNECTOR) if (folder / CONNECTOR).is_file() else None,
        score_head=read_table(folder / SCORE_HEAD) if (folder / SCORE_HEAD).is_file() else None,
        decoder_tokenizer=folder / DECODER_TOKENIZER,
        compressor_tokenizer=folder / COMPRESSOR_TOKENIZER if separate else None,
        fingerprint=told.get("fingerprint") if told.get("files") == fingerprint_folder(folder, WEIGHT_FILES) else None,
        base_fingerprint=told.get("base_files"),
        files=FILES,
    )


def write(model: LatentModel, draft: Path, *, include_base: bool) -> None:
    """Write a model's own weights.

    Args:
        model: what to write.
        draft: an empty folder.
        include_base: whether the base model's weights go with them, or stay where they are.
    """
    adapters = {
        f"{name}/{key}": tensor
        for name in adapter_names(model)
        for key, tensor in adapter_parameters(model.decoder.model, name).items()
    }
    write_table(draft / ADAPTERS, adapters)
    write_table(draft / EMBEDDINGS, embedding_table(model))
    model.decoder.text.tokenizer.save_pretrained(draft / DECODER_TOKENIZER)
    encoder = model.encoder
    if encoder.model is not model.decoder.inner:
        (draft / COMPRESSOR_FOLDER).mkdir()
        config: Any = encoder.model.config
        with no_loading_bar():
            config.save_pretrained(draft / COMPRESSOR_FOLDER)
        state = {name: each for name, each in encoder.model.state_dict().items() if ".lora_" not in name}
        write_table(draft / COMPRESSOR_STATE, {name.replace(".base_layer.", "."): each for name, each in state.items()})
        if encoder.adapter is not None:
            write_table(draft / COMPRESSOR_ADAPTER, dict(adapter_parameters(encoder.model, COMPRESSOR)))
        model.encoder_text.tokenizer.save_pretrained(draft / COMPRESSOR_TOKENIZER)
    if encoder.connector is not None:
        write_table(draft / CONNECTOR, encoder.connector.state_dict())
    if encoder.score_head is not None:
        write_table(draft / SCORE_HEAD, encoder.score_head.state_dict())
    if include_base:
        (draft / OWN_BASE).mkdir()
        decoder = model.decoder.model
        decoder.config.save_pretrained(draft / OWN_BASE)
        state = {name: each for name, each in decoder.state_dict().items() if ".lora_" not in name}
        if "lm_head.weight" not in embedding_table(model):
            state.pop("lm_head.weight", None)
        write_table(
            draft / OWN_BASE / "model.safetensors", {n.replace(".base_layer.", "."): t for n, t in state.items()}
        )
    described: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "layout": model.layout,
        "base": model.base,
        # The space of the vectors stays what it was, as long as these files and the base model do.
        "fingerprint": model.fingerprint,
        "files": fingerprint_folder(draft, WEIGHT_FILES),
        "base_files": None if include_base or model.base_folder is None else base_fingerprint(model.base_folder),
        "settings": dict(model.settings),
    }
    (draft / DESCRIPTION).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def base_is_inside(model: LatentModel) -> bool:
    """Whether the base model's weights lie nowhere but in this model, or in a checkpoint of ours.

    Args:
        model: loaded or built.

    Returns:
        Whether a checkpoint of it has to bring them along.
    """
    folder = model.base_folder
    return folder is None or (folder.name == OWN_BASE and (folder.parent / DESCRIPTION).is_file())


def adapter_names(model: LatentModel) -> list[str]:
    """Names of the decoder's adapters.

    Args:
        model: loaded.

    Returns:
        Sorted names.
    """
    from peft.tuners.lora import LoraLayer

    layers = (module for module in model.decoder.model.modules() if isinstance(module, LoraLayer))
    first = next(layers, None)
    return sorted(first.lora_A.keys()) if first is not None else []


def embedding_table(model: LatentModel) -> dict[str, Tensor]:
    """The decoder's embeddings and head by their published names; one of them where they are tied.

    Args:
        model: loaded.

    Returns:
        (vocabulary, width) each.
    """
    embedding: Tensor = model.decoder.model.get_input_embeddings().weight
    head: Tensor = model.decoder.model.get_output_embeddings().weight
    table = {"model.embed_tokens.weight": embedding}
    if head.data_ptr() != embedding.data_ptr():
        table["lm_head.weight"] = head
    return table
