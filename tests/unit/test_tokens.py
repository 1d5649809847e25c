"""One counter, named."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.options import unique_name
from ragcompress.tiny import tiny_tokenizer
from ragcompress.tokens import TokenizerCounter, count_all, encodable, private_tokenizer


@given(st.text(st.characters()))
def test_every_text_has_a_length(text):
    for counter in (
        rc.get_token_counter("words"),
        rc.get_token_counter("characters"),
        rc.get_token_counter(tiny_tokenizer()),
    ):
        assert counter(text) >= 0
        assert count_all(counter, [text, text]) == [counter(text)] * 2


def test_surrogates_become_encodable_at_equal_length():
    text = "a\ud800b\udfff"
    assert encodable(text).encode("utf-8")
    assert len(encodable(text)) == len(text)


def test_a_tokenizer_is_counted_without_special_tokens():
    tokenizer = tiny_tokenizer()
    counter = rc.get_token_counter(tokenizer)
    assert counter("the river") == len(tokenizer("the river", add_special_tokens=False).input_ids) == 2
    assert isinstance(counter, rc.TokenCounter)


def test_a_private_tokenizer_ignores_the_state_of_the_original():
    tokenizer = tiny_tokenizer()
    private = private_tokenizer(tokenizer)
    tokenizer("river " * 50, truncation=True, max_length=5, padding="max_length")
    assert len(private.encode("river " * 50).ids) == 52


def test_counting_in_threads_while_the_original_changes():
    tokenizer = tiny_tokenizer()
    counter = rc.get_token_counter(tokenizer)

    def work(length):
        tokenizer(["river " * 9] * 3, truncation=True, max_length=3 + length, padding=True)
        return counter("river " * length)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(1, 60))) == list(range(1, 60))


def test_functions_are_named_apart():
    one, two = (rc.get_token_counter(function) for function in (lambda text: 1, lambda text: 2))
    assert one("x") == 1
    assert one.name != two.name

    def named(text):
        return 7

    named.name = "sevens"
    assert rc.get_token_counter(named).name == "sevens"


def test_vocabularies_are_told_apart_by_what_they_hold(tmp_path):
    from transformers import AutoTokenizer

    loaded = []
    for number, word in enumerate(("lighthouse", "keeper", "lighthouse")):
        tokenizer = tiny_tokenizer()
        tokenizer.add_tokens([word])
        tokenizer.save_pretrained(tmp_path / str(number) / "model")
        loaded.append(AutoTokenizer.from_pretrained(tmp_path / str(number) / "model"))
    one, other, again = (TokenizerCounter(private_tokenizer(each), "model") for each in loaded)
    assert one("lighthouse keeper") != other("lighthouse keeper")
    assert one.name == again.name != other.name
    assert one.name.startswith("model@")
    # Folders of two names, and objects without any.
    assert len({rc.get_token_counter(each).name for each in loaded}) == 3
    assert rc.get_token_counter(tiny_tokenizer()).name == rc.get_token_counter(tiny_tokenizer()).name
    assert pickle.loads(pickle.dumps(one)).name == one.name


def test_a_name_stays_with_its_object():
    def function(text):
        return 1

    assert unique_name(function) == unique_name(function)
    assert unique_name([]) != unique_name([])


def test_counters_must_count():
    counter = rc.get_token_counter(lambda text: text.split())
    with pytest.raises(rc.OptionError, match="gave list"):
        counter("a b")


@pytest.mark.parametrize("bad", ["word", 3, None, object()])
def test_bad_counters(bad):
    with pytest.raises(rc.OptionError, match="token"):
        rc.get_token_counter(bad)


def test_slow_tokenizers_are_refused():
    with pytest.raises(rc.OptionError, match="fast tokenizer"):
        private_tokenizer(object())
