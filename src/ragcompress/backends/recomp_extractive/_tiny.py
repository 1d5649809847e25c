"""A tiny random encoder, for tests without a download."""

from __future__ import annotations

from ragcompress.backends.recomp_extractive.model import SentenceEncoder
from ragcompress.tiny import tiny_tokenizer


def tiny_encoder(*, width: int = 32, n_layers: int = 2, seed: int = 0) -> SentenceEncoder:
    """Build a BERT with random weights; equal arguments give equal weights.

    Args:
        width: of the states.
        n_layers: transformer layers.
        seed: of the weights; the global random state is left alone.

    Returns:
        An encoder that reads 512 tokens.
    """
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config)
    return SentenceEncoder(model, tokenizer)
