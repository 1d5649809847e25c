"""A tiny random T5, for tests without a download."""

from __future__ import annotations

from ragcompress.backends.recomp_abstractive.model import Summarizer
from ragcompress.tiny import tiny_tokenizer


def tiny_summarizer(*, width: int = 32, n_layers: int = 2, seed: int = 0) -> Summarizer:
    """Build a T5 with random weights; equal arguments give equal weights.

    Args:
        width: of the states.
        n_layers: transformer layers of encoder and decoder each.
        seed: of the weights; the global random state is left alone.

    Returns:
        A summarizer.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    tokenizer = tiny_tokenizer(max_length=1024)
    vocabulary = tokenizer.get_vocab()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=width // 4,
        d_ff=2 * width,
        num_layers=n_layers,
        num_heads=4,
        initializer_factor=1.0,
        pad_token_id=0,
        eos_token_id=vocabulary["[SEP]"],
    )
    config.decoder_start_token_id = 0
    config.tie_word_embeddings = False  # tied, random weights repeat the start token for ever
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(config)
    return Summarizer(model, tokenizer)
