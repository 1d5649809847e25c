"""Parity with Provence as published: heads, key names, windows, rounding, title rule, query form, rates.

The references are computed here with nothing but transformers, one window at a time, without padding.
"""

import pytest
import torch
from safetensors.torch import load_file

import ragcompress as rc
from ragcompress.backends.provence import Provence, ProvenceConfig, compression_rate
from ragcompress.backends.provence._checkpoint import LAYOUTS
from ragcompress.backends.provence._tiny import tiny_model, tiny_tokenizer
from ragcompress.backends.provence.rounding import keep_units, rounding_limit, sentence_value
from ragcompress.backends.provence.windows import normalize_query, pack, pieces, room
from ragcompress.sentences import get_splitter
from ragcompress.testing import DOCUMENTS, QUERIES, same_context

LONG = rc.Document(" ".join(f"The river bridge number {n} is long, and the moon is far." for n in range(80)))


def build(config=None, *, layout="provence", batch_tokens=None, **options):
    tokenizer = tiny_tokenizer()
    model = tiny_model(len(tokenizer), layout=layout, **options)
    return Provence(model, tokenizer, config, batch_tokens=batch_tokens)


@pytest.fixture
def rows():
    """What a model was given, window by window, without padding."""
    seen = []

    def watch(compressor):
        compressor.model.register_forward_pre_hook(
            lambda module, args: seen.extend(ids[: int(mask.sum())].tolist() for ids, mask in zip(*args, strict=True))
        )
        return seen

    return watch


