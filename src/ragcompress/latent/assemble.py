"""From the parts of a checkpoint to a model that runs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ragcompress.checkpoints import fingerprint_folder
from ragcompress.errors import CheckpointError
from ragcompress.latent._v1_layout import TRIMMED
from ragcompress.latent.building import SCORE_TOKEN, build_compressor, build_decoder, short_name
from ragcompress.latent.encoder import MemoryEncoder
from ragcompress.latent.formats import DocumentFormat
from ragcompress.latent.loading import base_fingerprint
from ragcompress.latent.model import LatentModel
from ragcompress.latent.options import LoadOptions
from ragcompress.latent.parts import DECODER, ENCODER, REASONER, SINGLE, Parts, whole_number
from ragcompress.latent.text import TemplateTokenizer
from ragcompress.prompts import COCOM, COCOM_WITHOUT_SEPARATOR, PISCO, PISCO_V2, PISCO_WITHOUT_SEPARATOR

if TYPE_CHECKING:
    from torch import Tensor


def assemble(parts: Parts, options: LoadOptions, rest: Mapping[str, Tensor] | None = None) -> LatentModel:
    """Build a model of a checkpoint's parts.

    Args:
        parts: of the checkpoint.
        options: how weights are loaded.
        rest: the decoder's other weights, where the checkpoint holds them (COCOM); None: the base model does.

    Returns:
        The model.

    Raises:
        CheckpointError: parts do not fit each other or the base model; says which.
        OptionError: a device or a quantization does not exist here.
    """
    build = {"pisco-v1": _assemble_v1, "clara-v1": _assemble_v1, "pisco-v2": _assemble_v2, "cocom-v1": _assemble_cocom}[
        parts.layout
    ]
    return build(parts, options, rest)


def _assemble_v1(parts: Parts, options: LoadOptions, rest: Mapping[str, Tensor] | None) -> LatentModel:
    length, rate = whole_number(parts, "doc_max_length"), whole_number(parts, "compr_rate")
    n_slots = length // rate
    if n_slots < 1:
        raise CheckpointError(f"config.json in {parts.folder} has compr_rate = {rate} above doc_max_length = {length}.")
    if parts.settings.get("compr_bidirectional"):
        raise CheckpointError(
            f"config.json in {parts.folder} has compr_bidirectional = true, whose effect is not published; refusing to "
            "guess."
        )
    n_rows = max(int(matrix.shape[0]) for matrix in parts.embeddings.values())
    if n_slots >= n_rows:
        raise CheckpointError(
            f"config.json in {parts.folder} asks for {n_slots} memory tokens, but there are {n_rows} embeddings in all."
        )
    memory = (
        tuple(f"<MEM{index}>" for index in range(n_slots))
        if parts.settings["different_mem_tokens"]
        else ("<MEM>",) * n_slots
    )
    own = list(dict.fromkeys(memory))
    added = [*own, "<AE>", "<ENC>", "<SEP>"] + ["<KBTC>"] * bool(parts.settings["kbtc_training"])
    separate = parts.settings["compr_model_name"] if parts.layout == "pisco-v1" else None
    decoder, base, base_folder = build_decoder(parts, options, added, DECODER, "decoder_model_name", rest)
    if separate is None:
        pair = "<ENC>{bos}\nQuery:\n{query}Document:\n{document}{eos}"
        encoder = MemoryEncoder(
            decoder.inner,
            pad_id=decoder.text.pad_id,
            adapter=ENCODER if ENCODER in parts.adapters else DECODER,
        )
        encoder_text, compressor_name = decoder.text, None
        documents = _format("<ENC>{bos}{document}{eos}", False, 3, length, memory)
        pairs = _format(pair, False, 8, length, memory)
    else:
        trimmed = separate == TRIMMED
        encoder, encoder_text, compressor_name = build_compressor(parts, options, own, decoder.width, trimmed)
        documents = _format("{document}", True, 2, length, memory)
        pairs = (
            _format("\nQuery:\n{query}Document:\n{document}", True, 8, length, memory)
            if trimmed
            else _format(None, True, 3, length, memory)
        )
    if encoder.score_head is not None:
        documents, pairs = _scored(documents), _scored(pairs)
    reasoner = (
        MemoryEncoder(decoder.inner, pad_id=decoder.text.pad_id, adapter=REASONER)
        if REASONER in parts.adapters
        else None
    )
    # A compressor of its own tells OSCAR's spaces from PISCO's at a glance.
    made_by = f"-{short_name(compressor_name)}" if compressor_name is not None else ""
    return LatentModel(
        name=f"{parts.layout}-{short_name(base)}{made_by}",
        layout=parts.layout,
        fingerprint=_fingerprint(parts, base_folder, [decoder.text, encoder_text]),
        decoder=decoder,
        encoder=encoder,
        query_encoder=reasoner,
        encoder_text=encoder_text,
        documents=documents,
        pairs=pairs,
        prompt=PISCO if parts.settings["sep"] else PISCO_WITHOUT_SEPARATOR,
        settings=dict(parts.settings),
        base=base,
        base_folder=base_folder,
        folder=parts.folder,
        quantization=options.quantization,
        compressor_base=compressor_name,
    )


def _assemble_v2(parts: Parts, options: LoadOptions, rest: Mapping[str, Tensor] | None) -> LatentModel:
    rate = whole_number(parts, "compr_rate")
    length = 128
    if rate > length:
        raise CheckpointError(
            f"config.json in {parts.folder} has compr_rate = {rate} above the {length} tokens of a document."
        )
    decoder, base, base_folder = build_decoder(parts, options, [], SINGLE, "decoder_model_name", rest)
    encoder, text, compressor_name = build_compressor(parts, options, ["<MEM>"], decoder.width, trimmed=False)
    documents = _format("{document}", True, 0, length, ("<MEM>",), rate)
    pairs = _format("Query: {query}\n Document: {document}", True, 0, length, ("<MEM>",), rate)
    if encoder.score_head is not None:
        documents, pairs = _scored(documents), _scored(pairs)
    return LatentModel(
        name=f"{parts.layout}-{short_name(base)}",
        layout=parts.layout,
        fingerprint=_fingerprint(parts, base_folder, [decoder.text, text]),
        decoder=decoder,
        encoder=encoder,
        encoder_text=text,
        documents=documents,
        pairs=pairs,
        prompt=PISCO_V2,
        settings=dict(parts.settings),
        base=base,
        base_folder=base_folder,
        folder=parts.folder,
        quantization=options.quantization,
        compressor_base=compressor_name,
    )


def _assemble_cocom(parts: Parts, options: LoadOptions, rest: Mapping[str, Tensor] | None) -> LatentModel:
    rate = whole_number(parts, "compr_rate")
    length = 128
    if rate > length:
        raise CheckpointError(
            f"config.json in {parts.folder} has compr_rate = {rate} above the {length} tokens of a document."
        )
    added = ["<MEM>", "<AE>", "<ENC>", "<SEP>"]
    decoder, base, base_folder = build_decoder(parts, options, added, SINGLE, "decoder_model_name", rest)
    encoder = MemoryEncoder(decoder.inner, pad_id=decoder.text.pad_id, adapter=SINGLE)
    # As trained: closed by EOS. The hub helper closes with BOS, which memory_side="left" reproduces.
    documents = _cocom_format("<ENC>{bos}{document}{eos}", length, rate)
    return LatentModel(
        name=f"{parts.layout}-{short_name(base)}",
        layout=parts.layout,
        fingerprint=_fingerprint(parts, None if rest is not None else base_folder, [decoder.text]),
        decoder=decoder,
        encoder=encoder,
        encoder_text=decoder.text,
        documents=documents,
        pairs=documents,
        prompt=COCOM if parts.settings["sep"] else COCOM_WITHOUT_SEPARATOR,
        settings=dict(parts.settings),
        base=base,
        base_folder=base_folder,
        folder=parts.folder,
        quantization=options.quantization,
    )


def _cocom_format(template: str, length: int, rate: int) -> DocumentFormat:
    # Room: <ENC>, two BOS (one is the tokenizer's own) and EOS.
    return DocumentFormat(
        template=template,
        special_tokens=True,
        room=4,
        max_length=length,
        memory_tokens=("<MEM>",),
        rate=rate,
        rounding="ceil",
    )


def _format(
    template: str | None, special: bool, room: int, length: int, memory: tuple[str, ...], rate: int | None = None
) -> DocumentFormat:
    return DocumentFormat(
        template=template, special_tokens=special, room=room, max_length=length, memory_tokens=memory, rate=rate
    )


def _scored(form: DocumentFormat) -> DocumentFormat:
    return replace(form, score_token=SCORE_TOKEN)


def _fingerprint(parts: Parts, base_folder: Path | None, tokenizers: Sequence[TemplateTokenizer]) -> str:
    """Over everything that a vector depends on: files, base model, tokenizers wherever they came from."""
    base = None if base_folder is None else base_fingerprint(base_folder)
    if parts.fingerprint is not None and parts.base_fingerprint in (None, base):
        return parts.fingerprint
    digests = [parts.layout, fingerprint_folder(parts.folder, parts.files), *(each.fingerprint for each in tokenizers)]
    digests += [] if base is None else [base]
    return hashlib.sha256("|".join(digests).encode()).hexdigest()[:16]
