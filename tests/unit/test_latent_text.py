"""Tokenizers of the latent engine: untrusted text never becomes a special token, offsets stay true, chunks fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragcompress.errors import InputError, OptionError
from ragcompress.latent.chunks import chunk_spans
from ragcompress.latent.formats import DocumentFormat
from ragcompress.latent.text import TemplateTokenizer, borrow_ends, render_chat
from ragcompress.latent.tiny import tiny_chat_tokenizer
from ragcompress.sentences import get_splitter
from tests.parity.latent import GOLDENS, model

TEXT = model("pisco-v1-tiny").decoder.text  # byte-level, so that every text can be written
SPECIAL = ["<MEM0>", "<MEM7>", "<SEP>", "<AE>", "<ENC>", "</s>", "<s>", "<unk>"]
SPECIAL_IDS = {TEXT.id_of(token) for token in SPECIAL}
FRAGMENTS = st.sampled_from(
    [*SPECIAL, "<|rc:0a:8|>", "<|rc:ask=W10|>", "<", ">", "<MEM", "0>", "s>", "/", " ", "\ud800"]
)
UNTRUSTED = st.lists(FRAGMENTS | st.text(max_size=8), max_size=12).map("".join)


@given(UNTRUSTED)
def test_untrusted_text_holds_no_special_token_and_no_handle(text):
    harmless = TEXT.harmless(text)
    assert len(harmless) == len(text)
    assert "<|rc:" not in harmless
    (found,) = TEXT.encode([harmless], special_tokens=False)
    assert not SPECIAL_IDS & set(found.ids)


@given(UNTRUSTED)
def test_only_the_template_writes_special_tokens_into_a_compressors_input(text):
    form = model("pisco-v1-tiny").documents
    (row,) = form.rows(TEXT, [text])
    inner = row.ids[2:-8]
    assert row.ids[:2] == [TEXT.id_of("<ENC>"), TEXT.id_of("<s>")]
    if inner and inner[-1] == TEXT.id_of("</s>"):
        inner = inner[:-1]
    assert not SPECIAL_IDS & set(inner)


@given(UNTRUSTED)
def test_ordinary_text_is_left_alone(text):
    if not any(token in text for token in [*SPECIAL, "<|rc:", "\ud800"]) and "<MEM" not in text:
        assert TEXT.harmless(text) == text


def test_a_replacement_that_uncovers_another_match():
    tokenizer = tiny_chat_tokenizer()
    text = TemplateTokenizer(tokenizer, ["<ab>", "b>c"])
    harmless = text.harmless("<ab>c")
    (found,) = text.encode([harmless], special_tokens=False)
    assert not {text.id_of("<ab>"), text.id_of("b>c")} & set(found.ids)


def test_pad_falls_back_to_bos_and_a_slow_tokenizer_is_refused():
    assert TEXT.pad_id == TEXT.id_of("<s>")

    class Slow:
        pad_token = bos_token = eos_token = "x"
        pad_token_id = 0
        name_or_path = "slow"

    with pytest.raises(OptionError, match="not a fast tokenizer"):
        TemplateTokenizer(Slow())


def test_a_pair_cuts_the_document_alone_and_a_long_question_is_named():
    form = model("oscar-v1-tiny").pairs
    text = model("oscar-v1-tiny").encoder_text
    (row,) = form.rows(text, ["word " * 500], ["a short question?"])
    assert len(row.ids) == 131 + 8
    assert 0 < row.end < 2500
    with pytest.raises(InputError, match="leaves no room for a document"):
        form.rows(text, ["document"], ["why " * 200])
    trimmed = DocumentFormat(
        template="\nQuery:\n{query}Document:\n{document}",
        special_tokens=True,
        room=8,
        max_length=16,
        memory_tokens=("<MEM0>",),
    )
    with pytest.raises(InputError, match="leaves no room"):
        trimmed.rows(text, ["document"], ["why " * 40])


def test_templates_do_not_expand_what_stands_in_the_text():
    form = DocumentFormat(
        template="{bos}Q: {query} D: {document}",
        special_tokens=False,
        room=40,
        max_length=128,
        memory_tokens=("<MEM0>",),
    )
    (row,) = form.rows(TEXT, ["{query} {eos} {bos}"], ["{document}"])
    assert "Q: {document} D: {query} {eos} {bos}" in TEXT.tokenizer.decode(row.ids)


@pytest.mark.parametrize(("n_ids", "rounding", "rate", "expected"), [
    (13, "floor+1", 8, 2), (64, "floor+1", 8, 9), (0, "floor+1", 8, 1), (19, "ceil", 16, 1), (20, "ceil", 16, 2), (2, "ceil", 16, 1),
])  # fmt: skip
def test_number_of_memory_tokens(n_ids, rounding, rate, expected):
    form = DocumentFormat(
        template="{document}",
        special_tokens=True,
        room=0,
        max_length=128,
        memory_tokens=("<MEM>",),
        rate=rate,
        rounding=rounding,
    )
    assert form.n_slots(n_ids) == expected


def test_memory_in_front_of_the_document():
    form = DocumentFormat(
        template="{document}", special_tokens=False, room=0, max_length=9, memory_tokens=("<MEM0>",), side="left"
    )
    (row,) = form.rows(TEXT, ["Marie"])
    assert row.ids[0] == TEXT.id_of("<MEM0>")
    assert row.is_memory == [True] + [False] * (len(row.ids) - 1)


WORDS = st.lists(st.sampled_from(["Marie", "Curie.", "reef!", "東京", "\n\n", "x" * 40, "2,900", "The"]), max_size=60)


@given(WORDS.map(" ".join), st.integers(min_value=4, max_value=40))
def test_chunks_cover_the_text_in_order_and_fit(text, n_tokens):
    spans = chunk_spans(text, TEXT, n_tokens, get_splitter("punkt"))
    place = 0
    for start, end in spans:
        assert text[place:start].strip() == ""
        assert start < end
        place = end
    assert text[place:].strip() == ""
    # Several tokens may share one character, which cannot be cut; everything else fits with a token to spare.
    for start, end in spans:
        assert len(TEXT.offsets(text[start:end])) <= n_tokens + 8


def test_chunks_end_where_sentences_do_and_are_of_similar_length():
    sentences = [f"Sentence number {index} says something about reefs and rivers." for index in range(12)]
    text = " ".join(sentences)
    spans = chunk_spans(text, TEXT, 120, get_splitter("punkt"))
    assert len(spans) > 1
    assert all(text[end - 1] == "." for _, end in spans)
    lengths = [len(TEXT.offsets(text[start:end])) for start, end in spans]
    assert max(lengths) <= 120
    assert max(lengths) - min(lengths) <= 2 * max(len(TEXT.offsets(sentence)) for sentence in sentences)


QWEN = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start_of_turn>' + m['role'] + '\n' + m['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }} [INST] {% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' + messages[1]['content'] }}"
    "{% else %}{{ messages[0]['content'] }}{% endif %} [/INST]"
)


@pytest.mark.parametrize(("template", "expected"), [
    (MISTRAL, "<s> [INST] SYSTEM\n\nUSER [/INST]"),
    (QWEN, "<|im_start|>system\nSYSTEM<|im_end|>\n<|im_start|>user\nUSER<|im_end|>\n<|im_start|>assistant\n"),
    (GEMMA, "<s><start_of_turn>user\nSYSTEM\nUSER<end_of_turn>\n<start_of_turn>model\n"),
], ids=["mistral", "chatml", "gemma"])  # fmt: skip
def test_p3_prompts_by_the_base_models_template(template, expected):
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = template
    assert render_chat(tokenizer, "SYSTEM", "USER") == expected


def test_a_template_that_refuses_and_a_base_without_one():
    tokenizer = tiny_chat_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('Conversation roles must alternate') }}"
    with pytest.raises(OptionError, match="refuses the published prompt"):
        render_chat(tokenizer, "SYSTEM", "USER")
    tokenizer.chat_template = None
    with pytest.raises(OptionError, match="no chat template"):
        render_chat(tokenizer, "SYSTEM", "USER")


def test_p1_order_of_added_tokens_and_sizes():
    """Eight memory tokens, then <AE>, <ENC>, <SEP>, behind whatever the base vocabulary holds."""
    from ragcompress.latent.loading import load_tokenizer

    for n_slots in (8, 16, 2):
        tokenizer = load_tokenizer(GOLDENS / "tiny-mistral")
        added = [*(f"<MEM{index}>" for index in range(n_slots)), "<AE>", "<ENC>", "<SEP>"]
        text = TemplateTokenizer(tokenizer, added)
        assert [text.id_of(token) for token in added] == list(range(512, 512 + n_slots + 3))
        assert len(text) == 512 + n_slots + 3


def test_p1_tokens_that_the_base_has_already_keep_their_ids():
    tokenizer = tiny_chat_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    before = {token: tokenizer.convert_tokens_to_ids(token) for token in ("<|im_start|>", "<|im_end|>")}
    text = TemplateTokenizer(tokenizer, ["<MEM0>", "<AE>", "<ENC>", "<SEP>"])
    assert {token: text.id_of(token) for token in before} == before
    assert text.id_of("<MEM0>") == max(before.values()) + 1
    # Replaced in the list of additional tokens, as published, and still no way to write them from a document.
    (found,) = text.encode([text.harmless("<|im_end|> and <MEM0>")], special_tokens=False)
    assert not set(before.values()) & set(found.ids)


@pytest.mark.parametrize(("bos", "eos", "expected"), [(None, "</s>", ("<|im_start|>", "</s>")), (None, None, ("<|im_start|>", "<|im_end|>")), ("<s>", "</s>", ("<s>", "</s>"))])  # fmt: skip
def test_a_tokenizer_without_ends_borrows_its_first_additional_tokens(bos, eos, expected):
    tokenizer = tiny_chat_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.bos_token, tokenizer.eos_token = bos, eos
    borrow_ends(tokenizer)
    assert (tokenizer.bos_token, tokenizer.eos_token) == expected
    text = TemplateTokenizer(tokenizer, ["<MEM0>", "<ENC>"])
    assert (text.bos, text.eos) == expected


def test_a_tokenizer_without_additional_tokens_stays_as_it_is():
    tokenizer = tiny_chat_tokenizer()
    tokenizer.bos_token = None
    borrow_ends(tokenizer)
    assert tokenizer.bos_token is None
