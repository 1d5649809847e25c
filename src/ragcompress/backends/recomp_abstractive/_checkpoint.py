"""RECOMP's abstractive checkpoints on disk: a plain T5, as transformers saves it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress import pretrained
from ragcompress.checkpoints import no_loading_bar, require, resolve, whole_folder
from ragcompress.errors import CheckpointError

if TYPE_CHECKING:
    from ragcompress.backends.recomp_abstractive.model import Summarizer

PUBLISHED = {
    "nq": "fangyuan/nq_abstractive_compressor",
    "tqa": "fangyuan/tqa_abstractive_compressor",
    "hotpotqa": "fangyuan/hotpotqa_abstractive",
}
# The name that the other two suggest; the hub has no such repository.
MISNAMED = "fangyuan/hotpotqa_abstractive_compressor"
# Architectures without a head that writes; three that write are named like them.
_HEADLESS = re.compile(r"(?<!LMHead)(?<!MT)(?<!EncoderDecoder)Model$")
# Old T5 files hold a bias that no version of the model reads.
UNUSED_KEYS = re.compile(r"^decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight$")


def find_folder(checkpoint: str | Path | None, revision: str | None) -> Path:
    """Find the folder of a checkpoint.

    Args:
        checkpoint: a folder or a hub id.
        revision: of a hub id.

    Returns:
        A folder.

    Raises:
        CheckpointError: none was named, or it cannot be found.
    """
    if checkpoint is None:
        raise CheckpointError(
            "recomp-abstractive has no default checkpoint: RECOMP's were trained for one kind of question each, and "
            "have no stated licence.",
            hint=f"Name one: {', '.join(PUBLISHED.values())}, or a folder with any encoder-decoder.",
        )
    if str(checkpoint) == MISNAMED:
        raise CheckpointError(
            f"there is no {MISNAMED}.", hint=f"RECOMP's checkpoint for HotpotQA is named {PUBLISHED['hotpotqa']!r}."
        )
    return resolve(
        checkpoint,
        revision=revision,
        allow_patterns=(
            *pretrained.MODEL_FILES,
            *pretrained.TOKENIZER_FILES,
            "vocab.json",
            "merges.txt",
            pretrained.SETTINGS_FILE,
        ),
        fallback_patterns=pretrained.PICKLED_FILES,
        complete=pretrained.is_complete,
    )


def load_summarizer(folder: Path, *, device: str, dtype: str | None, batch_tokens: int, name: str) -> Summarizer:
    """Read an encoder-decoder from a folder.

    Args:
        folder: of a checkpoint.
        device: where the weights go.
        dtype: of the weights; None: float32.
        batch_tokens: padded size of a batch of inputs.
        name: of the vocabulary.

    Returns:
        Model and tokenizer.

    Raises:
        CheckpointError: files are missing or do not fit together, or it is another kind of model.
        OptionError: unknown dtype.
    """
    require(folder, ("config.json",), "model configuration")
    require(folder, pretrained.WEIGHTS, "weights")
    require(folder, pretrained.TOKENIZERS, "tokenizer")
    from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, AutoModelForSeq2SeqLM

    config = pretrained.read_config(folder)
    named = ", ".join(config.architectures or ()) or config.model_type
    # A T5 without its decoder has the configuration of a whole one.
    if type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING or _HEADLESS.search(named):
        raise CheckpointError(
            f"{folder} holds {named}; recomp-abstractive needs an encoder-decoder that writes, such as "
            "T5ForConditionalGeneration.",
            hint="Encoders go with 'recomp-extractive' or 'provence'.",
        )
    from ragcompress.backends.recomp_abstractive.model import Summarizer
    from ragcompress.nn.linear import use_onednn

    model = pretrained.read_model(AutoModelForSeq2SeqLM, folder, dtype=dtype, unused_keys=UNUSED_KEYS)
    use_onednn(model)
    return Summarizer(
        model.to(device),
        pretrained.read_tokenizer(folder),
        batch_tokens=batch_tokens,
        name=name,
    )


def save_summarizer(summarizer: Summarizer, settings: dict[str, Any], folder: Path) -> None:
    """Write the published layout plus our options, all or nothing.

    Args:
        summarizer: what to write.
        settings: JSON-safe options.
        folder: must not exist, or be empty.

    Raises:
        CheckpointError: there is something in the folder already.
    """
    with whole_folder(folder) as draft:
        with no_loading_bar():
            summarizer.model.save_pretrained(draft)
        summarizer.tokenizer.save_pretrained(draft)
        (draft / pretrained.SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
