"""Language models that read prompts, from a folder, the hub or a GGUF file; never with remote code."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress import pretrained
from ragcompress.checkpoints import contents, fingerprint_folder, no_loading_bar, require, resolve
from ragcompress.errors import CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_TOKENIZER_FILES = (*pretrained.TOKENIZER_FILES, "vocab.json", "merges.txt", "tokenizer.model")
_GGUF = ".gguf"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is.

    Attributes:
        folder: exists.
        gguf_file: name of the file in it that is the model; None: the folder is.
        name: for reports: a hub id, or the last part of a path.
    """

    folder: Path
    gguf_file: str | None
    name: str

    @property
    def fingerprint(self) -> str:
        """Of the files that are read."""
        if self.gguf_file is not None:
            return fingerprint_folder(self.folder, (self.gguf_file,))
        patterns = ("config.json", *pretrained.weight_files(self.folder), *_TOKENIZER_FILES)
        return fingerprint_folder(self.folder, patterns)


def locate(checkpoint: str | Path, *, revision: str | None = None, gguf_file: str | None = None) -> Place:
    """Find a model.

    Args:
        checkpoint: a folder, a hub id, or a GGUF file (a path, or a hub id followed by its name). A folder that holds
            one GGUF file and no ``config.json`` stands for that file.
        revision: of a hub id.
        gguf_file: name of a GGUF file in the folder.

    Returns:
        Where it is.

    Raises:
        CheckpointError: there is no such folder, id or file, or several files to choose from.
    """
    text = str(checkpoint)
    if text.endswith(_GGUF) and gguf_file is None and not Path(text).expanduser().is_dir():
        parent, _, gguf_file = text.replace("\\", "/").rpartition("/")
        checkpoint = parent or "."
        beside = Path(checkpoint).expanduser()
        if beside.is_dir() and not (beside / gguf_file).is_file():
            there = ", ".join(sorted(path.name for path in beside.glob(f"*{_GGUF}"))) or "none"
            raise CheckpointError(f"{text} does not exist.", hint=f"GGUF files in {beside.resolve()}: {there}.")
    if gguf_file is not None:
        folder = resolve(checkpoint, revision=revision, allow_patterns=(gguf_file,))
        require(folder, (gguf_file,), "GGUF file of that name")
        return Place(folder, gguf_file, Path(gguf_file).stem)
    folder = resolve(
        checkpoint,
        revision=revision,
        allow_patterns=(*pretrained.MODEL_FILES, *_TOKENIZER_FILES),
        fallback_patterns=pretrained.PICKLED_FILES,
        complete=pretrained.is_complete,
    )
    files = sorted(path.name for path in folder.glob(f"*{_GGUF}"))
    local = Path(text).expanduser().is_dir()
    name = Path(text).expanduser().resolve().name if local else text
    if files and not (folder / "config.json").exists():
        if len(files) > 1:
            raise CheckpointError(
                f"{folder} holds {len(files)} GGUF files: {', '.join(files)}.",
                hint="Name one: pass its path, or gguf_file=.",
            )
        return Place(folder, files[0], Path(files[0]).stem)
    return Place(folder, None, name)


def load(place: Place, *, device: str, dtype: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read a model that writes, and its tokenizer.

    Args:
        place: where it is.
        device: where the weights go.
        dtype: of the weights; None: float32.

    Returns:
        A causal language model or an encoder-decoder, and its tokenizer.

    Raises:
        CheckpointError: files are missing or do not fit together, or it is a model that does not write.
        MissingExtraError: a GGUF file, and no package to read it.
        OptionError: unknown dtype.
    """
    if place.gguf_file is not None:
        model, tokenizer = _load_gguf(place.folder, place.gguf_file, dtype)
    else:
        require(place.folder, ("config.json",), "model configuration")
        require(place.folder, pretrained.WEIGHTS, "weights")
        require(place.folder, (*pretrained.TOKENIZERS, "vocab.json"), "tokenizer")
        auto_class = class_that_writes(pretrained.read_config(place.folder), place.folder)
        model = pretrained.read_model(auto_class, place.folder, dtype=dtype)
        tokenizer = pretrained.read_tokenizer(place.folder)
    from ragcompress.nn.linear import use_onednn

    use_onednn(model)
    return model.to(device), tokenizer


def class_that_writes(config: PretrainedConfig, what: object) -> Any:  # noqa: ANN401 (transformers' Auto classes)
    """Choose how a model is loaded by its configuration.

    Args:
        config: of the model.
        what: where it is, for the error message.

    Returns:
        ``AutoModelForSeq2SeqLM`` or ``AutoModelForCausalLM``.

    Raises:
        CheckpointError: models of this kind do not write.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
    )

    kind = type(config)
    if kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING and getattr(config, "is_encoder_decoder", False):
        return AutoModelForSeq2SeqLM
    # Encoders have a head that writes, too, whose weights no checkpoint of an encoder holds.
    encoder = kind in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING and not encoder:
        return AutoModelForCausalLM
    named = ", ".join(config.architectures or ()) or config.model_type
    raise CheckpointError(
        f"{what} holds {named}, which does not write; a reader needs a causal language model or an encoder-decoder.",
        hint="For example Qwen2ForCausalLM or T5ForConditionalGeneration.",
    )


@contextmanager
def _no_bar_in_a_log() -> Iterator[None]:
    """Unpacking draws a bar that obeys no setting of transformers: welcome on a terminal, a flood in a log."""
    name, bar = "transformers.modeling_gguf_pytorch_utils", "tqdm"
    found = importlib.util.find_spec(name) is not None and not sys.stderr.isatty()
    module: Any = importlib.import_module(name) if found else None
    drawn = getattr(module, bar, None)
    if drawn is None:
        yield
        return
    setattr(module, bar, lambda tensors, **_: tensors)
    try:
        yield
    finally:
        setattr(module, bar, drawn)


def _load_gguf(folder: Path, gguf_file: str, dtype: str | None) -> tuple[Any, Any]:
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError(
            f"reading {gguf_file} needs the package gguf.", hint="pip install 'ragcompress[evaluation]' brings it."
        )
    kind = pretrained.number_format(dtype)
    import transformers
    from transformers import AutoConfig, AutoTokenizer

    # Weights that stay packed are computed with by kernels that transformers fetches from the hub and runs.
    unpacked = getattr(transformers, "GgufConfig", None)
    more = {} if unpacked is None else {"quantization_config": unpacked(dequantize=True)}
    try:
        auto_class = class_that_writes(AutoConfig.from_pretrained(folder, gguf_file=gguf_file), gguf_file)
        with no_loading_bar(), _no_bar_in_a_log():
            model, report = auto_class.from_pretrained(
                folder, gguf_file=gguf_file, dtype=kind, output_loading_info=True, trust_remote_code=False, **more
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=gguf_file, trust_remote_code=False)
    except CheckpointError:
        raise
    except Exception as error:  # transformers and gguf raise whatever they met
        raise CheckpointError(
            f"{folder / gguf_file} cannot be read: {str(error) or type(error).__name__}.", hint=contents(folder)
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(f"the weights in {folder / gguf_file} lack {', '.join(missing[:5])}.")
    return model, tokenizer
