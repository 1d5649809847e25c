"""Tiny random latent models, for tests without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ragcompress.latent.adapters import adapter_parameters, add_adapters
from ragcompress.latent.backbone import Backbone
from ragcompress.latent.building import SCORE_TOKEN
from ragcompress.latent.encoder import MemoryEncoder
from ragcompress.latent.formats import DocumentFormat
from ragcompress.latent.loading import finish
from ragcompress.latent.model import LatentModel
from ragcompress.latent.parts import DECODER, ENCODER, REASONER
from ragcompress.latent.text import TemplateTokenizer
from ragcompress.nn.connector import connector
from ragcompress.prompts import PISCO
from ragcompress.tiny import tiny_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}[S] {{ m['content'] }} "
    "{% elif m['role'] == 'user' %}[I] {{ m['content'] }} [/I]{% else %} {{ m['content'] }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
_RANK = 4
_LENGTH, _RATE = 128, 16


def tiny_chat_tokenizer() -> PreTrainedTokenizerBase:
    """Build a tokenizer with a chat template, BOS and EOS.

    Returns:
        A fast tokenizer; it adds BOS by itself where it is asked for special tokens.
    """
    from tokenizers import processors

    tokenizer = tiny_tokenizer(max_length=4096)
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    bos = tokenizer.convert_tokens_to_ids("<s>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", bos)]
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def tiny_causal(n_tokens: int, *, width: int, seed: int, n_layers: int = 2) -> PreTrainedModel:
    """Build a Mistral with random weights; equal arguments give equal weights.

    Args:
        n_tokens: size of the vocabulary.
        width: of the states.
        seed: of the weights; the global random state is left alone.
        n_layers: transformer layers.

    Returns:
        A causal language model that reads 4096 positions.
    """
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=n_tokens,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        sliding_window=None,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MistralForCausalLM(config)


def tiny_pisco() -> LatentModel:
    """Build a PISCO with two random layers, 128 tokens in 8 slots.

    Returns:
        The model.
    """
    slots = tuple(f"<MEM{index}>" for index in range(_LENGTH // _RATE))
    decoder = _decoder(slots, (DECODER, ENCODER))
    encoder = MemoryEncoder(decoder.inner, pad_id=decoder.text.pad_id, adapter=ENCODER)
    return LatentModel(
        name="pisco-v1-tiny",
        layout="pisco-v1",
        fingerprint="tiny-pisco",
        decoder=decoder,
        encoder=encoder,
        encoder_text=decoder.text,
        documents=_format("<ENC>{bos}{document}{eos}", False, 3, slots),
        pairs=_format("<ENC>{bos}\nQuery:\n{query}Document:\n{document}{eos}", False, 8, slots),
        prompt=PISCO,
        settings=_settings(None),
        base="tiny",
    )


def tiny_oscar(*, score_head: bool = True) -> LatentModel:
    """Build an OSCAR with a separate compressor of two random layers.

    Args:
        score_head: whether it has a reranking head.

    Returns:
        The model.
    """
    import torch

    slots = tuple(f"<MEM{index}>" for index in range(_LENGTH // _RATE))
    decoder = _decoder(slots, (DECODER,))
    text = TemplateTokenizer(tiny_chat_tokenizer(), [*slots, *[SCORE_TOKEN] * score_head], name="tiny-compressor")
    model = tiny_causal(len(text), width=24, seed=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        link, head = connector(24, 40, decoder.width), torch.nn.Linear(24, 1)
    finish(model)
    encoder = MemoryEncoder(
        model.model, pad_id=text.pad_id, connector=link.eval(), score_head=head.eval() if score_head else None
    )
    token = SCORE_TOKEN if score_head else None
    return LatentModel(
        name="pisco-v1-tiny-tiny-compressor",
        layout="pisco-v1",
        fingerprint=f"tiny-oscar-{score_head}",
        decoder=decoder,
        encoder=encoder,
        encoder_text=text,
        documents=_format("{document}", True, 2, slots, token),
        pairs=_format(None, True, 3, slots, token),
        prompt=PISCO,
        settings=_settings("tiny-compressor"),
        base="tiny",
        compressor_base="tiny-compressor",
    )


def tiny_clara(*, query_reasoner: bool = True) -> LatentModel:
    """Build a CLaRa with two random layers, 128 tokens in 8 slots.

    Args:
        query_reasoner: whether it can retrieve.

    Returns:
        The model.
    """
    slots = tuple(f"<MEM{index}>" for index in range(_LENGTH // _RATE))
    decoder = _decoder(slots, (DECODER, ENCODER, *[REASONER] * query_reasoner))

    def encoder(adapter: str) -> MemoryEncoder:
        return MemoryEncoder(decoder.inner, pad_id=decoder.text.pad_id, adapter=adapter)

    documents = _format("<ENC>{bos}{document}{eos}", False, 3, slots)
    return LatentModel(
        name="clara-v1-tiny",
        layout="clara-v1",
        fingerprint=f"tiny-clara-{query_reasoner}",
        decoder=decoder,
        encoder=encoder(ENCODER),
        query_encoder=encoder(REASONER) if query_reasoner else None,
        encoder_text=decoder.text,
        documents=documents,
        pairs=documents,
        prompt=PISCO,
        settings=_settings(None) | {"model_type": "CLaRa", "training_stage": "stage2" if query_reasoner else "stage1"},
        base="tiny",
    )


def _decoder(slots: tuple[str, ...], adapters: tuple[str, ...]) -> Backbone:
    import torch

    text = TemplateTokenizer(tiny_chat_tokenizer(), [*slots, "<AE>", "<ENC>", "<SEP>"], name="tiny")
    model = tiny_causal(len(text), width=32, seed=0)
    add_adapters(model, dict.fromkeys(adapters, _RANK))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name in adapters:
            for _, weight in sorted(adapter_parameters(model, name).items()):
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    return Backbone(model, text, adapter=DECODER)


def _format(
    template: str | None, special: bool, room: int, slots: tuple[str, ...], score_token: str | None = None
) -> DocumentFormat:
    return DocumentFormat(
        template=template,
        special_tokens=special,
        room=room,
        max_length=_LENGTH,
        memory_tokens=slots,
        score_token=score_token,
    )


def _settings(compressor: str | None) -> dict[str, Any]:
    return {
        "model_type": "COCOM",
        "decoder_model_name": "tiny",
        "doc_max_length": _LENGTH,
        "compr_rate": _RATE,
        "compr_model_name": compressor,
        "compr_use_mlp": True,
        "compr_rms_norm": True,
        "compr_bidirectional": False,
        "different_mem_tokens": True,
        "kbtc_training": False,
        "lora_r": _RANK,
        "lora_compressor": False,
        "sep": True,
    }
