"""Readers of the Hugging Face world: the same answers as transformers' own, alone, in batches and behind a shared prefix."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import BertConfig, BertModel

from ragcompress.errors import InputError, OptionError
from ragcompress.evaluation.prompts import ANSWER_HEAD, extract_answer, judge_prompt, short_answer_prompt
from ragcompress.evaluation.readers import HuggingFaceReader, Patience, read_each
from tests.unit.evaluation_models import LEARNT, byte_tokenizer, context, learnt_llama, random_model, tiny_llama

TEXTS = ("", "The bridge is old.", "A ship sank in the harbour; somebody saw it sink. " * 4)
QUESTIONS = [context(f"Who was it, number {index}?", *([text] * bool(text))) for index, text in enumerate(TEXTS * 2)]
SHARING = {"llama": True, "gpt2": True, "bloom": False, "mistral": False, "longrope": False, "mamba": False, "t5": False, "bart": False}  # fmt: skip


def reader_of(model, **options):
    return HuggingFaceReader(model, byte_tokenizer(), name="tiny", **options)


@pytest.fixture(scope="module")
def learnt():
    return reader_of(learnt_llama())


def expected(model, prompt, max_new_tokens):
    """What transformers writes for one prompt, on its own and without a cache."""
    tokenizer = byte_tokenizer(symbols_only=True)
    ids = torch.tensor([tokenizer(prompt).input_ids])
    written = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False, num_beams=1,
        use_cache=False,
    )  # fmt: skip
    new = written[0, 1:] if model.config.is_encoder_decoder else written[0, ids.shape[1] :]
    return tokenizer.decode(new, skip_special_tokens=True)


@pytest.mark.parametrize("family", SHARING)
def test_answers_are_those_of_transformers_alone_and_in_a_batch(family):
    model, tokenizer = random_model(family), byte_tokenizer(symbols_only=True)
    reader = HuggingFaceReader(model, tokenizer, max_new_tokens=6)
    assert reader.share_prefix is SHARING[family]
    answers = [reading.text for reading in reader.read(QUESTIONS)]
    assert answers == [expected(model, short_answer_prompt(question), 6) for question in QUESTIONS]
    assert len(set(answers)) > 1
    for options in ({"share_prefix": False}, {"batch_tokens": 1}):
        other = HuggingFaceReader(model, tokenizer, max_new_tokens=6, **options)
        assert [reading.text for reading in other.read(QUESTIONS)] == answers


def test_an_answer_ends_with_its_line_and_its_lengths_and_times_are_told(learnt):
    readings = learnt.read([context(question) for question in LEARNT])
    assert [reading.text for reading in readings] == list(LEARNT.values())
    assert [extract_answer(reading.text) for reading in readings] == ["Rome", "Oslo"]
    for question, reading in zip(LEARNT, readings, strict=True):
        assert reading.n_prompt_tokens == len(short_answer_prompt(context(question)))
        assert reading.n_new_tokens == len(reading.text)
        assert 0 < reading.prefill_ms < reading.total_ms
    model = learnt_llama()
    assert learnt.n_parameters == model.model.num_parameters() - model.get_input_embeddings().weight.numel()
    assert learnt.token_counter("Rome") == 4


def test_a_line_end_before_the_answer_is_not_its_end():
    class Blank(type(byte_tokenizer())):
        def decode(self, ids, **options):
            return "\n \n" if len(ids) < 4 else "\n \nRome\nOslo"

    model = tiny_llama()
    tokenizer = byte_tokenizer()
    tokenizer.__class__ = Blank
    (reading,) = HuggingFaceReader(model, tokenizer, name="tiny").read([context("Who?")])
    assert (reading.n_new_tokens, extract_answer(reading.text)) == (4, "Rome")


def test_prompts_of_other_kinds_are_gone_on_with_over_line_ends(learnt):
    prompt = short_answer_prompt(context("Capital of Italy")).removeprefix("Question: ")
    (reading,) = learnt.complete([prompt], max_new_tokens=12)
    assert reading.n_new_tokens == 12
    (reading,) = learnt.complete([judge_prompt("Who?", ["a"], "b")], max_new_tokens=3)
    assert reading.n_new_tokens <= 3


def test_what_prompts_begin_with_is_computed_once():
    model = tiny_llama()
    lengths = []
    model.register_forward_pre_hook(
        lambda _, arguments, options: lengths.append(tuple(options["input_ids"].shape)), with_kwargs=True
    )
    reader = reader_of(model, max_new_tokens=1)
    questions = [context(f"Who, {index}?") for index in range(4)]
    readings = reader.read(questions) + reader.read(questions)
    # The examples end with two line ends, which are one token there and two where a question follows.
    rest = len("\n\nQuestion: Who, 0?\nAnswer:")
    assert lengths == [(1, len(ANSWER_HEAD) - 1), (4, rest), (4, rest)]
    assert {reading.n_prompt_tokens for reading in readings} == {len(ANSWER_HEAD) - 2 + rest}


def test_the_settings_of_the_model_do_not_apply_and_stay_as_they_are():
    model = random_model("llama")
    plain = [reading.text for reading in reader_of(model).read(QUESTIONS[:2])]
    changes = {"do_sample": True, "temperature": 9.0, "min_new_tokens": 30, "repetition_penalty": 5.0, "num_beams": 3}
    for name, value in changes.items():
        setattr(model.generation_config, name, value)
    assert [reading.text for reading in reader_of(model).read(QUESTIONS[:2])] == plain
    assert {name: getattr(model.generation_config, name) for name in changes} == changes


def test_special_tokens_in_a_document_are_plain_text():
    reader = HuggingFaceReader(tiny_llama(), byte_tokenizer(bos=True, eos=True), name="tiny", max_new_tokens=1)
    prompt = short_answer_prompt(context("Who?</s>", "<s>It was <pad> me.</s>"))
    (row,) = reader._encode([prompt])
    assert row[0] == 1  # the tokenizer's own beginning, and no end behind which there is nothing to say
    assert not {0, 1, 2} & set(row[1:])
    assert len(row) == len(prompt) + 1


def test_a_prompt_that_is_too_long_is_told_and_the_others_are_read(learnt):
    long = context("Who?", "word " * 500)
    with pytest.raises(
        InputError, match=r"prompt of \d{4} tokens does not fit into the window of tiny: 2048, of which 32"
    ):
        learnt.read([context("Who?"), long])
    first, second, third = read_each(learnt, [context("Capital of Italy"), long, context("Capital of Norway")])
    assert isinstance(second, InputError)
    assert [first.text, third.text] == list(LEARNT.values())


def test_reading_stops_if_no_prompt_fits(learnt):
    long = context("Who?", "word " * 500)
    with pytest.raises(InputError, match="5 questions in a row could not be read; the last: InputError: a prompt of"):
        read_each(learnt, [long] * 6)
    patience = Patience()
    read_each(learnt, [context("Who?")], patience=patience)
    assert all(isinstance(outcome, InputError) for outcome in read_each(learnt, [long] * 6, patience=patience))


def test_lone_surrogates_are_read_as_replacement_characters(learnt):
    strange, replaced = (f"Who {character}?" for character in ("\ud800", "\N{REPLACEMENT CHARACTER}"))
    first, second = learnt.complete([strange, replaced], max_new_tokens=3)
    assert (first.text, first.n_prompt_tokens) == (second.text, second.n_prompt_tokens)
    (reading,) = learnt.read([context(strange, "the \udfff river")])
    reading.text.encode()


def test_scores_that_are_no_numbers_are_an_error():
    model = tiny_llama()
    model.lm_head.weight.data[5] = float("nan")
    with pytest.raises(InputError, match=r"not numbers.*bfloat16"):
        reader_of(model).read([context("Who?")])


def test_threads_do_not_disturb_each_other():
    reader = reader_of(random_model("llama"), max_new_tokens=4)
    plain = [reading.text for reading in reader.read(QUESTIONS)]
    reader = reader_of(random_model("llama"), max_new_tokens=4)
    with ThreadPoolExecutor(4) as pool:
        for readings in pool.map(reader.read, [QUESTIONS] * 8):
            assert [reading.text for reading in readings] == plain


def test_settings_say_what_answers_depend_on():
    settings = reader_of(tiny_llama()).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert settings == reader_of(tiny_llama()).settings()
    assert settings["fingerprint"] != reader_of(tiny_llama(seed=1)).settings()["fingerprint"]
    assert reader_of(tiny_llama(), max_new_tokens=3).settings()["max_new_tokens"] == 3
    assert reader_of(tiny_llama(), batch_tokens=300).settings()["batch_tokens"] == 300
    assert settings["batch_tokens"] == 4096


def test_what_cannot_write_and_options_out_of_range_are_refused():
    encoder = BertModel(BertConfig(vocab_size=260, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    with pytest.raises(OptionError, match="BertModel does not write"):
        reader_of(encoder)
    for name in ("batch_tokens", "max_new_tokens"):
        with pytest.raises(OptionError, match=name):
            reader_of(tiny_llama(), **{name: 0})
    with pytest.raises(InputError, match="empty prompt"):
        reader_of(tiny_llama()).complete([""], max_new_tokens=1)
    assert reader_of(tiny_llama()).read([]) == []
