"""Tiny language models for the tests of readers: one that has learnt two answers, others with random weights."""

from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

import ragcompress as rc
from ragcompress.evaluation.prompts import short_answer_prompt

LEARNT = {"Capital of Italy": " Rome\n", "Capital of Norway": " Oslo\n"}
_ENDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def context(question, *texts):
    """A context of whole documents, with a title each."""
    documents = tuple(rc.Document(text, title=f"T{index}") for index, text in enumerate(texts))
    segments = tuple(rc.TextSegment(d.text, (rc.Source(i, 0, len(d.text)),)) for i, d in enumerate(documents))
    return rc.CompressedContext(question, documents, segments)


def byte_tokenizer(*, bos=False, eos=False, symbols_only=False):
    """One token a byte; two line ends that end a text are one, as in larger vocabularies.

    Special tokens stand around a text as asked for. Random bytes are seldom text: with symbols_only they are decoded as symbols, so that none is lost.
    """
    symbols = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ"]
    engine = Tokenizer(models.BPE({symbol: index for index, symbol in enumerate(symbols)}, [("Ċ", "Ċ")]))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if not symbols_only:
        engine.decoder = decoders.ByteLevel()
    if bos or eos:
        engine.post_processor = processors.TemplateProcessing(
            single=f"{'<s> ' * bos}$A{' </s>' * eos}", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=engine, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def tiny_llama(seed=0, **options):
    """Two layers with random weights."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(
        vocab_size=260, num_key_value_heads=2, max_position_embeddings=2048, **sizes, **_ENDS, **options
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


@cache
def learnt_llama():
    """A model that answers the questions in LEARNT, and ends its answers with a line end."""
    tokenizer, model = byte_tokenizer(), tiny_llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        loss = 0.0
        for question, answer in LEARNT.items():
            ids = torch.tensor([tokenizer(short_answer_prompt(context(question)) + answer).input_ids])
            scores = model(input_ids=ids).logits[0, -1 - len(answer) : -1]
            loss = loss + torch.nn.functional.cross_entropy(scores, ids[0, -len(answer) :])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


def random_model(family, seed=4):
    """A tiny model of a family, with random weights that do not repeat one token for ever."""
    sizes = {"vocab_size": 260, **_ENDS}
    makers = {
        "llama": lambda: tiny_llama(initializer_range=0.3),
        "longrope": lambda: tiny_llama(
            initializer_range=0.3, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
        ),
        "mistral": lambda: MistralForCausalLM(MistralConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            sliding_window=64, initializer_range=0.3, max_position_embeddings=2048, **sizes)),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(
            n_embd=32, n_layer=2, n_head=4, n_positions=2048, initializer_range=0.3, **sizes)),
        "bloom": lambda: BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=4, initializer_range=1.0, tie_word_embeddings=False, **sizes)),
        "mamba": lambda: MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=2, initializer_range=0.3, **sizes)),
        "t5": lambda: T5ForConditionalGeneration(T5Config(
            d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0, initializer_factor=4.0, tie_word_embeddings=False,
            **sizes)),
        "bart": lambda: BartForConditionalGeneration(BartConfig(
            d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=2048, decoder_start_token_id=2,
            forced_bos_token_id=1, init_std=0.3, **sizes)),
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = makers[family]().eval()
    model.generation_config.forced_eos_token_id = None  # BART's: it would cost the last token of an answer
    return model
