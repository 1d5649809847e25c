"""Prompts that are split: handles count as their slots and stay whole."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.prompts import PromptTemplate
from llama_index.postprocessor.ragcompress import RagCompressLLM, RagCompressPromptHelper
from llama_index.postprocessor.ragcompress.counting import HandleSplitter, holds_half_a_handle
from llama_index_fakes import Scripted

import ragcompress as rc

TEMPLATE = PromptTemplate("Context: {context_str} Question: {query_str}")
HANDLES = [f"<|rc:{'0123456789abcdef' * 2}.{n}:8|>" for n in range(40)]


def tokenize(text):
    """Words, and eight for a handle."""
    slots = 8 * len(re.findall(r"<\|rc:[^|]*:8\|>", text))
    return list(range(slots + len(re.sub(r"<\|rc:[^|]*\|>", " ", text).split())))


def splitter(chunk_size, overlap=0):
    return HandleSplitter(chunk_size=chunk_size, chunk_overlap=overlap, tokenizer=tokenize)


@pytest.fixture
def helper(pisco):
    return RagCompressLLM(reader=pisco, max_new_tokens=20, context_window=60).prompt_helper()


def test_the_helper_knows_the_model(pisco):
    helper = RagCompressLLM(reader=pisco, max_new_tokens=20).prompt_helper(chunk_overlap_ratio=0.2, chunk_size_limit=90)
    assert isinstance(helper, RagCompressPromptHelper)
    assert (helper.context_window, helper.num_output) == (4096, 20)
    assert (helper.chunk_overlap_ratio, helper.chunk_size_limit) == (0.2, 90)


def test_what_fits_by_slots_is_one_prompt(pisco):
    """By characters it would be several times the window."""
    llm = RagCompressLLM(reader=pisco, max_new_tokens=20)
    marked = rc.attach_question("Is it?", HANDLES)
    assert llm.prompt_helper().repack(TEMPLATE, marked) == ["\n\n".join(marked)]
    window = llm.count_tokens("\n\n".join(marked)) + 20 + 5 + 20
    tight = RagCompressLLM(reader=pisco, max_new_tokens=20, context_window=window).prompt_helper()
    assert tight.repack(TEMPLATE, marked) == ["\n\n".join(marked)]


def test_small_windows_cut_between_handles(helper):
    marked = rc.attach_question("Is it?", HANDLES)
    chunks = helper.repack(TEMPLATE, marked)
    assert len(chunks) > 5
    found = [handle for chunk in chunks for handle in HANDLES if handle in chunk]
    assert set(found) == set(HANDLES)
    assert not any(holds_half_a_handle(chunk) for chunk in chunks)
    assert marked[0] in chunks[0]
    (kept,) = helper.truncate(TEMPLATE, ["\n".join(marked)])
    assert kept.startswith(marked[0])
    assert not holds_half_a_handle(kept)


def test_a_handle_that_does_not_fit_says_so(pisco):
    helper = RagCompressLLM(reader=pisco, max_new_tokens=20, context_window=47).prompt_helper()
    with pytest.raises(rc.InputError, match="a handle stands for 9 slots, and the prompt leaves room for"):
        helper.repack(TEMPLATE, HANDLES)


def test_text_is_split_as_ever():
    from llama_index.core.node_parser import TokenTextSplitter

    text = "word " * 50 + "\n\n" + "x" * 30
    plain = TokenTextSplitter(chunk_size=12, chunk_overlap=3, tokenizer=tokenize)
    assert splitter(12, 3).split_text(text) == plain.split_text(text)


@given(
    st.lists(
        st.sampled_from([*HANDLES[:4], HANDLES[0] + "<|rc:ask=QUJD|>", " ", "\n", "a", "bc ", "\U00100000", "é."])
    ),
    st.integers(8, 30),
    st.integers(0, 8),
)
@settings(max_examples=100)
def test_nothing_is_ever_cut(pieces, chunk_size, overlap):
    text = "".join(pieces)
    chunks = splitter(chunk_size + 8 * text.count("<|rc:0"), overlap).split_text(text)
    words = re.findall(r"(?:<\|rc:[^|\s]*\|>)+", text)
    for word in words:
        assert any(word in chunk for chunk in chunks)
    assert not any(holds_half_a_handle(chunk) for chunk in chunks)
    assert "\U00100001" not in "".join(chunks)


def test_half_a_handle():
    assert not holds_half_a_handle(f"a {HANDLES[0]} b")
    assert holds_half_a_handle(f"a {HANDLES[0][:-1]}")
    assert holds_half_a_handle(f"{HANDLES[0]} <|rc:0123")
    with pytest.warns(rc.HandleWarning, match="was cut in two"):
        RagCompressLLM(reader=Scripted()).complete(f"a {HANDLES[0][:-4]}")
