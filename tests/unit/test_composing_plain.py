"""Pipelines in plain form: as a list of dictionaries, from Python and through the adapter of the plugins."""

import json
import pickle
import warnings

import pytest
from typer.testing import CliRunner

import ragcompress as rc
from ragcompress.cli import app
from ragcompress.testing import DOCUMENTS, QUERIES, same_context, tiny

BUDGET = {"backend": "token-budget", "max_tokens": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("stages")
    tiny("recomp-extractive").save_pretrained(path / "ranker")
    tiny("pisco").save_pretrained(path / "pisco")
    return path


@pytest.fixture
def ranker(folder):
    return {"backend": "recomp-extractive", "checkpoint": str(folder / "ranker"), "top_k": 6, "device": "cpu"}


@pytest.fixture
def pisco(folder):
    return {"backend": "pisco", "checkpoint": str(folder / "pisco"), "device": "cpu"}


@pytest.fixture
def expected():
    return rc.Pipeline([tiny("recomp-extractive").with_options(top_k=6), rc.TokenBudget(40)]).compress(
        QUERIES[0], DOCUMENTS
    )


def test_dictionaries_and_compressors_mix(ranker, expected):
    for stages in ([ranker, BUDGET], [ranker, rc.TokenBudget(40)], [rc.load(**_named(ranker)), BUDGET]):
        assert same_context(rc.Pipeline(stages).compress(QUERIES[0], DOCUMENTS), expected)
        assert same_context(rc.load("pipeline", stages=stages).compress(QUERIES[0], DOCUMENTS), expected)


def _named(stage):
    return {"name": stage["backend"]} | {name: value for name, value in stage.items() if name != "backend"}


def test_options_may_stand_in_a_dictionary_of_their_own(ranker, expected):
    checkpoint = ranker.pop("checkpoint")
    # An option of this backend has the name under which a stage names its backend.
    apart = {
        "backend": ranker.pop("backend"),
        "checkpoint": checkpoint,
        "options": {**ranker, "backend": "torch"},
    }
    pipeline = rc.Pipeline([apart, BUDGET])
    assert same_context(pipeline.compress(QUERIES[0], DOCUMENTS), expected)
    written = rc.Pipeline([rc.load("recomp-extractive", checkpoint, **apart["options"]), BUDGET]).spec
    assert written.options["stages"] == [apart, BUDGET]


def test_a_pipeline_that_can_be_written_down_says_how_it_is_loaded(ranker):
    pipeline = rc.Pipeline([rc.load(**_named(ranker)), rc.Deduplicate(0.7), BUDGET])
    plain = json.loads(json.dumps(pipeline.spec.options))
    assert plain == {"stages": [ranker, {"backend": "deduplicate", "threshold": 0.7}, BUDGET]}
    again = rc.load(pipeline.spec.backend, **plain)
    assert same_context(again.compress(QUERIES[0], DOCUMENTS), pipeline.compress(QUERIES[0], DOCUMENTS))
    assert rc.Pipeline([tiny("recomp-extractive"), BUDGET]).spec is None


def test_changed_options_are_written_down(ranker):
    pipeline = rc.load("pipeline", stages=[ranker, BUDGET], device="cpu", store="memory://changed")
    other = pipeline.with_options(stages=[{"max_tokens": 100}, {}])
    changed = {name: value for name, value in ranker.items() if name != "top_k"} | {"max_tokens": 100}
    assert other.spec.options == {"stages": [changed, BUDGET], "device": "cpu", "store": "memory://changed"}
    assert pipeline.spec.options["stages"] == [ranker, BUDGET]
    again = rc.load("pipeline", **other.spec.options)
    assert same_context(again.compress(QUERIES[0], DOCUMENTS), other.compress(QUERIES[0], DOCUMENTS))


def test_a_store_goes_to_the_stages_that_can_use_it(ranker, pisco):
    store = rc.InMemoryStore()
    second = {**ranker, "top_k": 4}
    pipeline = rc.load("pipeline", stages=[ranker, second, pisco], store=store)
    assert [stage.store is store for stage in pipeline.stages] == [True, False, True]
    assert pipeline.store is store
    own = rc.load("pipeline", stages=[{**ranker, "store": "memory://own"}, pisco], store=store)
    assert own.stages[0].store is rc.open_store("memory://own")
    assert own.stages[1].store is store
    assert rc.load("pipeline", stages=[ranker, pisco]).store is not None  # handles lead somewhere


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([], ["at least one stage"]),
        ("recomp-extractive", ["list of compressors or dictionaries", "str"]),
        (None, ["list of compressors", "NoneType"]),
        ({"backend": "token-budget"}, ["list of compressors", "dict"]),
        ([BUDGET, "provence"], ["stage 2", "str 'provence'", "{'backend':"]),
        ([len], ["stage 1", "builtin_function_or_method"]),
        ([BUDGET, {"max_tokens": 3}], ["stage 2", "'max_tokens'", "names no backend"]),
        ([{}], ["stage 1", "names no backend"]),
        ([BUDGET, {"backend": "token-bucket"}], ["stage 2 (token-bucket)", "'token-budget'"]),
        ([{"backend": "recomp-extractive", "tok_k": 3}], ["stage 1 (recomp-extractive)", "'top_k'"]),
        ([BUDGET, {"backend": "token-budget", "max_tokens": 0}], ["stage 2 (token-budget)", "at least 1"]),
        ([{"backend": "token-budget", "options": 3}], ["stage 1", "options", "int"]),
        ([{**BUDGET, "options": {"max_tokens": 4}}], ["stage 1", "max_tokens", "once"]),
        ([{"backend": "pisco"}, BUDGET], ["stage 1 (pisco)", "vectors", "stage 2 (token-budget)", "last"]),
        ([{"backend": "pipeline", "stages": [{"backend": "pisco"}]}, BUDGET], ["stage 1 (pipeline)", "vectors"]),
        ([BUDGET, {"backend": "pipeline", "stages": [3]}], ["stage 2 (pipeline): stage 1", "int"]),
    ],
)
def test_bad_stages(stages, said):
    for make in (
        lambda: rc.Pipeline(stages),
        lambda: rc.load("pipeline", stages=stages),
        lambda: rc.find("pipeline").check_options(stages=stages),
        lambda: rc.Adapter("pipeline", options={"stages": stages}),
    ):
        with pytest.raises(rc.OptionError) as error:
            make()
        for each in said:
            assert each in str(error.value)


