"""Base models: where they are, in which number format, on which device; and the options that say so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragcompress.checkpoints import contents, fingerprint_folder, no_loading_bar, read_json, resolve
from ragcompress.devices import pick_device
from ragcompress.errors import CheckpointError
from ragcompress.latent.options import LoadOptions
from ragcompress.nn.linear import use_onednn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# A checkpoint of ours may bring its base model along.
OWN_BASE = "base"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HUB_ID = re.compile(rf"{_PLAIN_NAME.pattern}/{_PLAIN_NAME.pattern}")
_DESCRIPTION = ("*.json", "tokenizer.model", "*.jinja")
_WEIGHTS = ("model*.safetensors",)  # not a second copy that some repositories hold under another name


def find_base(
    named: object, given: str | Path | None, checkpoint: Path, *, option: str, weights: bool = True
) -> tuple[Path, str]:
    """Find the folder of a base model.

    Args:
        named: in the checkpoint's configuration.
        given: by the caller; goes first.
        checkpoint: folder of the checkpoint; a folder of the right name inside or beside it is found, too.
        option: what the caller can pass, for error messages.
        weights: whether they are needed, or configuration and tokenizer are enough.

    Returns:
        The folder, and the name to write down.

    Raises:
        CheckpointError: it is nowhere; says what to pass.
    """
    patterns = _DESCRIPTION + _WEIGHTS * weights

    def complete(folder: Path) -> bool:
        return (folder / "config.json").is_file() and (not weights or has_weights(folder))

    if given is not None:
        return resolve(given, allow_patterns=patterns, complete=complete), str(given)
    if (checkpoint / OWN_BASE).is_dir():
        return checkpoint / OWN_BASE, str(named)
    if not isinstance(named, str) or not named:
        raise CheckpointError(f"{checkpoint} names no base model.", hint=f"Pass it as {option}=.")
    hint = f"The checkpoint was trained on {named!r}: pass your copy of it as {option}=."
    # A file must not point at any folder of the machine: a plain name is looked up beside the checkpoint, and what
    # looks like a hub id on the hub.
    if _PLAIN_NAME.fullmatch(named):
        for folder in (checkpoint / named, checkpoint.parent / named):
            if folder.is_dir():
                return folder, named
        raise CheckpointError(f"the base model {named!r} is not beside {checkpoint}.", hint=hint)
    if not _HUB_ID.fullmatch(named):
        raise CheckpointError(f"{checkpoint} was trained on {named!r}, which is no hub id.", hint=hint)
    return resolve(named, allow_patterns=patterns, offline_hint=hint, complete=complete, local=False), named


def base_fingerprint(folder: Path) -> str:
    """Identify a base model by its configuration and weights.

    Args:
        folder: of the base model.

    Returns:
        16 hexadecimal digits.
    """
    return fingerprint_folder(folder, ("config.json", *_WEIGHTS))


def has_weights(folder: Path) -> bool:
    """Whether every file of a model's weights is there.

    Args:
        folder: of the model.

    Returns:
        True if there is a single file, or all those that the index names.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    listed = read_json(index)
    names = listed.get("weight_map", {}).values() if isinstance(listed, dict) else ()
    return bool(names) and all((folder / Path(str(name)).name).is_file() for name in names)


def load_tokenizer(folder: Path, *, padding_side: str = "left") -> PreTrainedTokenizerBase:
    """Load a base model's tokenizer.

    Args:
        folder: of the base model.
        padding_side: as published; only kept for those who save it again.

    Returns:
        A fast tokenizer.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, padding_side=padding_side)
    except Exception as error:  # whatever is wrong with the files
        raise CheckpointError(
            f"the tokenizer in {folder} cannot be read: {_first_line(error)}.", hint=contents(folder)
        ) from error


def load_config(folder: Path) -> Any:  # noqa: ANN401 (any of transformers' configs)
    """Read a base model's configuration.

    Args:
        folder: of the base model.

    Returns:
        transformers' config.

    Raises:
        CheckpointError: there is none, or it needs code from the checkpoint.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise CheckpointError(
            f"the configuration in {folder} cannot be read: {_first_line(error)}.", hint=contents(folder)
        ) from error


