"""The benchmarks' own arithmetic, their experiment files, and that the committed tables say what was measured."""

import importlib
import json
import random
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
EXPERIMENTS = sorted((BENCHMARKS / "experiments").glob("*.json"))
RESULTS = sorted((BENCHMARKS / "results").glob("*.json"))
EVALUATED = sorted((BENCHMARKS / "results" / "evaluation").rglob("*.json"))
NAMES = (
    "run", "tables", "cells", "corpus_tables", "evaluation_tables", "measures", "measures.metrics", "measures.timing", "measures.common",
    "measures.quality", "measures.synthetic", "measures.index_search",
)  # fmt: skip


@pytest.fixture(scope="module")
def bench():
    """The modules of benchmarks/, importable as they are when ``run.py`` is the program."""
    path = list(sys.path)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield {name: importlib.import_module(name) for name in NAMES}
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name in NAMES or name.startswith("measures.")]:
            del sys.modules[name]


@pytest.fixture
def metrics(bench):
    return bench["measures.metrics"]


def test_judge_counts_sentences_and_characters(metrics):
    gold = [[(0, 10), (20, 30)], [(5, 9)]]
    kept = [[(0, 12)], [(0, 7)]]
    result = metrics.judge(gold, kept, [40, 10])
    assert result.recall == pytest.approx(2 / 3)  # the second gold sentence is lost, half of the third suffices
    assert result.precision == pytest.approx((10 + 2) / (12 + 7))
    assert result.all_gold == 0.0
    assert result.characters == pytest.approx(19 / 50)


@pytest.mark.parametrize(("kept_until", "recall"), [(4, 0.0), (5, 1.0), (10, 1.0)])
def test_half_of_a_sentence_is_recalled(metrics, kept_until, recall):
    assert metrics.judge([[(0, 10)]], [[(0, kept_until)]], [20]).recall == recall


def test_nothing_kept(metrics):
    result = metrics.judge([[(0, 10)]], [[]], [20])
    assert (result.recall, result.precision, result.characters) == (0.0, 0.0, 0.0)


def test_a_gold_sentence_over_two_kept_spans_is_recalled(metrics):
    assert metrics.judge([[(0, 10)]], [[(0, 3), (6, 10)]], [10]).all_gold == 1.0


def test_repeated_spans_count_once(metrics):
    assert metrics.judge([[(0, 10)]], [[(0, 10), (0, 10), (5, 15)]], [20]).precision == pytest.approx(10 / 15)


def test_merged_and_shared(metrics):
    assert metrics.merged([(3, 3), (8, 9), (0, 2), (2, 4)]) == [(0, 4), (8, 9)]
    assert metrics.shared([], [(0, 5)]) == 0
    assert metrics.length([(0, 4), (2, 6), (9, 9)]) == 6


def test_percentile(metrics):
    assert metrics.percentile([4.0], 0.9) == 4.0
    assert metrics.percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.5


def test_interval_holds_the_mean_and_is_reproducible(metrics):
    source = random.Random(1)
    values = [source.random() for _ in range(200)]
    low, high = metrics.interval(values, seed=3)
    assert low < metrics.mean(values) < high
    assert high - low == pytest.approx(2 * 1.96 * (1 / 12) ** 0.5 / 200**0.5, rel=0.2)
    assert metrics.interval(values, seed=3) == [low, high]
    assert metrics.interval([0.5] * 10, seed=0) == [0.5, 0.5]


def test_speed_ratio_uses_medians_and_pairs(metrics):
    slow = [[3.0, 3.0, 90.0], [6.0, 6.0, 6.0]]
    fast = [[1.0, 1.0, 1.0], [2.0, 2.0, 50.0]]
    ratio = metrics.speed_ratio(slow, fast, seed=0)
    assert ratio["value"] == 3.0
    assert ratio["interval"] == [3.0, 3.0]
    assert ratio["rounds"] == [3.0, 3.0, 96 / 51]


def test_contestants_take_turns(bench):
    calls = []

    def contestant(name):
        return lambda item: lambda: calls.append((name, item))

    seconds = bench["measures.timing"].take_turns({"a": contestant("a"), "b": contestant("b")}, [1, 2], rounds=3)
    assert [len(each) for each in seconds["a"] + seconds["b"]] == [3, 3, 3, 3]
    timed = calls[4:]  # one untimed round first
    assert timed[:4] == [("a", 1), ("b", 1), ("b", 2), ("a", 2)]
    assert sorted(timed) == sorted([(name, item) for name in "ab" for item in (1, 2)] * 3)