def test_unknown_backends_stay_unknown_backends():
    with pytest.raises(rc.UnknownBackendError, match=r"stage 1 \(recomp\)"):
        rc.Pipeline([{"backend": "recomp"}])


def test_compressors_of_vectors_come_last_too():
    with pytest.raises(rc.OptionError, match=r"stage 1 \(oscar\) makes vectors, which stage 2 \(deduplicate\)"):
        rc.Pipeline([tiny("oscar"), rc.Deduplicate()])


def test_what_fails_while_loading_says_in_which_stage(tmp_path):
    missing = {"backend": "recomp-extractive", "checkpoint": str(tmp_path / "nowhere")}
    with pytest.raises(rc.CheckpointError, match=r"stage 2 \(recomp-extractive\).*nowhere"):
        rc.Pipeline([BUDGET, missing])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "at least one stage"),
        ({"stages": [BUDGET], "max_tokens": 3}, "'stages'"),
        ({"stages": [BUDGET], "checkpoint": "x"}, "no checkpoint"),
        ({"stages": [BUDGET], "revision": "x"}, "no revision"),
    ],
)
def test_bad_arguments_of_a_pipeline(arguments, said):
    with pytest.raises(rc.OptionError, match=said):
        rc.load("pipeline", **arguments)


# --- the adapter of the plugins


def test_the_adapter_takes_stages_as_option_or_as_backend(ranker, expected):
    configuration = {"backend": "pipeline", "checkpoint": None, "options": {"stages": [ranker, BUDGET]}}
    for adapter in (rc.Adapter([ranker, BUDGET]), rc.Adapter("pipeline", options={"stages": [ranker, BUDGET]})):
        assert json.loads(json.dumps(adapter.configuration())) == configuration
        assert same_context(adapter.compress(QUERIES[0], DOCUMENTS).context, expected)
        content = pickle.dumps(adapter)
        assert len(content) < 1500
        assert same_context(pickle.loads(content).compress(QUERIES[0], DOCUMENTS).context, expected)
    with pytest.raises(rc.OptionError, match="give either"):
        rc.Adapter([BUDGET], options={"stages": [BUDGET]})
    with pytest.raises(rc.OptionError, match="list of compressors"):
        rc.Adapter(3)


