"""What peers have in common: looking them up, what is missing, fitting, leading text back. No framework is imported."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from ragcompress import Document
from ragcompress.errors import InputError, MissingExtraError, OptionError
from ragcompress.evaluation import peers
from ragcompress.evaluation.peers import PEERS, build_peer, check_peer, find_peer
from ragcompress.evaluation.peers.base import FittedPeer, largest
from ragcompress.evaluation.peers.llmlingua2 import LLMLingua2, LLMLingua2Config
from ragcompress.evaluation.peers.origins import chosen_sentences, find_in_order, quoted
from ragcompress.evaluation.peers.vocabularies import load_vocabulary, missing_vocabulary
from ragcompress.tokens import WordCounter
from ragcompress.types import Source, TextSegment

DOCUMENTS = (
    Document("one two three four five", title="Numbers"),
    Document(""),
    Document("six seven eight"),
)


class FirstWords(FittedPeer):
    """Keeps so many words of each document; stands for somebody's package."""

    name = "first-words"
    calls = 0

    @classmethod
    def load(cls, config, reader):
        return cls()

    def knob(self, question, documents, max_tokens, counter):
        return range(1, 1 + max(len(document.text.split()) for document in documents))

    def attempt(self, question, documents, setting, counter):
        self.calls += 1
        n_words = 2 if setting is None else int(setting)
        texts = [" ".join(document.text.split()[:n_words]) for document in documents]
        return [TextSegment(text, (Source(index, 0, len(text)),)) for index, text in enumerate(texts) if text]


def compress(peer, max_tokens, question="which?", documents=DOCUMENTS):
    return peer.compress(question, documents, max_tokens, WordCounter())


def test_unknown_peers_are_refused_and_the_known_ones_listed():
    with pytest.raises(OptionError, match=r"unknown peer 'trimwize'.*'trimwise', .*'cross-encoder'"):
        find_peer("trimwize")


def test_options_are_checked_without_loading_anything():
    check_peer("llama-index-optimizer", {"percentile": 0.3})
    with pytest.raises(OptionError, match=r"unknown option 'percentil'.*'percentile'"):
        check_peer("llama-index-optimizer", {"percentil": 0.3})
    with pytest.raises(OptionError, match="k must be a whole number and at least 1, got 0"):
        check_peer("langchain-embeddings-filter", {"k": 0})
    with pytest.raises(OptionError, match="titles must be true or false, got 'no'"):
        check_peer("langchain-embeddings-filter", {"titles": "no"})
    with pytest.raises(OptionError, match="strategy 'lexicol'"):
        check_peer("trimwise", {"strategy": "lexicol"})
    with pytest.raises(OptionError, match="device must be a string or None, got int"):
        check_peer("trimwise", {"device": 0})


@pytest.mark.parametrize("name", ["llmlingua2", "cross-encoder"])
def test_a_peer_with_weights_asks_for_a_checkpoint(name):
    with pytest.raises(OptionError, match="checkpoint must be a folder or a hub id, got None"):
        check_peer(name, {})


def test_a_peer_whose_package_is_absent_says_so_and_how_to_get_it(monkeypatch):
    monkeypatch.setattr(FirstWords, "packages", {"no_such_module.part": "no-such-package"})
    monkeypatch.setattr(FirstWords, "config_class", peers.Trimwise.config_class, raising=False)
    monkeypatch.setitem(PEERS, "first-words", FirstWords)
    reason = find_peer("first-words").missing()
    assert reason == "first-words needs no-such-package. pip install 'ragcompress[peers]', or no-such-package."
    assert FirstWords.versions() == {}
    with pytest.raises(MissingExtraError, match="needs no-such-package"):
        build_peer("first-words")


