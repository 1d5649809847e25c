"""Loading and saving latent checkpoints in whichever layout they come."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ragcompress.checkpoints import contents, no_loading_bar, read_json, resolve, whole_folder
from ragcompress.devices import pick_device
from ragcompress.errors import CheckpointError, OptionError
from ragcompress.latent import _own_layout, _v1_layout, _v2_layout
from ragcompress.latent.adapters import adapter_parameters
from ragcompress.latent.assemble import assemble
from ragcompress.latent.loading import has_weights
from ragcompress.latent.model import LatentModel
from ragcompress.latent.options import LoadOptions
from ragcompress.latent.parts import SINGLE
from ragcompress.options import check_choice

_PATTERNS = (
    "*.json",
    "*.pth",
    "*.pt",
    "*.safetensors",
    "base/*",
    "compressor/*",
    "compressor_tokenizer/*",
    "decoder_tokenizer/*",
)
# A decoder of seven billion parameters is not held twice because a compressor and a language model were both
# configured with it. Weak: it goes when the last of them does.
_SHARED: weakref.WeakValueDictionary[tuple[str, str], LatentModel] = weakref.WeakValueDictionary()
_LOADING = threading.Lock()


def load_latent(checkpoint: str | Path, options: LoadOptions, *, revision: str | None = None) -> LatentModel:
    """Load a published checkpoint, or one of ours; equal calls share one model while it is in use.

    Args:
        checkpoint: a folder, or a hub id with an optional sub-folder.
        options: how weights are loaded.
        revision: of a hub id.

    Returns:
        The model.

    Raises:
        CheckpointError: it cannot be found or does not fit; says what was looked for and what is there.
        OptionError: a device or a quantization does not exist here.
    """
    hint = "Pass a folder that holds the checkpoint."
    folder = resolve(
        checkpoint, revision=revision, allow_patterns=_PATTERNS, offline_hint=hint, complete=_complete
    ).resolve()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    stamps = [f"{path.relative_to(folder)}:{path.stat().st_mtime_ns}:{path.stat().st_size}" for path in files]
    # The same in other words is the same: a path or its text, a device or the one that None picks.
    normal = replace(
        options,
        device=pick_device(options.device),
        base=_same_place(options.base),
        compressor_base=_same_place(options.compressor_base),
    )
    place = (f"{folder}|{'|'.join(stamps)}", repr(normal))
    with _LOADING:
        model = _SHARED.get(place)
        if model is None:
            model = _load(folder, normal)
            _SHARED[place] = model
        return model


def _same_place(base: str | Path | None) -> str | None:
    if base is None:
        return None
    folder = Path(base).expanduser()
    return str(folder.resolve()) if folder.is_dir() else str(base)


def _complete(folder: Path) -> bool:
    """Whether a cached download holds what its layout needs."""
    if (folder / _own_layout.DESCRIPTION).is_file():
        return (folder / _own_layout.ADAPTERS).is_file() and (folder / _own_layout.EMBEDDINGS).is_file()
    if not (folder / "config.json").is_file():
        return False
    v1 = (_v1_layout.ADAPTERS, _v1_layout.EMBEDDINGS)
    v2 = (_v2_layout.DECODER_STATE, _v2_layout.CONNECTOR, f"{_v2_layout.COMPRESSOR}/config.json")
    settings = read_json(folder / "config.json")
    separate = isinstance(settings, dict) and settings.get("compr_model_name") is not None
    if separate and not list(folder.glob("compressor/*.pth")):
        return False
    return any(all((folder / name).is_file() for name in names) for names in (v1, v2)) or has_weights(folder)


def _load(folder: Path, options: LoadOptions) -> LatentModel:
    if (folder / _own_layout.DESCRIPTION).is_file():
        return assemble(_own_layout.read(folder), options)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} has no config.json (or {_own_layout.DESCRIPTION}).", hint=contents(folder))
    settings = read_json(folder / "config.json")
    if not isinstance(settings, Mapping):
        raise CheckpointError(f"{folder / 'config.json'} holds {type(settings).__name__}; expected an object.")
    kind = settings.get("model_type")
    if kind == "PISCO":
        return assemble(_v2_layout.read(folder, settings), options)
    if kind == "COCOM" and "doc_max_length" not in settings and not (folder / _v1_layout.ADAPTERS).exists():
        parts, rest = _v1_layout.read_cocom(folder, settings)
        return assemble(parts, options, rest)
    if kind in ("COCOM", "CLaRa"):
        layout = "pisco-v1" if kind == "COCOM" else "clara-v1"
        return assemble(_v1_layout.read(folder, settings, layout=layout), options)
    raise CheckpointError(
        f"config.json in {folder} has model_type {kind!r}; expected 'COCOM' (PISCO, OSCAR and COCOM of 2024 and 2025), "
        "'PISCO' (the 2026 format) or 'CLaRa'.",
        hint=contents(folder),
    )


def save_latent(
    model: LatentModel,
    folder: str | Path,
    *,
    layout: Literal["ragcompress", "published"] = "ragcompress",
    include_base: bool | None = None,
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint, all or nothing.

    Args:
        model: what to write.
        folder: must not exist, or be empty.
        layout: ``"ragcompress"``: safetensors and JSON; ``"published"``: the files that the authors' own code reads
            (PISCO and OSCAR of 2025, or of 2026, as the model was loaded).
        include_base: whether our layout brings the base model's weights along; None: only if they lie nowhere else.
        extra: further text files by name; only in our own layout.

    Raises:
        CheckpointError: there is something in the folder already.
        OptionError: the model has no published layout that could hold it.
    """
    check_choice("layout", layout, ("ragcompress", "published"))
    if layout == "published" and (model.layout == "cocom-v1" or model.encoder.score_head is not None):
        what = "COCOM's layout, with the whole base model inside," if model.layout == "cocom-v1" else "a reranking head"
        raise OptionError(f"{what} is not written in the published layout.", hint="Use layout='ragcompress'.")
    if model.layout == "cocom-v1" and not include_base:
        _require_plain_base(model)
    writers = {"pisco-v1": _write_v1, "clara-v1": _write_v1, "pisco-v2": _write_v2}
    with whole_folder(Path(folder)) as draft, no_loading_bar():
        if layout == "ragcompress":
            with_base = _own_layout.base_is_inside(model) if include_base is None else include_base
            _own_layout.write(model, draft, include_base=with_base)
            for name, content in (extra or {}).items():
                (draft / name).write_text(content, encoding="utf-8")
        else:
            writers[model.layout](model, draft)