def test_nothing_is_loaded_to_find_out(tmp_path):
    nowhere = {"backend": "recomp-extractive", "checkpoint": str(tmp_path / "nowhere")}
    adapter = rc.Adapter([nowhere, BUDGET])
    assert adapter.compress("", DOCUMENTS).reason == "no query"
    without = rc.Adapter([{"backend": "deduplicate"}, BUDGET])
    assert without.compress(None, DOCUMENTS).context.n_slots <= 40


def test_a_pipeline_that_was_built(ranker, expected):
    loaded = rc.Adapter(compressor=rc.Pipeline([ranker, rc.TokenBudget(40)]))
    assert loaded.configuration()["options"] == {"stages": [ranker, BUDGET]}
    assert len(pickle.dumps(loaded)) < 1500
    by_hand = rc.Adapter(compressor=rc.Pipeline([tiny("recomp-extractive").with_options(top_k=6), BUDGET]))
    with pytest.raises(rc.OptionError, match="built by hand"):
        by_hand.configuration()
    for adapter in (loaded, pickle.loads(pickle.dumps(loaded)), pickle.loads(pickle.dumps(by_hand))):
        assert same_context(adapter.compress(QUERIES[0], DOCUMENTS).context, expected)


def test_handles_of_a_pipeline_are_warned_of_and_lead_to_a_shared_store(ranker, pisco):
    with pytest.warns(rc.HandleWarning, match="pipeline writes handles"):
        rc.Adapter([ranker, pisco])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rc.Adapter([ranker, BUDGET])
        adapter = rc.Adapter([ranker, pisco], options={"handles": "expected"})
    assert adapter.info.kind == "vectors"
    assert adapter.configuration()["options"]["store"] == "memory://ragcompress"
    text = adapter.compress(QUERIES[0], DOCUMENTS).context.text
    assert "<|rc:" in text
    # As a plugin's LLM is configured: by the backend and the checkpoint alone.
    reader = rc.ReaderAdapter("pisco", pisco["checkpoint"], {"device": "cpu"}, generation={"max_new_tokens": 4}).reader
    assert isinstance(reader.complete(text), str)
    given = rc.ReaderAdapter(reader=rc.load("pipeline", stages=[ranker, pisco], store="memory://ragcompress"))
    assert given.reader.space == reader.space
    again = pickle.loads(pickle.dumps(given))
    assert (again.backend, again.reader.space) == ("pipeline", reader.space)
    named = rc.ReaderAdapter("pipeline", options={"stages": [ranker, pisco], "handles": "expected"})
    assert named.reader.space == reader.space
    with pytest.raises(rc.OptionError, match="makes text"):
        rc.ReaderAdapter("pipeline", options={"stages": [ranker, BUDGET]})


def test_the_command_line_keeps_no_handles_of_a_pipeline_either(ranker, pisco, tmp_path):
    (tmp_path / "a.txt").write_text("The bridge is long.")
    for stages, message in (([ranker, pisco], "pipeline writes handles"), ([ranker, BUDGET], None)):
        arguments = ["compress", "how long?", str(tmp_path / "a.txt"), "--backend", "pipeline"]
        found = CliRunner().invoke(app, [*arguments, "--option", f"stages={json.dumps(stages)}"])
        assert (found.exit_code == 0) == (message is None), found.output
        assert message is None or message in str(found.exception)


def test_a_pipeline_without_a_store_for_its_handles():
    with pytest.warns(rc.HandleWarning), pytest.raises(rc.OptionError, match="no store"):
        rc.Adapter(compressor=rc.Pipeline([rc.Deduplicate(), tiny("pisco")]))


def test_the_adapter_fills_the_store_of_the_stage_that_reads_the_documents(ranker):
    adapter = rc.Adapter([{"backend": "deduplicate"}, ranker, BUDGET], options={"store": "memory://remembered"})
    assert adapter.remember(DOCUMENTS) == len(DOCUMENTS) == len(rc.open_store("memory://remembered"))
    assert rc.Adapter([BUDGET]).remember(DOCUMENTS) == 0


def test_changes_for_one_call_go_to_a_stage(ranker):
    adapter = rc.Adapter([ranker, BUDGET])
    outcome = adapter.compress(QUERIES[0], DOCUMENTS, {"stages": [{}, {"max_tokens": 20}]})
    assert outcome.context.n_slots <= 20
    with pytest.raises(rc.OptionError, match="'top_k'"):
        adapter.compress(QUERIES[0], DOCUMENTS, {"top_k": 3})
