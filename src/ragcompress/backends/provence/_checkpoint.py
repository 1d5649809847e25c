"""Checkpoints on disk: an encoder's own ``config.json``, both heads under the published names, a fast tokenizer.

The published folders bring code of their own for transformers; none of it is run. Files are read here by name, and
every tensor must be there and have its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ragcompress import pretrained
from ragcompress.backends.provence._files import (
    WEIGHTS,
    check_length,
    check_vocabulary,
    read_tokenizer,
    read_weights,
)
from ragcompress.backends.provence.config import ProvenceConfig
from ragcompress.checkpoints import no_loading_bar, read_json, require, resolve, whole_folder
from ragcompress.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from ragcompress.backends.provence.model import ProvenceModel

FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    pretrained.SETTINGS_FILE,
    "model*.safetensors",
    "model.safetensors.index.json",
)
# Buffers that older versions of transformers saved.
UNUSED_KEYS = re.compile(r"(^|\.)position_ids$")
_HEADS = {"ranking_head.": "ranking head", "token_head.": "token head (keep or drop)"}
_MOST_KEYS = 5


@dataclass(frozen=True, slots=True)
class FileLayout:
    """How a family of checkpoints is written.

    Attributes:
        model_type: in the ``config.json`` that we write.
        architecture: as above.
        family: of ``model.FAMILIES``.
        prefixes: of our weights' names -> of those in the file.
        nested: field of ``config.json`` that holds the encoder's configuration; None: the file is it.
        options: of ``ProvenceConfig``, as these checkpoints were published.
    """

    model_type: str
    architecture: str
    family: str
    prefixes: Mapping[str, str]
    nested: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


# The second and the third layout follow descriptions; neither could be compared with released weights. A tensor that
# does not fit is refused by name, so nothing wrong can be loaded in silence.
LAYOUTS = {
    "provence": FileLayout(
        model_type="Provence",
        architecture="Provence",
        family="deberta-v2",
        prefixes={
            "backbone.": "deberta.",
            "ranking_head.dense.": "pooler.dense.",
            "ranking_head.output.": "classifier.",
            "token_head.": "token_classifier.",
        },
    ),
    "xprovence": FileLayout(
        model_type="XProvence",
        architecture="XProvence",
        family="xlm-roberta",
        prefixes={
            "backbone.": "roberta.",
            "ranking_head.dense.": "classifier.dense.",
            "ranking_head.output.": "classifier.out_proj.",
            "token_head.": "token_classifier.",
        },
        options={"threshold": 0.3},
    ),
    "open-provence": FileLayout(
        model_type="open_provence",
        architecture="OpenProvenceModel",
        family="modernbert",
        prefixes={
            "backbone.": "ranking_model.model.",
            "ranking_head.dense.": "ranking_model.head.dense.",
            "ranking_head.norm.": "ranking_model.head.norm.",
            "ranking_head.output.": "ranking_model.classifier.",
            "token_head.": "pruning_head.classifier.",
        },
        nested="base_model_config",
        options={"rounding": "probability-mean", "score_window": "best", "normalize_query": False},
    ),
}


class Loaded(NamedTuple):
    """What a folder holds.

    Attributes:
        model: on its device.
        tokenizer: a fast one.
        options: of ``ProvenceConfig``: what was saved with the checkpoint, else what was published.
    """

    model: ProvenceModel
    tokenizer: PreTrainedTokenizerBase
    options: Mapping[str, Any]


def find_folder(checkpoint: str | Path, revision: str | None) -> Path:
    """Find the folder of a checkpoint.

    Args:
        checkpoint: a folder or a hub id.
        revision: of a hub id.

    Returns:
        A folder.

    Raises:
        CheckpointError: it cannot be found.
    """
    return resolve(
        checkpoint,
        revision=revision,
        allow_patterns=FILES,
        fallback_patterns=pretrained.PICKLED_FILES,
        complete=_is_complete,
    )


def _is_complete(folder: Path) -> bool:
    """Whether a folder can be loaded: an earlier visit may have left a configuration without weights in the cache."""
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in WEIGHTS)


def load(folder: Path, *, device: str, dtype: str | None) -> Loaded:
    """Read a folder.

    Args:
        folder: of a checkpoint.
        device: where the weights go.
        dtype: of the weights; None: float32.

    Returns:
        Model, tokenizer and options.

    Raises:
        CheckpointError: files are missing or do not fit together; names the head or the weights.
        OptionError: unknown dtype.
    """
    import torch

    from ragcompress.backends.provence.model import build_config as encoder_config
    from ragcompress.backends.provence.model import build_model
    from ragcompress.nn.linear import use_onednn

    kind = pretrained.number_format(dtype)
    declared = read_json(require(folder, ("config.json",), "model configuration"))
    if not isinstance(declared, Mapping):
        raise CheckpointError(f"{folder / 'config.json'} holds {type(declared).__name__}; expected fields by name.")
    weights = read_weights(folder)
    name = _layout_of(folder, declared, weights)
    layout = LAYOUTS[name]
    values = declared if layout.nested is None else declared.get(layout.nested)
    if not isinstance(values, Mapping):
        raise CheckpointError(f"{folder / 'config.json'} has no {layout.nested!r}, the configuration of the encoder.")
    try:
        config = encoder_config(layout.family, values)
        outputs = weights.get(layout.prefixes["ranking_head.output."] + "weight")
        n_outputs = int(outputs.shape[0]) if outputs is not None and outputs.dim() == 2 else 1
        with torch.device("meta"):
            expected = build_model(config, n_outputs=n_outputs, layout=name).state_dict()
    except Exception as error:  # transformers raises whatever it met
        raise CheckpointError(
            f"{folder / 'config.json'} does not describe an encoder of the family {layout.family}: "
            f"{str(error) or type(error).__name__}."
        ) from error
    own = _own_names(folder, layout, weights, expected)
    with no_loading_bar():
        model = build_model(config, n_outputs=n_outputs, layout=name, weights=own).to(kind).to(device)
    use_onednn(model)
    tokenizer = read_tokenizer(folder)
    check_vocabulary(folder, tokenizer, int(config.vocab_size))
    model.max_length = check_length(
        folder / "config.json", "max_position_embeddings, without padding,", model.max_positions
    )
    limit = declared.get("max_length") if layout.nested is not None else None
    if limit is not None:
        model.max_length = min(model.max_length, check_length(folder / "config.json", "max_length", limit))
    model.max_length = min(model.max_length, int(tokenizer.model_max_length))
    return Loaded(model, tokenizer, {**layout.options, **pretrained.read_settings(folder, ProvenceConfig, "provence")})


def _layout_of(folder: Path, declared: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """The layout whose encoder is in the file."""
    for name, layout in LAYOUTS.items():
        if any(key.startswith(layout.prefixes["backbone."]) for key in weights):
            return name
    kinds = declared.get("architectures") or [declared.get("model_type") or "of an unknown kind"]
    known = " or ".join(f"{layout.prefixes['backbone.']}*" for layout in LAYOUTS.values())
    raise CheckpointError(
        f"{folder} is no Provence: the model is {', '.join(map(str, kinds))}, and its weights are called "
        f"{', '.join(sorted(weights)[:2]) or 'nothing'}; expected an encoder as {known} with two heads.",
        hint="A language model or a plain encoder cannot prune; try 'naver/provence-reranker-debertav3-v1'.",
    )


def _own_names(
    folder: Path, layout: FileLayout, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Weights under our names; missing, surplus and misshapen ones are an error."""
    in_file = {key: file_name(layout, key) for key in expected}
    missing = {key: theirs for key, theirs in in_file.items() if theirs not in weights}
    for prefix, head in _HEADS.items():
        wanted = [key for key in in_file if key.startswith(prefix)]
        if all(key in missing for key in wanted):
            raise CheckpointError(
                f"the weights in {folder} have no {head}: {', '.join(missing[key] for key in wanted)} are missing.",
                hint="A reranker cannot prune and a token classifier cannot rank; Provence was trained for both.",
            )
    surplus = sorted(key for key in weights.keys() - set(in_file.values()) if not UNUSED_KEYS.search(key))
    wrong = [
        f"{theirs} ({tuple(weights[theirs].shape)}, expected {tuple(expected[key].shape)})"
        for key, theirs in in_file.items()
        if theirs in weights and weights[theirs].shape != expected[key].shape
    ]
    for keys, what in (
        (sorted(missing.values()), "lack"),
        (surplus, "have, beyond what the model uses,"),
        (wrong, "have other shapes for"),
    ):
        if keys:
            more = f" and {len(keys) - _MOST_KEYS} more" if len(keys) > _MOST_KEYS else ""
            raise CheckpointError(
                f"the weights in {folder} {what} {', '.join(keys[:_MOST_KEYS])}{more}.",
                hint="Is it a checkpoint of Provence, and complete?",
            )
    return {key: weights[theirs] for key, theirs in in_file.items()}