def test_asking_what_is_missing_imports_nothing_heavy():
    heavy = "{'torch', 'transformers', 'llama_index.core', 'langchain_core', 'langchain_classic', 'tiktoken', 'numpy'}"
    program = (
        "import sys; from ragcompress.evaluation.peers import PEERS\n"
        f"for peer in PEERS.values(): peer.missing(), peer.versions()\nprint({heavy} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("set()\n", 0), done.stderr


@pytest.mark.parametrize(
    ("max_tokens", "text"),
    [
        # The titled document costs one word more.
        (100, "Numbers\none two three four five\n\nsix seven eight"),
        (9, "Numbers\none two three four five\n\nsix seven eight"),
        (8, "Numbers\none two three four\n\nsix seven eight"),
        (4, "Numbers\none\n\nsix"),
        (3, "Numbers\none\n\nsix"),
        (2, ""),
        (0, ""),
    ],
)
def test_the_longest_output_that_fits_is_found(max_tokens, text):
    context = compress(FirstWords(), max_tokens)
    assert context.text == text
    assert context.n_slots <= max_tokens
    assert (context.counter, context.documents, context.n_tokens) == ("words", DOCUMENTS, 9)


def test_without_a_limit_a_peer_keeps_what_it_keeps_by_default_in_a_single_call():
    peer = FirstWords()
    assert compress(peer, None).text == "Numbers\none two\n\nsix seven"
    assert peer.calls == 1


def test_the_search_is_timed_apart_from_the_call():
    peer = FirstWords()
    timings = compress(peer, 8).timings
    assert set(timings) == {"compress_ms", "fit_ms"}
    assert peer.calls > 2
    assert compress(FirstWords(), None).timings["fit_ms"] == 0.0


def test_a_knob_that_depends_on_vectors_is_listed_where_they_are_remembered():
    class Remembering(FirstWords):
        remembers = False

        @contextmanager
        def remembering(self):
            self.remembers = True
            yield
            self.remembers = False

        def knob(self, *arguments):
            assert self.remembers
            return super().knob(*arguments)

    assert compress(Remembering(), 4).text == "Numbers\none\n\nsix"


def test_bisection_never_gives_what_did_not_fit():
    asked = []

    def fits(index):
        asked.append(index)
        return index in (1, 2, 6)

    found = largest(10, fits)
    assert found in (1, 2, 6)
    assert found in asked
    assert len(asked) <= 4


def test_a_peer_sees_no_lone_surrogates_and_its_spans_are_of_the_documents_as_they_came():
    class Encoding(FirstWords):
        def attempt(self, question, documents, setting, counter):
            for text in (question, *(f"{document.title}{document.text}" for document in documents)):
                text.encode()
            return super().attempt(question, documents, setting, counter)

    documents = (Document("one \ud800 two", title="O\udc00"), Document("three four"))
    context = compress(Encoding(), None, question="\ud800?", documents=documents)
    assert [segment.text for segment in context.segments] == ["one \ud800", "three four"]
    assert (context.query, context.documents) == ("\ud800?", documents)


def test_a_peer_that_raises_raises():
    class Broken(FirstWords):
        def attempt(self, question, documents, setting, counter):
            raise ValueError("zero sentences")

    with pytest.raises(ValueError, match="zero sentences"):
        compress(Broken(), 5)


def test_limits_and_questions_are_checked():
    with pytest.raises(OptionError, match="max_tokens must be a whole number and at least 0, got -1"):
        compress(FirstWords(), -1)
    with pytest.raises(InputError, match="query is empty"):
        compress(FirstWords(), 5, question=" ")


def test_text_that_nobody_made_of_the_sentences_is_not_led_back():
    assert chosen_sentences("A. X.", ["A.", "B."]) is None
    assert chosen_sentences("A.B.", ["A.", "B."]) is None
    assert find_in_order("A. B.", ["B.", "A."]) is None


def test_of_equal_sentences_the_one_behind_its_neighbour_is_meant():
    sentences = ["Yes.", "He left.", "Yes.", "She stayed."]
    assert chosen_sentences("He left. Yes. Yes. She stayed.", sentences) == [1, 2, 0, 3]
    assert chosen_sentences("He left. He left.", ["He left.", "He left. He left."]) == [1]


def test_quotes_have_their_spans_and_inventions_only_their_document():
    text = "Oslo is old. It is the capital of Norway. It has a port."
    assert quoted(text, 3, " It has a port.\n") == [TextSegment("It has a port.", (Source(3, 42, 56),))]
    several = quoted(text, 0, "It has a port. Oslo is old. It is in Sweden.")
    assert [(each.text, each.sources) for each in several] == [
        ("It has a port.", (Source(0, 42, 56),)),
        ("Oslo is old.", (Source(0, 0, 12),)),
        ("It is in Sweden.", (Source(0),)),
    ]
    assert quoted(text, 0, " ") == []


def test_vocabularies_are_found_in_the_cache_that_tiktoken_is_told_of(tmp_path, monkeypatch):
    import ragcompress.evaluation.peers.vocabularies as vocabularies

    monkeypatch.setattr(vocabularies, "find_spec", lambda name: None)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    assert "trimwise needs tiktoken's vocabulary o200k_base" in missing_vocabulary("trimwise", "o200k_base")
    (tmp_path / vocabularies._FILES["o200k_base"]).touch()
    assert missing_vocabulary("trimwise", "o200k_base") is None


def test_a_vocabulary_is_read_from_disk_and_the_environment_left_alone(monkeypatch):
    pytest.importorskip("llama_index.core", reason="llama-index-core, which brings the vocabulary, is not installed")
    import os

    import tiktoken

    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    load_vocabulary("cl100k_base")
    assert "TIKTOKEN_CACHE_DIR" not in os.environ
    assert tiktoken.get_encoding("cl100k_base").encode("hello") == [15339]


class Labelled:
    """Answers as llmlingua's ``PromptCompressor`` does, with words of its caller's choice."""

    model = None

    def __init__(self, labels, written):
        self.labels, self.written = labels, written

    def compress_prompt(self, context, *, word_sep, label_sep, **_):
        lines = word_sep.join(f"{word}{label_sep}{label}" for word, label in self.labels)
        return {"compressed_prompt": self.written, "fn_labeled_original_prompt": lines}


def llmlingua2(labels, written):
    return LLMLingua2(Labelled(labels, written), LLMLingua2Config(checkpoint="xlm-roberta-large"))


def test_words_that_llmlingua_keeps_have_the_spans_of_their_runs():
    document = Document("the cat sat , on the mat", title="Cat")
    labels = [("the", 0), ("cat", 1), ("sat", 1), (",", 0), ("on", 0), ("the", 0), ("mat", 1)]
    context = compress(llmlingua2(labels, "cat sat mat"), None, documents=[document])
    (segment,) = context.segments
    assert segment.text == "cat sat mat"
    assert [document.text[source.start : source.end] for source in segment.sources] == ["cat sat", "mat"]
    assert context.text == "Cat\ncat sat mat"


def test_words_that_llmlingua_has_changed_have_only_their_document():
    document = Document("ﬁne the cat , mat")
    labels = [("fine", 1), ("the", 0), ("cat", 1), (",", 0), ("mat", 1)]
    (segment,) = compress(llmlingua2(labels, "fine cat mat"), None, documents=[document]).segments
    assert segment.sources == (Source(0),)


def test_nothing_left_by_llmlingua_is_no_segment():
    assert compress(llmlingua2([("cat", 0)], ""), None, documents=[Document("cat")]).segments == ()