def theirs(layout, config, n_outputs):
    """The family's own sequence classifier of transformers, and the prefix that its weights have in our file."""
    from transformers import (
        DebertaV2ForSequenceClassification,
        ModernBertForSequenceClassification,
        XLMRobertaForSequenceClassification,
    )

    kinds = {
        "provence": (DebertaV2ForSequenceClassification, ""),
        "xprovence": (XLMRobertaForSequenceClassification, ""),
        "open-provence": (ModernBertForSequenceClassification, "ranking_model."),
    }
    kind, prefix = kinds[layout]
    config.num_labels = n_outputs
    return kind(config).eval(), prefix


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_c1_c2_the_heads_and_the_names_of_the_weights(tmp_path, layout, n_outputs):
    compressor = build(layout=layout, n_outputs=n_outputs)
    compressor.save_pretrained(tmp_path / "saved")
    weights = load_file(tmp_path / "saved" / "model.safetensors")
    reference, prefix = theirs(layout, compressor.model.backbone.config, n_outputs)
    token_head = "pruning_head.classifier" if layout == "open-provence" else "token_classifier"
    wanted = {prefix + key for key in reference.state_dict()}
    assert set(weights) == wanted | {f"{token_head}.weight", f"{token_head}.bias"}
    reference.load_state_dict({key.removeprefix(prefix): weights[key] for key in wanted})

    loaded = Provence.from_pretrained(tmp_path / "saved", device="cpu").model
    ids = torch.randint(5, 90, (3, 40), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        states = reference.base_model(input_ids=ids, attention_mask=mask).last_hidden_state
        logits = states @ weights[f"{token_head}.weight"].T + weights[f"{token_head}.bias"]
        expected = logits.softmax(-1)[..., 1], reference(input_ids=ids, attention_mask=mask).logits[:, 0]
        found = loaded(ids, mask)
    assert (found.keep - expected[0]).abs().max() < 1e-5
    assert (found.scores - expected[1]).abs().max() < 1e-5
    assert found.keep.std() > 0.01
    assert found.scores.std() > 0.01


def test_c1_by_hand():
    """Backbone, first state, dense, GELU, linear; linear, softmax: written out."""
    model = build().model
    ids = torch.randint(5, 90, (2, 30), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        states = model.backbone(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        weights = model.state_dict()
        pooled = states[:, 0] @ weights["ranking_head.dense.weight"].T + weights["ranking_head.dense.bias"]
        pooled = pooled * 0.5 * (1 + torch.erf(pooled / 2**0.5))
        score = pooled @ weights["ranking_head.output.weight"][0] + weights["ranking_head.output.bias"][0]
        drop, keep = (states @ weights["token_head.weight"].T + weights["token_head.bias"]).unbind(-1)
        found = model(ids, torch.ones_like(ids))
    assert (found.scores - score).abs().max() < 1e-5
    assert (found.keep - keep.exp() / (drop.exp() + keep.exp())).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("probabilities", "threshold", "kept"),
    [
        ([1.0] + [0.08] * 19, 0.1, {"binary-mean": False, "probability-mean": True, "majority": False}),
        ([0.11] * 12 + [0.0] * 88, 0.1, {"binary-mean": True, "probability-mean": False, "majority": False}),
        ([0.6] * 6 + [0.4] * 4, 0.5, {"binary-mean": True, "probability-mean": True, "majority": True}),
        ([0.6] * 4 + [0.4] * 6, 0.5, {"binary-mean": False, "probability-mean": False, "majority": False}),
    ],
)
def test_c3_the_three_rounding_rules(probabilities, threshold, kept):
    for rounding, expected in kept.items():
        value = sentence_value(probabilities, threshold, rounding)
        assert (value > rounding_limit(threshold, rounding)) is expected, rounding


def test_c4_windows_hold_whole_sentences(rows):
    budget = room(10, 512)
    assert budget == 499
    lengths = [end - begin for n in (200, 200, 200, 600) for begin, end in pieces(n, budget)]
    assert lengths == [200, 200, 200, 499, 101]
    assert pack(lengths, budget) == [[0, 1], [2], [3], [4]]

    compressor = build(ProvenceConfig(splitter="lines"))
    seen = rows(compressor)
    (moon,) = compressor._text.ids(["moon"])[0]
    text = "\n".join(" ".join(["moon"] * n) for n in (200, 200, 200, 600))
    compressor.compress(" ".join(["river"] * 10), [text])
    head = [compressor._text.cls_id, *compressor._text.ids(["river " * 10])[0][:10], compressor._text.sep_id]
    expected = [[*head, *[moon] * n, compressor._text.sep_id] for n in (400, 200, 499, 101)]
    assert sorted(seen) == sorted(expected)
    assert max(map(len, seen)) == 512


def test_the_first_sentence_is_tokenised_as_it_is_and_later_ones_behind_a_space(rows):
    compressor = build(ProvenceConfig(splitter="lines", titles="document"))
    seen = rows(compressor)
    ids = {text: compressor.tokenizer(text, add_special_tokens=False).input_ids for text in ("Title", " one", " two")}
    query = compressor.tokenizer("what is it", add_special_tokens=False).input_ids
    compressor.compress("What is it?", [rc.Document("one\ntwo", title="Title")])
    cls, sep = compressor._text.cls_id, compressor._text.sep_id
    assert seen == [[cls, *query, sep, *ids["Title"], *ids[" one"], *ids[" two"], sep]]


def test_c5_the_title_rule():
    def kept(values, windows, title):
        flags = keep_units(values, range(len(values)), windows, 0.1, title=title)
        return {index for index, keep in enumerate(flags) if keep}

    assert kept([0, 0, 0, 0.9], [0, 0, 0, 0], "first") == {0, 3}
    assert kept([0, 0, 0, 0.9], [0, 0, 0, 0], "own") == {3}
    assert kept([0, 0, 0, 0], [0, 0, 0, 0], "first") == set()
    assert kept([0, 0, 0, 0.9], [0, 0, 1, 1], "first") == {3}
    assert kept([0, 0, 0, 0.9], [0, 0, 1, 1], "any") == {0, 3}
    assert kept([0.05], [0], "first") == set()


def test_c6_the_query_as_the_models_were_trained():
    assert normalize_query('What’s "C++"?') == "what’s c"
    assert normalize_query("  Who\tis\nA-1,   3.5? ") == "who is a1 35"
    assert normalize_query("The END of the world") == "the end of the world"
    assert normalize_query("?!...") == ""


def test_c7_rates_of_the_published_lengths():
    assert compression_rate("x" * 1047, "x" * 424) == pytest.approx(59.50334288443171, abs=1e-12)
    assert compression_rate("x" * 1047, "x" * 440) == pytest.approx(57.97516714422159, abs=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("batch_tokens", [1, 1500, 100_000])
def test_c12_invariant_to_batches_and_padding(layout, batch_tokens):
    expected = build(layout=layout, batch_tokens=512).compress_batch(QUERIES, [(*DOCUMENTS, LONG)] * len(QUERIES))
    assert any(context.segments for context in expected)
    found = build(layout=layout, batch_tokens=batch_tokens).compress_batch(QUERIES, [(*DOCUMENTS, LONG)] * len(QUERIES))
    for ours, other in zip(found, expected, strict=True):
        assert same_context(ours, other)


def reference_result(compressor, query, text, *, threshold, rounding, splitter="punkt-plain"):
    """The published algorithm, a window at a time: kept spans, and the score of every window."""
    model, tokenizer = compressor.model, compressor.tokenizer
    question = tokenizer(normalize_query(query), add_special_tokens=False).input_ids
    spans = list(get_splitter(splitter)(text))
    ids = [
        tokenizer((" " if place else "") + text[start:end], add_special_tokens=False).input_ids
        for place, (start, end) in enumerate(spans)
    ]
    windows, length = [[]], 0
    for place, own in enumerate(ids):
        if length + len(own) > 512 - 3 - len(question):
            windows.append([])
            length = 0
        windows[-1].append(place)
        length += len(own)
    kept, scores = [], []
    for window in windows:
        row = [tokenizer.cls_token_id, *question, tokenizer.sep_token_id]
        places = {}
        for place in window:
            places[place] = (len(row), len(row) + len(ids[place]))
            row += ids[place]
        row = torch.tensor([[*row, tokenizer.sep_token_id]])
        with torch.no_grad():
            found = model(row, torch.ones_like(row))
        scores.append(found.scores.item())
        for place, (begin, end) in places.items():
            own = found.keep[0, begin:end]
            value = own.mean() if rounding == "probability-mean" else (own > threshold).float().mean()
            if value > (0.5 if rounding == "majority" else threshold):
                kept.append(spans[place])
    return kept, scores


@pytest.mark.parametrize("rounding", ["binary-mean", "probability-mean", "majority"])
@pytest.mark.parametrize("threshold", [0.001, 0.05, 0.1])
def test_results_equal_the_reference(rounding, threshold):
    config = ProvenceConfig(threshold=threshold, rounding=rounding, splitter="punkt-plain", titles="ignore")
    compressor = build(config)
    n_kept = 0
    for text in [LONG.text, *(document.text for document in DOCUMENTS)]:
        context = compressor.compress(QUERIES[0], [text])
        kept, scores = reference_result(compressor, QUERIES[0], text, threshold=threshold, rounding=rounding)
        assert [(segment.sources[0].start, segment.sources[0].end) for segment in context.segments] == kept
        assert all(segment.score == pytest.approx(scores[0], abs=1e-4) for segment in context.segments)
        n_kept += len(kept)
        if text is LONG.text:
            assert len(scores) > 2
            best = compressor.with_options(score_window="best", min_sentences=1).compress(QUERIES[0], [text])
            assert best.segments[0].score == pytest.approx(max(scores), abs=1e-4)
            assert max(scores) > scores[0] + 1e-3
    n_sentences = sum(len(get_splitter("punkt-plain")(text)) for text in [LONG.text, *(d.text for d in DOCUMENTS)])
    if threshold == 0.001 or rounding != "majority":
        assert n_kept > 0
    if threshold == 0.1:
        assert n_kept < n_sentences


def test_the_upstream_preset_decodes_token_ids():
    compressor = build().with_options(preset="upstream", threshold=0.0)
    text = "The moon\nis   far away.\n\nNobody lives there."
    (segment,) = compressor.compress("moon", [text]).segments
    assert segment.text == "The moon is far away. Nobody lives there."
    assert segment.sources == (rc.Source(0),)
    original = compressor.with_options(text_mode="original").compress("moon", [text])
    assert [text[s.sources[0].start : s.sources[0].end] for s in original.segments] == [
        "The moon\nis   far away.",
        "Nobody lives there.",
    ]