def test_mixture(bench, metrics):
    quality = bench["measures.quality"]
    low = quality.Row(metrics.Kept(0.0, 0.2, 0.0, 0.1), tokens=0.1, sentence_tokens=100.0, sentences=2.0)
    high = quality.Row(metrics.Kept(1.0, 0.4, 1.0, 0.3), tokens=0.3, sentence_tokens=200.0, sentences=4.0)
    mixed = quality.mixture([low, high], [0.75, 0.25])
    assert mixed.kept.recall == 0.25
    assert mixed.sentence_tokens == 125.0


def test_kept_spans_are_found_in_any_order(bench):
    text = "One. Two. One. Four."
    spans = bench["measures.quality"].kept_spans(text, ["One.", "Two.", "One.", "Four."], "Four. Two.")
    assert spans == [(5, 9), (15, 20)]


def test_targets(bench):
    target = bench["measures.common"].target
    assert target("a", 1.2, 1.15, "x")["reached"] is False
    assert target("a", 1.5, 1.5, "x", at_most=False)["reached"] is True
    line = bench["tables"].target_line(target("a", 1.2, 1.15, "x"))
    assert line == "a: 1.2 x (asked: <= 1.15) NOT REACHED"


def test_rounded(bench):
    assert bench["measures.common"].rounded({"a": (0.123456, True, "x", None)}) == {"a": [0.1235, True, "x", None]}


def test_missing_data_is_said_and_is_no_error(bench, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("RAGCOMPRESS_DATA", str(tmp_path))
    monkeypatch.setattr(bench["run"], "LIMITED", tmp_path / "results")
    assert bench["run"].main(["cold", "quality-hotpotqa", "--limit", "2"]) == 0
    assert capsys.readouterr().out.count("skipped, nothing was measured") == 2
    assert not list((tmp_path / "results").iterdir())


def test_there_are_experiments():
    assert EXPERIMENTS


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiment_names_a_known_benchmark_and_known_options(bench, path):
    benchmark, options = bench["run"].read_experiment(path)
    assert benchmark in bench["measures"].NAMES
    assert bench["run"].limited(options, 2) is not None


def test_unknown_options_are_refused(bench, tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"benchmark": "startup", "round": 3}))
    with pytest.raises(ValueError, match="no option round; known: rounds"):
        bench["run"].read_experiment(path)
    path.write_text(json.dumps({"benchmark": "cool"}))
    with pytest.raises(ValueError, match="no benchmark is called 'cool'"):
        bench["run"].read_experiment(path)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_result_belongs_to_an_experiment_as_it_stands(bench, path):
    _, options = bench["run"].read_experiment(BENCHMARKS / "experiments" / path.name)
    result = json.loads(path.read_text(encoding="utf-8"))
    assert result["options"] == json.loads(json.dumps(bench["run"].dataclasses.asdict(options)))
    assert {"commit", "libraries", "hardware", "date"} <= set(result["environment"])


def test_results_hold_numbers_and_no_passages():
    for path in [*RESULTS, *EVALUATED]:
        assert path.stat().st_size < 96 * 1024
        result = json.loads(path.read_text(encoding="utf-8"))
        result.pop("skipped", None)  # what a peer needs
        texts = [text for text in strings(result) if len(text) > 100]
        assert texts == []


def test_evaluated_contestants_belong_to_experiments_as_they_stand():
    from ragcompress.evaluation import read_experiment
    from ragcompress.evaluation.records import read_summary

    experiments = {
        path.stem: read_experiment(path) for path in (BENCHMARKS / "experiments" / "evaluation").glob("*.yaml")
    }
    for path in EVALUATED:
        summary = read_summary(json.loads(path.read_text(encoding="utf-8")))
        assert summary.contestant == path.stem
        if summary.kind == "compressor":
            wanted = {"device": "cpu", **experiments[summary.contestant].compressor}
            assert wanted.items() <= summary.settings["compressor"].items()
        elif summary.matched_to is not None:
            own = experiments[summary.matched_to]
            assert summary.contestant.partition("--")[2] in [*own.baselines, *own.peers]
        assert summary.failures == {}


def strings(value):
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return (
        [value]
        if isinstance(value, str)
        else [s for each in value for s in strings(each)]
        if isinstance(value, list)
        else []
    )