def _require_plain_base(model: LatentModel) -> None:
    """Our layout leaves the base model out, so the one inside of the checkpoint has to be the named one."""
    from ragcompress.checkpoints import fingerprint_tensors
    from ragcompress.latent.loading import load_base

    if model.base_folder is None:
        return
    base = load_base(model.base_folder, LoadOptions(device="cpu"))
    keys = ("model.layers.0.mlp.down_proj.weight", "model.norm.weight")
    ours = {name.replace(".base_layer.", "."): each for name, each in model.decoder.model.state_dict().items()}
    theirs = base.state_dict()
    for key in keys:
        if fingerprint_tensors({key: ours[key].float()}) != fingerprint_tensors({key: theirs[key].float()}):
            raise CheckpointError(f"the checkpoint's own {key} is not that of its base model {model.base!r}.")


def _write_v1(model: LatentModel, draft: Path) -> None:
    import torch

    names = _own_layout.adapter_names(model)
    adapters = {
        name: {key: each.detach().cpu().clone() for key, each in adapter_parameters(model.decoder.model, name).items()}
        for name in names
    }
    torch.save(adapters, draft / _v1_layout.ADAPTERS)
    embeddings = {key: each.detach().cpu().clone() for key, each in _own_layout.embedding_table(model).items()}
    torch.save(embeddings, draft / _v1_layout.EMBEDDINGS)
    encoder = model.encoder
    if encoder.model is not model.decoder.inner:
        (draft / "compressor").mkdir()
        trimmed = model.settings.get("compr_model_name") == _v1_layout.TRIMMED
        if trimmed or encoder.adapter is not None:
            raise OptionError(
                "trimmed and LoRA compressors are not written in the published layout.",
                hint="Use layout='ragcompress'.",
            )
        torch.save(_cpu(encoder.model.state_dict()), draft / _v1_layout.COMPRESSOR)
        if encoder.connector is not None:
            torch.save(_cpu(encoder.connector.state_dict()), draft / _v1_layout.CONNECTOR)
    _write_settings(model, draft)


def _write_v2(model: LatentModel, draft: Path) -> None:
    import torch
    import transformers

    state: dict[str, Any] = {}
    for key, tensor in _own_layout.embedding_table(model).items():
        module = key.removesuffix(".weight")
        for kind in (_v2_layout.ORIGINAL, _v2_layout.TRAINED):
            state[f"{module}.{kind}"] = tensor.detach().cpu().clone()
    for key, tensor in adapter_parameters(model.decoder.model, SINGLE).items():
        state[key.replace(".weight", f".{SINGLE}.weight")] = tensor.detach().cpu().clone()
    torch.save(state, draft / _v2_layout.DECODER_STATE)
    assert model.encoder.connector is not None
    torch.save(_cpu(model.encoder.connector.state_dict()), draft / _v2_layout.CONNECTOR)
    inner: Any = model.encoder.model
    # The authors' code loads a causal language model; its vocabulary projection is never used.
    loader: Any = transformers.AutoModelForCausalLM
    whole = loader.from_config(inner.config, dtype=next(inner.parameters()).dtype)
    getattr(whole, whole.base_model_prefix).load_state_dict(inner.state_dict())
    whole.save_pretrained(draft / _v2_layout.COMPRESSOR)
    model.encoder_text.tokenizer.save_pretrained(draft / _v2_layout.COMPRESSOR_TOKENIZER)
    model.decoder.text.tokenizer.save_pretrained(draft / _v2_layout.DECODER_TOKENIZER)
    _write_settings(model, draft)


def _cpu(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def _write_settings(model: LatentModel, draft: Path) -> None:
    # Names of remote code have no business in a file that we write.
    settings = {name: value for name, value in model.settings.items() if name != "auto_map"}
    (draft / "config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
