"""Decoders and compressors, built of a checkpoint's parts; every weight of them is checked before it is copied."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.errors import CheckpointError, OptionError
from ragcompress.latent.adapters import adapter_rank, add_adapters, copy_weights, load_adapter
from ragcompress.latent.backbone import Backbone
from ragcompress.latent.encoder import MemoryEncoder
from ragcompress.latent.loading import (
    build_from_config,
    find_base,
    finish,
    load_base,
    load_config,
    load_tokenizer,
    resize,
)
from ragcompress.latent.options import LoadOptions
from ragcompress.latent.parts import COMPRESSOR, Parts, setting
from ragcompress.latent.text import TemplateTokenizer, borrow_ends
from ragcompress.nn.connector import connector

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger("ragcompress")

SCORE_TOKEN = "<RR>"


def build_decoder(
    parts: Parts,
    options: LoadOptions,
    added: Sequence[str],
    adapter: str,
    key: str,
    rest: Mapping[str, Tensor] | None,
) -> tuple[Backbone, str, Path]:
    """Build the decoder with its adapters and trained embeddings; nothing of it is random.

    Args:
        parts: of the checkpoint.
        options: how weights are loaded.
        added: tokens that join the base vocabulary, in the published order.
        adapter: under which it generates.
        key: the setting that names the base model.
        rest: its other weights, where the checkpoint holds them; None: the base model's.

    Returns:
        The decoder, the name of its base model, and the folder that was read.

    Raises:
        CheckpointError: parts do not fit each other or the base model; says which.
    """
    named = setting(parts, key)
    if adapter not in parts.adapters:
        raise CheckpointError(f"{parts.folder} has no {adapter}; found {', '.join(sorted(parts.adapters)) or 'none'}.")
    folder, base = find_base(named, options.base, parts.folder, option="base", weights=rest is None)
    if options.base is not None and isinstance(named, str):
        base = named  # what it was trained on, wherever the copy lies
    tokenizer = load_tokenizer(parts.decoder_tokenizer or folder)
    if parts.layout == "clara-v1" and "qwen" in base.lower():
        borrow_ends(tokenizer)
    text = TemplateTokenizer(tokenizer, added, name=short_name(base))
    rows = {int(matrix.shape[0]) for matrix in parts.embeddings.values()}
    if rows != {len(text)}:
        raise CheckpointError(
            f"the embeddings in {parts.folder} have {' and '.join(map(str, sorted(rows)))} rows, but the tokenizer of "
            f"{folder} has {len(text) - len(added)} tokens and {len(added)} more are added.",
            hint=f"The checkpoint was trained on {named!r}; pass that as base=.",
        )
    ranks = {
        name: adapter_rank(weights, where=f"adapter {name!r} in {parts.folder}")
        for name, weights in parts.adapters.items()
    }
    declared = parts.settings.get("lora_r_decoder" if parts.layout == "pisco-v2" else "lora_r")
    for name, rank in ranks.items():
        if declared is not None and rank != declared:
            raise CheckpointError(
                f"adapter {name!r} in {parts.folder} has rank {rank}, but config.json says {declared}.",
                hint="One of the two files belongs to another checkpoint.",
            )
    if rest is not None and (options.quantization is not None or options.device_map is not None):
        raise OptionError("COCOM's checkpoints hold the whole decoder: quantization and device_map are not supported.")
    # A checkpoint that holds the whole decoder needs the base model's configuration alone.
    model = load_base(folder, options) if rest is None else build_from_config(load_config(folder), options)
    resize(model, len(text))
    if rest is not None:
        own = {name: each for name, each in model.state_dict().items() if name not in parts.embeddings}
        tied = {"lm_head.weight"} if "lm_head.weight" not in parts.embeddings else set()
        copy_weights({n: t for n, t in own.items() if n not in tied}, rest, where=str(parts.folder))
    _untie(model, parts)
    named_parameters = dict(model.named_parameters())
    embeddings = {name: tensor for name, tensor in parts.embeddings.items() if name in named_parameters}
    copy_weights(
        {name: named_parameters[name] for name in embeddings}, embeddings, where=f"the embeddings in {parts.folder}"
    )
    untied = "lm_head.weight" in named_parameters
    if untied and "lm_head.weight" not in parts.embeddings:
        raise CheckpointError(
            f"{parts.folder} holds no lm_head.weight, but the base model {folder} has a head of its own.",
            hint=f"The checkpoint was trained on {named!r}; pass that as base=.",
        )
    model.tie_weights()
    add_adapters(model, ranks)
    for name, weights in parts.adapters.items():
        load_adapter(model, name, weights, where=str(parts.folder))
    finish(model)
    return Backbone(model, text, adapter=adapter), base, folder


def _untie(model: Any, parts: Parts) -> None:  # noqa: ANN401 (any of transformers' models)
    """Give the head weights of its own where the checkpoint trained them apart from the embeddings."""
    import torch

    embedding, head = parts.embeddings.get("model.embed_tokens.weight"), parts.embeddings.get("lm_head.weight")
    own_head = model.get_output_embeddings()
    tied = own_head is not None and own_head.weight is model.get_input_embeddings().weight
    if not tied or embedding is None or head is None or torch.equal(embedding, head):
        return
    own_head.weight = torch.nn.Parameter(own_head.weight.detach().clone())
    model.config.tie_word_embeddings = False


def build_compressor(
    parts: Parts, options: LoadOptions, added: Sequence[str], width: int, trimmed: bool
) -> tuple[MemoryEncoder, TemplateTokenizer, str | None]:
    """Build a compressor of its own, with its connector.

    Args:
        parts: of the checkpoint.
        options: how weights are loaded.
        added: tokens that join its vocabulary.
        width: of the decoder.
        trimmed: whether it is made of some layers of its base model.

    Returns:
        The compressor, its tokenizer, and the name of its base model.

    Raises:
        CheckpointError: parts do not fit each other; says which.
    """
    import torch

    has_head = parts.score_head is not None
    named = (
        parts.settings["compr_base_model_name" if trimmed else "compr_model_name"]
        if parts.layout == "pisco-v1"
        else None
    )
    if parts.compressor_folder is not None and parts.layout == "pisco-v2":
        name = parts.settings.get("compressor_model_name")
        text = TemplateTokenizer(
            load_tokenizer(parts.compressor_tokenizer or parts.compressor_folder), [SCORE_TOKEN] * has_head
        )
        model = _from_state(parts, options, load_config(parts.compressor_folder), text)
    else:
        folder, name = parts.compressor_folder, str(named)
        if folder is None:
            # A compressor that was trained whole needs its base model's description alone (which may be gated).
            whole = parts.compressor_adapter is None
            folder, _ = find_base(
                named, options.compressor_base, parts.folder, option="compressor_base", weights=not whole
            )
        text = TemplateTokenizer(
            load_tokenizer(parts.compressor_tokenizer or folder),
            [*added, *[SCORE_TOKEN] * has_head],
            name=short_name(name),
        )
        if parts.compressor_adapter is not None and parts.compressor_folder is None:
            model = load_base(folder, options, headless=True)
            resize(model, len(text))
            matrix = {"embed_tokens.weight": model.get_input_embeddings().weight}
            copy_weights(matrix, parts.compressor or {}, where=f"the compressor's embeddings in {parts.folder}")
        else:
            config = load_config(folder)
            if trimmed and parts.compressor_folder is None:
                config = trimmed_config(config, parts.settings)
            keeps_norm = not trimmed or bool(parts.settings["compr_rms_norm"])
            model = _from_state(parts, options, config, text, final_norm=keeps_norm)
        if parts.compressor_adapter is not None:
            add_adapters(model, {COMPRESSOR: adapter_rank(parts.compressor_adapter, where=str(parts.folder))})
            load_adapter(model, COMPRESSOR, parts.compressor_adapter, where=str(parts.folder))
    finish(model)
    own_width = int(model.get_input_embeddings().weight.shape[1])
    device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
    link, head = None, None
    if parts.connector is not None:
        link = connector(
            own_width, int(parts.connector["0.weight"].shape[0]) if "0.weight" in parts.connector else 1, width
        )
        copy_weights(dict(link.named_parameters()), parts.connector, where=f"the connector in {parts.folder}")
        link = link.to(device, dtype).eval()
    elif own_width != width:
        raise CheckpointError(
            f"{parts.folder} has no connector, but its compressor has width {own_width} and its decoder {width}."
        )
    if parts.score_head is not None:
        head = torch.nn.Linear(own_width, 1)
        copy_weights(dict(head.named_parameters()), parts.score_head, where=f"the reranking head in {parts.folder}")
        head = head.to(device, dtype).eval()
    encoder = MemoryEncoder(
        model,
        pad_id=text.pad_id,
        adapter=COMPRESSOR if parts.compressor_adapter is not None else None,
        connector=link,
        score_head=head,
    )
    return encoder, text, name


def _from_state(
    parts: Parts,
    options: LoadOptions,
    config: Any,  # noqa: ANN401 (transformers' config)
    text: TemplateTokenizer,
    *,
    final_norm: bool = True,
) -> Any:  # noqa: ANN401
    """A compressor whose weights all come from the checkpoint: its base model is not loaded."""
    from torch import nn

    assert parts.compressor is not None
    model = build_from_config(config, options, headless=True)
    matrix = parts.compressor.get("embed_tokens.weight", parts.compressor.get("embeddings.word_embeddings.weight"))
    if matrix is not None and int(matrix.shape[0]) != len(text):
        raise CheckpointError(
            f"the compressor in {parts.folder} has {int(matrix.shape[0])} embeddings, but its tokenizer has "
            f"{len(text)} tokens.",
            hint="Pass the base model that it was trained on as compressor_base=.",
        )
    resize(model, len(text))
    if not final_norm:
        model.norm = nn.Identity()
    state = dict(parts.compressor)
    own = model.state_dict()
    # Released files may hold heads that nobody has described; what is needed is checked, what is not is named.
    surplus = sorted(set(state) - set(own))
    if surplus:
        logger.warning("the compressor in %s has weights that are not used: %s", parts.folder, ", ".join(surplus[:5]))
    copy_weights(
        own,
        {name: tensor for name, tensor in state.items() if name in own},
        where=f"the compressor in {parts.folder}",
        hint="Pass the base model that it was trained on as compressor_base=.",
    )
    return model


def kept_layers(n_layers: int, settings: Mapping[str, Any]) -> list[int]:
    """Which layers of a base model a trimmed compressor keeps (OSCAR, N-Layers).

    >>> kept_layers(6, {"compr_n_layers": 2})
    [0, 1]
    >>> kept_layers(6, {"compr_every_n_layer": 4})
    [0, 4]

    Args:
        n_layers: of the base model.
        settings: exactly one of ``compr_n_layers`` (the first ones) and ``compr_every_n_layer`` (index divisible).

    Returns:
        Indices, ascending; in the checkpoint they are renumbered from 0.

    Raises:
        OptionError: not exactly one of the two is set, or out of range.
    """
    first: int | None = settings.get("compr_n_layers")
    every: int | None = settings.get("compr_every_n_layer")
    if (first is None) == (every is None):
        raise OptionError(
            f"exactly one of compr_n_layers and compr_every_n_layer must be set, got {first!r} and {every!r}."
        )
    if first is not None:
        if not 1 <= first <= n_layers:
            raise OptionError(f"compr_n_layers = {first!r}, but the base model has {n_layers} layers.")
        return list(range(first))
    if every is None or not 1 <= every <= n_layers:
        raise OptionError(f"compr_every_n_layer = {every!r}, but the base model has {n_layers} layers.")
    return [index for index in range(n_layers) if index % every == 0]


def trimmed_config(config: Any, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401 (transformers' config)
    """The configuration of a compressor made of some layers of a base model.

    Args:
        config: of the base model; not changed.
        settings: see ``kept_layers``.

    Returns:
        A new configuration.

    Raises:
        CheckpointError: the settings name no layers of it.
    """
    try:
        kept = kept_layers(config.num_hidden_layers, settings)
    except OptionError as error:
        raise CheckpointError(f"the compressor cannot be trimmed: {error}") from error
    config = copy.deepcopy(config)
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in kept]
    return config


def short_name(name: str | None) -> str:
    """The last part of a path or a hub id.

    Args:
        name: of a model.

    Returns:
        E.g. ``"Mistral-7B-Instruct-v0.2"``.
    """
    return str(name or "").rstrip("/").rpartition("/")[2]