def test_committed_tables_are_the_generated_ones(bench):
    tables = bench["tables"]
    for path, block in tables.pages(tables.read_results()).items():
        if path.is_file() and block:
            text = path.read_text(encoding="utf-8")
            assert text == tables.fill(text, block), f"{path}: run python benchmarks/tables.py"


def test_a_page_without_markers_stays(bench):
    assert bench["tables"].fill("no markers", "block") == "no markers"


def test_tables_of_no_results_are_empty(bench):
    assert bench["tables"].full({}) == bench["tables"].summary({}) == ""


def test_numbers_are_written_plainly(bench):
    tables = bench["tables"]
    assert [tables.number(value) for value in (0.0812, 7.5, 123.4, 98765.0)] == ["0.0812", "7.5", "123", "98765"]
    assert [tables.share(value) for value in (0.5, 1.0, -0.05)] == [".500", "1.000", "-.050"]


def test_ratios_are_written_with_their_interval_or_their_rounds(bench):
    cell = bench["cells"].ratio_cell
    assert cell({"value": 1.234, "interval": [1.2, 1.3], "rounds": [5.0]}) == "1.23 [1.20, 1.30] x"
    assert cell({"value": 1.234, "rounds": [1.31, 1.19]}) == "1.23 (rounds: 1.19 to 1.31) x"


def test_passages_come_once_from_several_files(bench, monkeypatch, tmp_path):
    monkeypatch.setenv("RAGCOMPRESS_DATA", str(tmp_path))
    docs = [{"title": "A", "text": "one"}, {"title": "B", "text": "one"}, {"title": "A", "text": "one"}]
    (tmp_path / "x.jsonl").write_text(json.dumps({"question": "?", "docs": docs}))
    (tmp_path / "y.jsonl").write_text(json.dumps({"question": "?", "docs": [*docs, {"title": "C", "text": "two"}]}))
    common = bench["measures.common"]
    assert [each.title for each in common.read_passages(["x", "y"])] == ["A", "B", "C"]
    assert len(common.read_passages(["x", "missing"], 2)) == 2
    with pytest.raises(common.MissingError, match="3 different passages; asked for: 4"):
        common.read_passages(["x", "y"], 4)


def test_synthetic_memories_are_the_same_again_and_questions_are_like_their_sources(bench):
    import torch

    search, synthetic = bench["measures.index_search"], bench["measures.synthetic"]
    source = synthetic.Synthetic(2, 64, likeness=0.9)
    block = source.documents(1)
    assert torch.equal(block, synthetic.Synthetic(2, 64, likeness=0.9).documents(1))
    assert not torch.equal(block, source.documents(0))
    assert (block.shape, block.dtype) == ((synthetic.BLOCK, 2, 64), torch.bfloat16)
    truth = search.Truth(list(source.questions(20)), 10)
    truth.add(source.documents(0))
    truth.add(block)
    assert sum(place in best for place, best in enumerate(truth.best())) >= 15
    cosines = truth.cosines()
    assert cosines["of a question and its source"] > cosines["of any two"] + 0.2


def test_what_many_documents_cost(bench):
    search, tables = bench["measures.index_search"], bench["corpus_tables"]
    parts = search.computed_bytes(2, 4096, 904.0)
    assert parts == {"bfloat16": 16384, "int8": 8704, "short": 2048, "short, indexed": 2048, "text": 904.0}
    stored = search.computed_bytes(8, 4096, None)
    assert (stored["short"], stored["text"]) == (0, 0.0)
    costs = [
        {"name": "A", "slots": 2, "width": 4096, "bytes": parts},
        {"name": "B", "slots": 8, "width": 4096, "bytes": stored},
    ]
    lines = tables.cost_table({"results": {"costs": costs}}).splitlines()
    assert lines[2].endswith("| 4,096 | 904 | 21.4 GB | 13.7 GB | 21.4 TB | 13.7 TB |")
    assert lines[3].endswith("| none: a store | none: a store | 65.5 GB | 34.8 GB | 65.5 TB | 34.8 TB |")


def test_a_limit_makes_corpora_smaller(bench):
    _, options = bench["run"].read_experiment(BENCHMARKS / "experiments" / "index-search.json")
    assert bench["run"].limited(options, 3).corpora == (1000, 3000)
    assert bench["run"].limited(options, None) is options
