"""Parity with RECOMP's released code: masked mean, raw dot product, 512 tokens, and the published selection rules.

The references are computed here with nothing but transformers, one text at a time, without padding.
"""

import pytest
import torch

import ragcompress as rc
from ragcompress.backends.recomp_extractive import RecompExtractive, RecompExtractiveConfig
from ragcompress.backends.recomp_extractive._tiny import tiny_encoder
from ragcompress.backends.recomp_extractive.model import SentenceEncoder
from ragcompress.nn.pooling import masked_mean
from ragcompress.options import build_config
from ragcompress.selection import arrange, choose

QUERY = "who built the bridge?"
SENTENCES = [
    "A river.",
    "The old stone bridge over the river was built by the king in the year of the war, as the islanders tell it.",
    "moon " * 300,
]


def reference(encoder, texts):
    """One text at a time: mean of the last hidden state over all tokens, [CLS] and [SEP] included."""
    vectors = []
    for text in texts:
        ids = encoder.tokenizer(text, truncation=True, max_length=512, return_tensors="pt")
        with torch.no_grad():
            vectors.append(encoder.model(**ids).last_hidden_state[0].mean(dim=0))
    return torch.stack(vectors)


def test_a1_scores_equal_the_reference():
    encoder = tiny_encoder()
    expected = reference(encoder, [QUERY, *SENTENCES])
    found = encoder.encode([QUERY, *SENTENCES]).vectors
    assert (found - expected).abs().max() < 1e-5
    assert ((found[1:] @ found[0]) - (expected[1:] @ expected[0])).abs().max() < 1e-4


@pytest.mark.parametrize("batch_tokens", [1, 40, 600, 100_000])
def test_a1_invariant_to_batch_size_and_order(batch_tokens):
    encoder = tiny_encoder()
    expected = encoder.encode(SENTENCES).vectors
    other = SentenceEncoder(encoder.model, encoder.tokenizer, batch_tokens=batch_tokens)
    assert (other.encode(SENTENCES[::-1]).vectors.flip(0) - expected).abs().max() < 1e-5


def test_a1_invariant_to_padding_side():
    states = torch.randn(2, 5, 8)
    left, right = torch.tensor([[0, 0, 1, 1, 1]]), torch.tensor([[1, 1, 1, 0, 0]])
    assert torch.allclose(masked_mean(states[:1], left), masked_mean(states[:1].roll(-2, 1), right))


def test_a2_normalised_scores_are_cosines_and_differ():
    encoder = tiny_encoder()
    documents = [rc.Document(sentence) for sentence in SENTENCES[:2]]
    options = {"top_k": 2, "splitter": "lines"}
    raw = RecompExtractive(encoder, RecompExtractiveConfig(**options)).compress(QUERY, documents)
    unit = RecompExtractive(encoder, RecompExtractiveConfig(**options, normalize=True)).compress(QUERY, documents)
    vectors = reference(encoder, [QUERY, *SENTENCES[:2]])
    cosines = torch.nn.functional.cosine_similarity(vectors[1:], vectors[:1]).tolist()
    dots = (vectors[1:] @ vectors[0]).tolist()
    assert [segment.score for segment in unit.segments] == pytest.approx(cosines, abs=1e-5)
    assert [segment.score for segment in raw.segments] == pytest.approx(dots, abs=1e-4)
    assert abs(dots[0] - cosines[0]) > 1e-2


def chosen(preset, scores, documents, **options):
    config = build_config(RecompExtractiveConfig, {"preset": preset, **options})
    kept = choose(scores, documents, config, count=lambda i: [1] * len(i), first_cost=lambda d: 0, n_tokens=[9])
    return arrange(kept, config.order)


def test_a9_published_selection_rules():
    scores = [0.2, 0.9, 0.5]
    assert chosen("paper", scores, [0, 0, 0], top_k=2) == [1, 2]
    assert chosen("bergen", scores, [0, 0, 0], top_k=2) == [2, 1]
    assert chosen("flashrag", scores, [0, 0, 0], top_k=2) == [1, 2]
    assert chosen("bergen-threshold", scores, [0, 0, 0], threshold=0.5) == [1, 2]


def test_bergen_takes_the_first_sentence_as_title_and_ranks_in_each_document():
    encoder = tiny_encoder()
    bergen = RecompExtractive(encoder, build_config(RecompExtractiveConfig, {"preset": "bergen", "top_k": 1}))
    documents = ["Stone bridge. The king built it. It is long.", "Only one sentence.", ""]
    context = bergen.compress("who built it", documents)
    vectors = reference(encoder, ["who built it", "Stone bridge. The king built it.", "Stone bridge. It is long."])
    best = (vectors[1:] @ vectors[0]).argmax().item()
    sentence = ["The king built it.", "It is long."][best]
    parts = [part.text for part in context.by_document()]
    assert parts[0] == f"Stone bridge. {sentence}"
    # Upstream consumes a single sentence as the title and crashes on an empty document; ours scores and skips.
    assert parts[1:] == ["Only one sentence."]
    assert context.segments[0].score is None


def test_paper_writes_titles_with_every_unit_best_first():
    encoder = tiny_encoder()
    paper = RecompExtractive(encoder, build_config(RecompExtractiveConfig, {"preset": "paper", "top_k": 3}))
    sentences = {
        "Bridge": ["Built in 1357.", "It is long."],
        "Moon": ["It is far.", "Nobody lives on it.", "It is old."],
    }
    documents = [rc.Document(" ".join(each), title=title) for title, each in sentences.items()]
    context = paper.compress("how far is it", documents)
    units = [f"{title} {sentence}" for title, each in sentences.items() for sentence in each]
    vectors = reference(encoder, ["how far is it", *units])
    order = (vectors[1:] @ vectors[0]).argsort(descending=True).tolist()[:3]
    assert context.text == " ".join(units[index] for index in order)


def test_flashrag_drops_titles_and_short_pieces():
    encoder = tiny_encoder()
    flashrag = RecompExtractive(encoder, build_config(RecompExtractiveConfig, {"preset": "flashrag"}))
    context = flashrag.compress(
        "founded", [rc.Document("It was founded in 1990. Why? Because it rained! Yes!", title="T")]
    )
    assert context.text == "It was founded in 1990. Because it rained!"


def test_titles_are_scored_with_the_sentence():
    encoder = tiny_encoder()
    compressor = RecompExtractive(encoder, RecompExtractiveConfig(top_k=1))
    (segment,) = compressor.compress(QUERY, [rc.Document("It is long.", title="Stone bridge")]).segments
    vectors = reference(encoder, [QUERY, "Stone bridge It is long."])
    assert segment.score == pytest.approx(float(vectors[1] @ vectors[0]), abs=1e-4)
    assert segment.text == "It is long."


def test_reads_512_tokens_whatever_the_folder_says(tmp_path):
    """The folder's 100-token limit is the training's; upstream inference reads 512."""
    import json

    compressor = RecompExtractive.tiny()
    compressor.save_pretrained(tmp_path / "saved")
    settings = tmp_path / "saved" / "sentence_bert_config.json"
    settings.write_text(json.dumps({"max_seq_length": 100, "do_lower_case": False}))
    loaded = RecompExtractive.from_pretrained(tmp_path / "saved", device="cpu")
    text = "river " * 300
    expected = reference(compressor.encoder, [text])
    assert (loaded.encoder.encode([text]).vectors - expected).abs().max() < 1e-5
    assert loaded.encoder.encode([text, "river " * 600]).truncated == [False, True]