def file_name(layout: FileLayout, key: str) -> str:
    """Name of a weight in a file.

    >>> file_name(LAYOUTS["provence"], "ranking_head.output.bias")
    'classifier.bias'

    Args:
        layout: of the file.
        key: our name.

    Returns:
        The published name.
    """
    prefix = next(prefix for prefix in layout.prefixes if key.startswith(prefix))
    return layout.prefixes[prefix] + key.removeprefix(prefix)


def save(model: ProvenceModel, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any], folder: Path) -> None:
    """Write the published layout plus our options, all or nothing.

    Args:
        model: what to write.
        tokenizer: the encoder's.
        settings: JSON-safe options.
        folder: must not exist, or be empty.

    Raises:
        CheckpointError: there is something in the folder already.
    """
    from safetensors.torch import save_file

    layout = LAYOUTS[model.layout]
    values = json.loads(model.backbone.config.to_json_string(use_diff=False))
    outer = {"architectures": [layout.architecture], "model_type": layout.model_type}
    if layout.nested is None:
        config = {**values, **outer}
    else:
        config = {layout.nested: values, "max_length": model.max_length, **outer}
    tensors = {file_name(layout, key): tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    with whole_folder(folder) as draft:
        save_file(tensors, draft / "model.safetensors", metadata={"format": "pt"})
        tokenizer.save_pretrained(draft)
        for name, value in (("config.json", config), (pretrained.SETTINGS_FILE, settings)):
            (draft / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