def load_base(folder: Path, options: LoadOptions, *, headless: bool = False) -> Any:  # noqa: ANN401 (any of transformers' models)
    """Load a base model's weights.

    Args:
        folder: of the base model.
        options: how.
        headless: without the vocabulary projection.

    Returns:
        The model in evaluation mode, on its device.

    Raises:
        CheckpointError: files are missing or damaged.
        OptionError: the device or the quantization does not exist here.
    """
    from transformers import AutoModel, AutoModelForCausalLM

    device = pick_device(options.device)
    quantization = None if headless else options.quantization_config(device)
    device_map = options.device_map if not headless else None
    if device_map is None and (quantization is not None or device != "cpu"):
        device_map = {"": device}  # straight to the device, without a copy in the machine's memory
    loader: Any = AutoModel if headless else AutoModelForCausalLM
    arguments: dict[str, Any] = {
        "dtype": options.torch_dtype or "auto",
        "attn_implementation": attention(options, device),
        "trust_remote_code": False,
    }
    if device_map is not None:
        arguments["device_map"] = device_map
    if quantization is not None:
        arguments["quantization_config"] = quantization
    try:
        with no_loading_bar():
            model = loader.from_pretrained(folder, **arguments)
    except Exception as error:
        raise CheckpointError(
            f"the model in {folder} cannot be loaded: {_first_line(error)}.", hint=contents(folder)
        ) from error
    return model if device_map is not None else model.to(device)


def build_from_config(config: Any, options: LoadOptions, *, headless: bool = False) -> Any:  # noqa: ANN401 (any of transformers' models)  # noqa: ANN401
    """Build a model whose every weight will come from a checkpoint.

    Args:
        config: of transformers.
        options: how.
        headless: without the vocabulary projection.

    Returns:
        The model on its device, with weights of any value, which the caller must replace.
    """
    import torch
    from transformers import AutoModel, AutoModelForCausalLM
    from transformers.initialization import no_init_weights

    device = pick_device(options.device)
    loader: Any = AutoModel if headless else AutoModelForCausalLM
    dtype = options.torch_dtype or getattr(config, "dtype", None) or torch.float32
    # No weight is drawn at random, since each is replaced; the caller's random state stays as it is.
    with torch.random.fork_rng(devices=[]), no_init_weights():
        model = loader.from_config(config, dtype=dtype, attn_implementation=attention(options, device))
    return model.to(device)


def attention(options: LoadOptions, device: str) -> str:
    """Choose an implementation of attention that can run here.

    Args:
        options: of the caller; the checkpoint's own wish (FlashAttention 2) is not binding.
        device: where the weights go.

    Returns:
        A name that transformers knows.
    """
    if options.attn_implementation is not None:
        return options.attn_implementation
    half = options.dtype in (None, "bfloat16", "float16")
    flash = device.startswith("cuda") and half and importlib.util.find_spec("flash_attn") is not None
    return "flash_attention_2" if flash else "sdpa"


def resize(model: Any, n_rows: int) -> None:  # noqa: ANN401 (any of transformers' models)
    """Give embeddings and head exactly one row a token; this may shrink padded matrices (Qwen2), as published.

    Args:
        model: changed in place; new rows are filled from the checkpoint afterwards.
        n_rows: length of the tokenizer.
    """
    # The default would estimate a covariance over all rows, for values that are overwritten.
    import torch

    with torch.random.fork_rng(devices=[]):
        model.resize_token_embeddings(n_rows, mean_resizing=False)


def finish(model: Any) -> None:  # noqa: ANN401 (a model or its inner part)
    """Set a loaded model up for inference.

    Args:
        model: changed in place.
    """
    model.eval()
    use_onednn(model)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
