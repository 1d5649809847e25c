"""Sentence spans: nothing lost, nothing changed, and the cases that splitters get wrong."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.sentences import PunktSplitter, RuleSplitter, get_splitter, split_sentences, splitter_name

PUNKT, RULES = PunktSplitter(), RuleSplitter()
DATA = Path(__file__).parents[2].parent / "shared" / "data" / "hotpotqa_distractor.dev.jsonl"


def pieces(text, splitter=PUNKT):
    return [text[start:end] for start, end in splitter(text)]


@pytest.mark.parametrize(
    "expected",
    [
        ["Dr. Smith of the U.S. came.", "He left."],
        ["Acme Inc. bought it.", "See Fig. 3 and Eq. 4 vs. No. 5."],
        ["It costs 3.14 euros.", "That is 1,000.50 more."],
        ["J. R. R. Tolkien wrote it.", "C. S. Lewis did not."],
        ["Prof. A. B. Smith et al. found it, e.g. here.", "Done."],
        ['He said "Stop."', "Then he left."],
        ["“Is it?”", "“It is.”", "They left."],
        ["Really?!", "Yes!", "Well... maybe."],
        ["Visit https://a.b/c.d?e=f.g now.", "Thanks."],
        ["(It was late.)", "They slept."],
        ['"Stop!" he said.', "They stopped."],
        ["One\u00a0sentence.", "Another\u00a0one."],
        ["no full stop anywhere just words"],
        ["One line\nthat goes on here.", "Another."],
        ["这是第一句。", "“这是第二句！”", "这是第三句？", "数字３．１４不分。"],
        ["مرحبا بالعالم؟", "كيف الحال۔", "جيد."],
        ["यह पहला है।", "यह दूसरा है।"],
    ],
)
def test_sentences(expected):
    separator = "" if any("\u4e00" <= letter <= "\u9fff" for letter in expected[0]) else " "
    text = separator.join(expected)
    assert pieces(text) == expected


def test_structure():
    text = "# Heading\nIntro text hard\nwrapped here. Second.\n\nNew paragraph\n- item one\n- item two,\n  continued\n1. First thing.\n2) second\n| a | b |\nafter"
    assert pieces(text) == [
        "# Heading", "Intro text hard\nwrapped here.", "Second.", "New paragraph", "- item one", "- item two,\n  continued",
        "1. First thing.", "2) second", "| a | b |", "after",
    ]  # fmt: skip
    assert pieces("a\r\n\r\nb\r\n* c", RULES) == ["a", "b", "* c"]


def test_rules_need_a_capital():
    assert pieces("He paid 3.5 euros. Then e.g. that one! 7 left. “So?” Yes.", RULES) == [
        "He paid 3.5 euros.", "Then e.g. that one!", "7 left.", "“So?”", "Yes.",
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", " \n\t ", "\u2003\u00a0\u3000"])
def test_blank_texts_have_no_sentences(text):
    for name in ("punkt", "punkt-plain", "rules", "lines", "flashrag"):
        assert split_sentences(text, get_splitter(name)) == []


def check(text, splitter, *, lossless=True):
    spans = split_sentences(text, splitter)
    previous = 0
    for start, end in spans:
        assert previous <= start < end <= len(text)
        assert not text[start].isspace()
        assert not text[end - 1].isspace()
        if lossless:
            assert not text[previous:start].strip()
        previous = end
    if lossless:
        assert not text[previous:].strip()
    return spans


ALPHABET = st.sampled_from(["a", "B", "No", "Dr", ".", "!", "?", '"', ")", " ", "\n", "\n\n", "- ", "1. ", "。", "؟", "3.5", "e.g.", "\ud800", "\0", "|", "# "])  # fmt: skip
TEXTS = st.one_of(st.text(st.characters()), st.lists(ALPHABET).map("".join))


@given(TEXTS)
def test_nothing_is_lost(text):
    for splitter in (PUNKT, RULES, PunktSplitter(max_chars=16), get_splitter("punkt-plain"), get_splitter("lines")):
        check(text, splitter)


@given(TEXTS)
def test_flashrag_drops_short_pieces_only(text):
    for start, end in check(text, get_splitter("flashrag"), lossless=False):
        assert end - start > 5


@given(TEXTS, st.integers(16, 60))
def test_no_sentence_is_longer_than_the_limit(text, max_chars):
    for splitter in (PunktSplitter(max_chars=max_chars), RuleSplitter(max_chars)):
        assert all(end - start <= max_chars for start, end in splitter(text))


def test_long_sentences_are_cut_where_it_hurts_least():
    text = "word " * 30 + "clause; " + "word " * 30
    first, *_ = pieces(text, PunktSplitter(max_chars=200))
    assert first.endswith("clause;")
    words = pieces("lighthouse " * 40, PunktSplitter(max_chars=100))
    assert {word for piece in words for word in piece.split()} == {"lighthouse"}
    accents = pieces("e\u0301" * 100, PunktSplitter(max_chars=51))
    assert all(not piece.startswith("\u0301") for piece in accents)


BIG = {
    "no white space": "x" * 1_000_000,
    "no full stop": "word " * 200_000,
    "dots": "." * 1_000_000,
    "initials": "a. " * 100_000,
    "marks": "!?" * 300_000,
    "quotes": '."' * 300_000,
    "brackets": "(" * 500_000 + ". A",
    "newlines": "\n" * 300_000,
    "spaces": ("a." + " " * 2000) * 200,
    "chinese": "这是第一句。" * 100_000,
    "five megabytes": "The cat sat on mat number 5. " * 175_000,
    "nul": "\0" * 1_000_000,
}


@pytest.mark.parametrize("name", BIG)
def test_big_texts(name):
    for splitter in (PUNKT, RULES):
        spans = check(BIG[name], splitter)
        assert all(end - start <= 2000 for start, end in spans)
    if name == "five megabytes":
        assert len(PUNKT(BIG[name])) == 175_000


def test_threads():
    texts = [f"Dr. Smith met No. {n}. He left at {n}.5. See Fig. {n}!" for n in range(200)]
    expected = [PUNKT(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(PUNKT, texts)) == expected


@pytest.mark.parametrize(
    "bad",
    [
        [(0, 99)], [(-1, 2)], [(2, 1)], [(0, 4), (2, 6)], [(4, 6), (0, 2)], [(0.0, 2.0)], ["ab", "cd"], [3], [(1, 2, 3)],
    ],
)  # fmt: skip
def test_bad_splitters_are_named(bad):
    def broken(text):
        return bad

    broken.name = "my-splitter"
    with pytest.raises(rc.InputError, match=r"my-splitter.*expected \(start, end\)"):
        split_sentences("some text", broken)


def test_foreign_splitters_are_stripped():
    assert split_sentences("  a b  ", lambda text: [(0, 2), (2, 7)]) == [(2, 5)]


def test_names():
    assert get_splitter("punkt") == PUNKT
    assert get_splitter("punkt:german").language == "german"
    assert get_splitter("punkt-plain:french").plain
    names = [
        splitter_name(get_splitter(name))
        for name in ("punkt", "punkt:german", "punkt-plain", "rules", "lines", "flashrag")
    ]
    assert len(set(names)) == 6
    one, two = (lambda text: [], lambda text: [(0, 1)])
    assert splitter_name(one) == splitter_name(one) != splitter_name(two)


def test_german():
    assert pieces("Das ist z.B. gut. Am 3. Mai kam er.", get_splitter("punkt:german")) == [
        "Das ist z.B. gut.",
        "Am 3. Mai kam er.",
    ]


@pytest.mark.parametrize(
    ("bad", "words"),
    [("punk", ["'punk'", "'punkt'"]), ("punkt:klingon", ["'klingon'", "language"]), (3, ["int"]), ("", ["splitter"])],
)
def test_unknown_names(bad, words):
    with pytest.raises(rc.OptionError) as error:
        get_splitter(bad)
    for word in words:
        assert word in str(error.value)


def test_limits_that_are_too_small():
    for splitter in (PunktSplitter, RuleSplitter):
        with pytest.raises(rc.OptionError, match="max_chars"):
            splitter(max_chars=3)


def test_agrees_with_the_sentences_of_real_passages():
    if not DATA.exists():
        pytest.skip("the real passages are not beside this repository (../shared/data)")
    hits = surplus = missed = 0
    for line in DATA.read_text(encoding="utf-8").splitlines():
        for document in json.loads(line)["docs"]:
            text = document["text"]
            gold = {len(text[:end].rstrip()) for _, end in document["sentence_spans"]}
            found = {end for _, end in PUNKT(text)}
            hits, surplus, missed = hits + len(gold & found), surplus + len(found - gold), missed + len(gold - found)
    assert 2 * hits / (2 * hits + surplus + missed) > 0.985
