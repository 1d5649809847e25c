"""The persistent store: exact round trips, several writers at once, kills in the middle, clear errors."""

import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.stores import beside, index_rows, opening, rows, tables, upkeep
from ragcompress.stores import lancedb as module
from ragcompress.stores.index import MemoryIndex

pa = pytest.importorskip("pyarrow", reason="needs ragcompress[store]")
lancedb = pytest.importorskip("lancedb", reason="needs ragcompress[store]")
SPACE = "test@1"
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]


def memory(value=1.0, n_rows=2, width=4, space=SPACE, **more):
    return rc.Memory(torch.full((n_rows, width), float(value)), 3, space, **more)


@pytest.fixture(params=["memory", "lancedb"])
def store(request, tmp_path):
    return rc.InMemoryStore() if request.param == "memory" else rc.LanceDBStore(tmp_path / "store")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """One store for the many small examples of hypothesis."""
    return rc.LanceDBStore(tmp_path_factory.mktemp("kept") / "store")


# What every store does.


def test_store_keeps_in_order_and_with_repeats(store):
    assert isinstance(store, rc.MemoryStore)
    store.put({"a": memory(1), "b": memory(2)})
    assert store.get(["b", "x", "a", "b"], space=SPACE) == [memory(2), None, memory(1), memory(2)]
    assert store.get([], space=SPACE) == []
    assert len(store) == 2
    assert "a" in store
    assert "x" not in store
    assert 3 not in store


def test_store_says_which_keys_it_knows(store):
    store.put({"a": memory(1), "b": memory(2, space="other@2")})
    assert store.known(iter(["x", "b", "a", "b", "no key", 3])) == {"a", "b"}
    assert store.known([]) == set()


def test_put_replaces_and_delete_forgets(store):
    store.put({"a": memory(1), "b": memory(2)})
    store.put({"a": memory(3), "c": memory(4)})
    assert store.get(["a", "b", "c"], space=SPACE) == [memory(3), memory(2), memory(4)]
    store.delete(["a", "unknown"])
    store.delete(iter(["b"]))
    store.delete([])
    store.put({})
    assert store.get(["a", "b", "c"], space=SPACE) == [None, None, memory(4)]
    assert len(store) == 1


def test_spaces_are_checked(store):
    store.put({"a": memory(space="other@2"), "b": memory()})
    with pytest.raises(rc.SpaceMismatchError, match=r"other@2.*test@1"):
        store.get(["b", "a"], space=SPACE)
    assert store.get(["a"], space="other@2") == [memory(space="other@2")]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_not_finite_is_refused_before_anything_is_written(store, bad, dtype):
    vectors = torch.ones(3, 4, dtype=dtype)
    vectors[1, 2] = bad
    with pytest.raises(rc.InputError, match=r"under key7 hold NaN or infinity, in 1 of 3 rows"):
        store.put({"a": memory(), "key7": rc.Memory(vectors, 3, SPACE)})
    assert len(store) == 0


@pytest.mark.parametrize("shape", [(), (4,), (1, 2, 4)])
def test_vectors_have_two_dimensions(store, shape):
    with pytest.raises(rc.InputError, match=r"under a have the shape .*expected \(n_vectors, width\)"):
        store.put({"a": rc.Memory(torch.ones(shape), 3, SPACE)})


@pytest.mark.parametrize("span", [(5, 4), (-1, 4)])
def test_impossible_spans_are_refused(store, span):
    with pytest.raises(rc.InputError, match="span"):
        store.put({"a": memory(spans=((0, 1), span))})


def test_more_or_fewer_spans_than_rows_are_a_backends_own_business(store):
    several = {"a": memory(spans=((0, 1),) * 3), "b": memory(spans=((0, 1),)), "c": memory(spans=())}
    store.put(several)
    assert store.get(list(several), space=SPACE) == list(several.values())


def test_something_else_is_no_memory(store):
    with pytest.raises(rc.InputTypeError, match="must be a Memory, got Tensor"):
        store.put({"a": torch.ones(2, 4)})


def test_threads_share_a_store(store):
    failures = []

    def work(worker):
        try:
            for step in range(8):
                store.put({f"{worker}-{step}": memory(worker), "shared": memory(worker)})
                assert store.get([f"{worker}-{step}"], space=SPACE) == [memory(worker)]
                (shared,) = store.get(["shared"], space=SPACE)
                assert bool((shared.vectors == shared.vectors[0, 0]).all())
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(store) == 4 * 8 + 1


def test_pickling(store):
    store.put({"a": memory()})
    assert pickle.loads(pickle.dumps(store)).get(["a"], space=SPACE) == [memory()]


def test_compression_works_with_it(store):
    from ragcompress.testing import DOCUMENTS, QUERIES, same_context, tiny

    compressor = tiny("recomp-extractive")
    expected = compressor.compress(QUERIES[0], DOCUMENTS)
    compressor.store = store
    compressor.remember(DOCUMENTS)
    compressor.encode = None  # everything comes from the store
    assert same_context(compressor.compress(QUERIES[0], DOCUMENTS), expected)


# The persistent one: what comes back.


@st.composite
def any_memory(draw):
    n_rows, width = draw(st.integers(0, 5)), draw(st.integers(0, 6))
    dtype = draw(st.sampled_from(DTYPES))
    numbers = st.floats(-60000, 60000, width=16) | st.just(-0.0)
    values = draw(st.lists(numbers, min_size=n_rows * width, max_size=n_rows * width))
    span = st.tuples(st.integers(0, 2**40), st.integers(0, 99)).map(lambda each: (each[0], sum(each)))
    runs = st.lists(st.tuples(span, st.integers(1, 4)).map(lambda each: [each[0]] * each[1]), max_size=4)
    return rc.Memory(
        torch.tensor(values, dtype=dtype).reshape(n_rows, width),
        n_tokens=draw(st.integers(0, 2**40)),
        space=draw(st.sampled_from([SPACE, "ein anderer 'Raum'@√2", ""])),
        spans=draw(st.none() | runs.map(lambda each: tuple(itertools.chain(*each)))),
        truncated=draw(st.booleans()),
    )


def test_everything_comes_back_bit_by_bit(kept):
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(any_memory())
    def check(given_memory):
        kept.put({"k": given_memory})
        (found,) = kept.get(["k"], space=given_memory.space)
        assert found == given_memory
        raw = [each.vectors.contiguous().reshape(-1).view(torch.uint8) for each in (found, given_memory)]
        assert bool((raw[0] == raw[1]).all())  # -0.0 == 0.0, but not here

    check()


@given(st.none() | st.lists(st.tuples(st.integers(0, 3), st.integers(3, 6))).map(tuple))
def test_spans_are_packed_without_loss(spans):
    assert rows.unpack_spans(rows.pack_spans(spans)) == spans


def test_slots_of_one_chunk_cost_one_run():
    assert rows.pack_spans(((0, 512),) * 16 + ((512, 700),) * 16) == [0, 512, 16, 512, 700, 16]


def test_slices_and_gradients_are_stored_by_value(kept):
    whole = torch.arange(24.0).reshape(4, 6).requires_grad_()
    kept.put({"t": rc.Memory(whole.T, 1, SPACE), "s": rc.Memory(whole[::2], 1, SPACE)})
    transposed, sliced = kept.get(["t", "s"], space=SPACE)
    assert torch.equal(transposed.vectors, whole.T)
    assert torch.equal(sliced.vectors, whole[::2])


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16", torch.bfloat16])
@pytest.mark.parametrize("own", DTYPES)
def test_vectors_are_converted_when_they_are_put(tmp_path, name, own):
    store = rc.LanceDBStore(tmp_path, dtype=name)
    vectors = torch.randn(3, 5).to(own)
    store.put({"a": rc.Memory(vectors, 1, SPACE)})
    (found,) = rc.LanceDBStore(tmp_path).get(["a"], space=SPACE)
    asked = getattr(torch, str(name).removeprefix("torch."))
    assert found.vectors.dtype == asked
    assert torch.equal(found.vectors, vectors.to(asked))


@pytest.mark.parametrize("own", DTYPES)
def test_int8_gives_back_the_type_and_nearly_the_values(tmp_path, own):
    store = rc.LanceDBStore(tmp_path, dtype="int8")
    vectors = (torch.randn(16, 1024) * torch.logspace(-3, 3, 16)[:, None]).to(own)
    store.put({"a": rc.Memory(vectors, 1, SPACE)})
    (found,) = store.get(["a"], space=SPACE)
    assert found.vectors.dtype == own
    error = (found.vectors - vectors).double().norm(dim=1) / vectors.double().norm(dim=1)
    assert float(error.max()) < 0.015


@pytest.mark.parametrize("dtype", DTYPES[:3])
def test_int8_at_the_ends_of_the_range(dtype):
    most = torch.finfo(dtype).max
    vectors = torch.tensor([[0.0, 0.0], [most, -most], [1.0, -0.5]], dtype=dtype)
    again = rows.dequantise(*rows.quantise(vectors), dtype)
    assert bool(again.isfinite().all())
    assert again[0].tolist() == [0.0, 0.0]
    assert torch.allclose(again.double(), vectors.double(), rtol=0.01)


@given(st.integers(0, 3), st.integers(0, 3))
def test_int8_of_any_shape(n_rows, width):
    packed, scales = rows.quantise(torch.ones(n_rows, width))
    assert rows.dequantise(packed, scales, torch.float16).shape == (n_rows, width)


@pytest.mark.parametrize(("dtype", "value"), [("float16", 1e6), ("int8", 1e300), ("float32", 1e300)])
def test_values_that_the_type_cannot_hold_are_refused(tmp_path, dtype, value):
    store = rc.LanceDBStore(tmp_path, dtype=dtype)
    big = rc.Memory(torch.full((1, 2), value, dtype=torch.float64), 1, SPACE)
    with pytest.raises(rc.InputError, match=f"under b hold values too large for {dtype}"):
        store.put({"a": memory(), "b": big})
    assert len(store) == 0


def test_integers_are_no_vectors(kept):
    with pytest.raises(rc.InputError, match=r"type int64; a store keeps float32.*Convert"):
        kept.put({"i": rc.Memory(torch.ones(2, 4, dtype=torch.int64), 1, SPACE)})


# Keys.


@pytest.mark.parametrize("key", ["", "a' OR '1'='1", "a'; DROP", "a b", "ä", "a\n", "a" * 257, "a/b", "%", '"'])
def test_nothing_can_be_injected_through_a_key(kept, key):
    kept.put({"safe": memory()})
    before = kept.keys()
    for call in (
        lambda: kept.get([key], space=SPACE),
        lambda: kept.put({key: memory()}),
        lambda: kept.delete(["safe", key]),
    ):
        with pytest.raises(rc.InputError, match="is no key"):
            call()
    assert key not in kept
    assert kept.keys() == before


def test_keys_of_a_wrong_type(kept):
    with pytest.raises(rc.InputTypeError, match="must be a string, got int"):
        kept.get([3], space=SPACE)
    with pytest.raises(rc.InputTypeError, match="single string"):
        kept.get("abc", space=SPACE)


def test_thousands_of_keys_in_one_call_and_keys_are_listed(tmp_path):
    store = rc.LanceDBStore(tmp_path)
    names = [f"Key-{n}.x_y" for n in range(5000)]
    store.put({name: memory(n, 1, 1) for n, name in enumerate(names)})
    found = store.get([*names, "absent"], space=SPACE)
    assert [None if each is None else each.vectors.item() for each in found] == [*range(5000), None]
    assert store.keys() == sorted(names)
    assert [each.index_type.upper() for each in store._own()[0].table.list_indices()] == ["BTREE"]
    store.delete(names[:4000])
    assert len(store) == 1000


def test_known_reads_the_keys_alone_and_not_too_many_at_once(tmp_path, monkeypatch):
    store = rc.LanceDBStore(tmp_path)
    names = [f"k{n}" for n in range(1200)]
    store.put({name: memory(n, 1, 1) for n, name in enumerate(names)})
    asked, columns = [], []
    read = tables.LanceTable.keys
    monkeypatch.setattr(
        tables.LanceTable, "keys", lambda self, where: asked.append(where.count(",") + 1) or read(self, where)
    )
    monkeypatch.setattr(tables.LanceTable, "rows", None)
    select = lancedb.query.LanceEmptyQueryBuilder.select
    monkeypatch.setattr(
        lancedb.query.LanceEmptyQueryBuilder,
        "select",
        lambda self, wanted: columns.append(wanted) or select(self, wanted),
    )
    assert store.known([*names[::2], *(f"x{n}" for n in range(700))]) == set(names[::2])
    assert asked == [512, 512, 276]
    assert columns == [["key"]] * 3
    with pytest.raises(rc.InputTypeError, match="single string"):
        store.known("k1")


def test_a_put_above_the_limit_is_written_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_BYTES_AT_ONCE", 2000)
    store = rc.LanceDBStore(tmp_path)
    store.put({f"{n}": memory(n) for n in range(10)})
    assert store._own()[0].table.stats()["fragment_stats"]["num_fragments"] == 4
    bad = rc.Memory(torch.ones(2, 4, dtype=torch.int64), 1, SPACE)
    with pytest.raises(rc.InputError):
        store.put({**{f"new{n}": memory(n) for n in range(10)}, "bad": bad})
    assert len(store) == 10


# Several at once.


def test_others_writes_are_seen_at_once(tmp_path):
    one, two = rc.LanceDBStore(tmp_path), rc.LanceDBStore(tmp_path)
    for step in range(5):
        one.put({"a": memory(step), f"{step}": memory()})
        assert two.get(["a"], space=SPACE) == [memory(step)]
        assert len(two) == step + 2
        two.delete([f"{step}", "a"])
        assert "a" not in one
        two.put({f"{step}": memory()})


def test_reading_goes_on_while_the_table_is_rewritten(tmp_path):
    reader, writer = rc.LanceDBStore(tmp_path), rc.LanceDBStore(tmp_path)
    names = [f"{n}" for n in range(20)]
    writer.put({name: memory(n) for n, name in enumerate(names)})
    done, failures = threading.Event(), []

    def read():
        while not done.is_set():
            try:
                found = reader.get(names, space=SPACE)
                assert [each.vectors[0, 0].item() for each in found] == list(range(20))
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for step in range(12):
        writer.put({names[step]: memory(step)})
        writer.compact(keep_seconds=0)
    done.set()
    thread.join()
    assert failures == []


def test_many_small_puts_are_merged(tmp_path, monkeypatch):
    monkeypatch.setattr(upkeep, "COMMITS_BETWEEN_CHECKS", 4)
    monkeypatch.setattr(upkeep, "MIN_FRAGMENTS_TO_COMPACT", 8)
    monkeypatch.setattr(upkeep, "MIN_FRAGMENTS_TO_INDEX", 4)
    store = rc.LanceDBStore(tmp_path)
    for step in range(40):
        store.put({f"{step}": memory(step)})
    assert store._own()[0].table.stats()["fragment_stats"]["num_fragments"] < 20
    assert [each.vectors[0, 0].item() for each in store.get([f"{n}" for n in range(40)], space=SPACE)] == list(
        range(40)
    )


def test_compacting_frees_the_space_and_keeps_the_rest(tmp_path):
    store = rc.LanceDBStore(tmp_path)
    for step in range(6):
        store.put({"a": rc.Memory(torch.randn(64, 256), 1, SPACE), f"{step}": memory(step)})
    before = store.n_bytes
    expected = store.get(store.keys(), space=SPACE)
    store.compact(keep_seconds=0)
    assert store.n_bytes < before / 3
    assert store.get(store.keys(), space=SPACE) == expected
    assert rc.LanceDBStore(tmp_path).get(["a"], space=SPACE) == [expected[store.keys().index("a")]]
    with pytest.raises(rc.OptionError, match="keep_seconds"):
        store.compact(keep_seconds=-1)


def failing_once(method, said, failures):
    def call(*given, **more):
        if method.__name__ not in failures:
            failures.append(method.__name__)
            raise RuntimeError(f"lance error: {said}")
        return method(*given, **more)

    return call


@pytest.mark.parametrize("said", ["Not found: x/data/1.lance", "Retryable commit conflict for version 64"])
def test_what_another_process_merged_and_dropped_meanwhile_is_no_error(tmp_path, monkeypatch, said):
    store = rc.LanceDBStore(tmp_path)
    store.put({"a": memory()})
    failures = []
    for owner, name in ((lancedb.table.LanceTable, "optimize"), (lancedb.merge.LanceMergeInsertBuilder, "execute")):
        monkeypatch.setattr(owner, name, failing_once(getattr(owner, name), said, failures))
    store.put({"b": memory(2)})
    store.compact()
    assert failures == ["execute", "optimize"]
    assert store.get(["a", "b"], space=SPACE) == [memory(), memory(2)]


CHILD = """
import random, sys, torch, ragcompress as rc
from ragcompress.stores import upkeep
upkeep.COMMITS_BETWEEN_CHECKS, upkeep.MIN_FRAGMENTS_TO_COMPACT, upkeep.MIN_FRAGMENTS_TO_INDEX = 8, 12, 4
torch.set_num_threads(1)
folder, job, worker = sys.argv[1], sys.argv[2], int(sys.argv[3])
def memory(value):
    return rc.Memory(torch.full((8, 512), float(value)), int(value), "test@1", ((0, value),) * 8)
print("ready", flush=True)
sys.stdin.readline()
store = rc.LanceDBStore(folder)
if job == "upsert":
    source = random.Random(worker)
    for step in range(40):
        keys = [str(source.randrange(40)) for _ in range(3)]
        store.put({key: memory(1000 * worker + step) for key in keys})
        if step % 10 == 9:
            store.delete([str(40 + worker)])
else:
    for step in range(10000):
        store.put({f"{worker}-{step}-{part}": memory(step) for part in range(3)})
        print(step, flush=True)
print("done", flush=True)
"""


def child(folder, job, worker):
    environment = os.environ | {"RUST_LOG": "error", "OMP_WAIT_POLICY": "PASSIVE"}
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), job, str(worker)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def is_whole(found):
    value = found.n_tokens
    return found == rc.Memory(torch.full((8, 512), float(value)), value, SPACE, ((0, value),) * 8)


def test_several_processes_write_at_once(tmp_path):
    folder = tmp_path / "not made yet"  # they make it at once, too
    children = [child(folder, "upsert", worker) for worker in range(3)]
    for each in children:
        assert each.stdout.readline() == "ready\n"
    for each in children:
        each.stdin.write("go\n")
        each.stdin.flush()
    seen = 0
    while not folder.is_dir() and children[0].poll() is None:
        time.sleep(0.01)
    reader = rc.LanceDBStore(folder)
    while any(each.poll() is None for each in children):
        found = [each for each in reader.get([f"{n}" for n in range(40)], space=SPACE) if each is not None]
        assert all(map(is_whole, found))
        assert len(found) >= seen  # nothing is ever lost
        seen = len(found)
    for each in children:
        each.communicate()
        assert each.returncode == 0
    assert len(reader) == len(reader.keys()) == 40
    assert reader._own()[0].table.search().select(["key"]).to_arrow().num_rows == 40  # no key twice, not even hidden


def test_a_killed_writer_leaves_nothing_half_written(tmp_path):
    children = [child(tmp_path / "store", "many", worker) for worker in range(2)]
    for each in children:
        assert each.stdout.readline() == "ready\n"
    said = []
    for worker, (each, wait) in enumerate(zip(children, (0.003, 0.02), strict=True)):
        each.stdin.write("go\n")
        each.stdin.flush()
        for _ in range(15 * (worker + 1)):
            each.stdout.readline()
        time.sleep(wait)
        each.send_signal(signal.SIGKILL)
        rest, _ = each.communicate()
        assert each.returncode == -signal.SIGKILL
        said.append(15 * (worker + 1) + len(rest.splitlines()))
        store = rc.LanceDBStore(tmp_path / "store")
        keys = store.keys()
        steps = {key.rpartition("-")[0] for key in keys}
        assert len(store) == 3 * len(steps)  # each put is there as a whole or not at all
        assert all(map(is_whole, store.get(keys, space=SPACE)))
        assert {f"{worker}-{step}" for step in range(said[worker])} <= steps  # what was reported as done is there
        store.put({"afterwards": memory()})
        store.delete(["afterwards"])
        store.compact()


def test_a_process_killed_while_it_made_the_table(tmp_path):
    (tmp_path / "memories.lance" / "data").mkdir(parents=True)
    store = rc.LanceDBStore(tmp_path)
    store.put({"a": memory()})
    assert len(rc.LanceDBStore(tmp_path)) == 1


# What is wrong, and what to do.


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(rc.OptionError, match=r"holds 'notes.txt'\) and no store. Name a folder"):
        rc.LanceDBStore(tmp_path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["notes.txt"]


def test_locations_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(rc.OptionError, match=r"no store can be made at .*Name a folder that can be written"):
            rc.LanceDBStore(place)
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(rc.OptionError, match="no store can be made"):
            rc.LanceDBStore(tmp_path / "closed" / "store")


@pytest.mark.parametrize("bad", ["", "lancedb://", "http://x/y", "db://cloud", 3, None])
def test_impossible_locations(bad):
    with pytest.raises(rc.OptionError, match=r"location must be|no store has the address"):
        rc.LanceDBStore(bad)


@pytest.mark.parametrize("bad", ["int4", "float", "flot16", 8, torch.int8.__class__])
def test_unknown_types(tmp_path, bad):
    with pytest.raises(rc.OptionError, match=r"unknown dtype .*known, closest first: .*'int8'"):
        rc.LanceDBStore(tmp_path, dtype=bad)


@pytest.mark.parametrize("bad", ["", "../x", "a/b", ".hidden", 3])
def test_impossible_tables(tmp_path, bad):
    with pytest.raises(rc.OptionError, match="table must be"):
        rc.LanceDBStore(tmp_path, table=bad)


def test_two_tables_lie_side_by_side(tmp_path):
    one, two = rc.LanceDBStore(tmp_path), rc.LanceDBStore(tmp_path, table="others")
    one.put({"a": memory()})
    assert len(two) == 0


def test_a_table_of_someone_else(tmp_path):
    lancedb.connect(tmp_path).create_table("memories", data=[{"key": "a"}])
    with pytest.raises(rc.InputError, match=r"is no store of ragcompress. Name another"):
        rc.LanceDBStore(tmp_path)


def test_a_newer_format(tmp_path):
    schema = rows.schema().with_metadata({rows.FORMAT_FIELD: b"2"})
    lancedb.connect(tmp_path).create_table("memories", schema=schema)
    with pytest.raises(rc.InputError, match=r"has the format 2; .* up to 1. pip install --upgrade"):
        rc.LanceDBStore(tmp_path)


def test_a_table_without_a_column(tmp_path):
    names = [field for field in rows.schema() if field.name not in ("scales", "spans")]
    schema = pa.schema(names, metadata=rows.schema().metadata)
    lancedb.connect(tmp_path).create_table("memories", schema=schema)
    with pytest.raises(rc.InputError, match=r"lacks columns: scales, spans. Delete it"):
        rc.LanceDBStore(tmp_path)


def test_damaged_files(tmp_path):
    store = rc.LanceDBStore(tmp_path)
    store.put({"a": memory()})
    copies = [shutil.copytree(tmp_path / "memories.lance", tmp_path / f"{name}.lance") for name in "abc"]
    for path in (copies[0] / "data").iterdir():
        path.unlink()
    for path in (copies[1] / "_versions").glob("*.manifest"):
        path.write_bytes(b"rubbish" * 10)
    shutil.rmtree(copies[2] / "_versions")
    with pytest.raises(rc.InputError, match=r"table 'a' at .* cannot be used: .*Not found.*delete it") as caught:
        rc.LanceDBStore(tmp_path, table="a").get(["a"], space=SPACE)
    assert ".rs:" not in str(caught.value)
    for name in "bc":
        with pytest.raises(rc.InputError, match=f"table '{name}' at .* cannot be used"):
            rc.LanceDBStore(tmp_path, table=name)


def test_without_lancedb_the_pip_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(rc.MissingExtraError, match=r"pip install 'ragcompress\[store\]'"):
        rc.LanceDBStore(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_the_class_is_there_without_lancedb_and_torch():
    code = "import sys, ragcompress; ragcompress.LanceDBStore; sys.exit(bool({'torch', 'lancedb', 'pyarrow'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


FULL = """
import resource, sys, torch, ragcompress as rc
store = rc.LanceDBStore(sys.argv[1])
def memory(value):
    return rc.Memory(torch.full((8, 512), float(value)), int(value), "test@1", ((0, value),) * 8)
store.put({"a": memory(1)})
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
for call in (lambda: store.put({"a": memory(9), "b": memory(2)}), lambda: store.compact(), lambda: rc.LanceDBStore(sys.argv[1] + "/new")):
    try:
        call()
    except rc.InputError as error:
        print(error)
assert store.get(["a", "b"], space="test@1") == [memory(1), None]
"""


@pytest.mark.parametrize("limit", [100, 10_000])
def test_a_full_disk_takes_nothing_that_was_there(tmp_path, limit):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "store"), str(limit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    said = f"there is no room left at {tmp_path}/store (File too large): this could not be written to the table 'memories'; what was committed before is kept. Free space there, or name another place"
    assert lines[0].startswith(said)
    assert all(line.startswith(f"there is no room left at {tmp_path}/store") for line in lines)
    assert any("store/new" in line for line in lines) == (limit == 100)
    assert "delete it" not in done.stdout
    store = rc.LanceDBStore(tmp_path / "store")
    assert store.keys() == ["a"]
    assert is_whole(store.get(["a"], space=SPACE)[0])
    store.put({"a": memory(3), "b": memory(2)})  # and on it goes
    store.compact(keep_seconds=0)
    assert store.get(["a", "b"], space=SPACE) == [memory(3), memory(2)]
    assert len(rc.LanceDBStore(tmp_path / "store" / "new")) == 0


@pytest.mark.parametrize(
    "said",
    [
        "No space left on device (os error 28)",
        "Generic: File too large (os error 27)",
        "Disk quota exceeded (os error 122)",
        "os error 122",
    ],
)
def test_every_way_of_having_no_room(said):
    assert "no room left at /x" in str(opening.failed("/x", "t", RuntimeError(f"lance error: {said}, /a/b.rs:1:2")))
    assert "cannot be used" in str(opening.failed("/x", "t", RuntimeError("os error 2")))


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ('LanceError(IO): Permission denied (os error 13) at path "/x/data/.tmp"', "may read and write there"),
        ("Read-only file system (os error 30)", "may read and write there"),
        ("Client error with status 403 Forbidden: AccessDenied", "set the credentials"),
        ("Generic S3 error: error sending request for url (https://x): operation timed out", "try again later"),
        ("Retryable commit conflict for version 64: preempted by concurrent transaction Rewrite", "run it again"),
        ("Too many open files (os error 24)", "ulimit -n"),
        ("Not found: /x/data/1.lance", "missing or damaged: delete it"),
        ("Invalid range 0..2253 for object of size 70 bytes", "missing or damaged: delete it"),
        ("something new", "Try again"),
    ],
)
def test_what_helps_depends_on_what_went_wrong(said, advice):
    hint = opening.failed("/x", "t", RuntimeError(f"lance error: {said}, /a/b.rs:1:2")).hint
    assert advice in hint
    assert ("delete" in hint) == ("damaged: delete" in advice)


# An index in the same place.


def entry(value, **more):
    return rc.Document(f"text {value}"), memory(value, spans=((0, 9),) * 2, **more)


def test_a_corpus_that_is_only_read_stays_as_it_is(tmp_path):
    MemoryIndex(tmp_path, space=SPACE).add({"a": entry(1)})
    store = rc.LanceDBStore(tmp_path)
    assert store.get(["a", "b"], space=SPACE) == [entry(1)[1], None]
    assert store.known(["a", "b"]) == {"a"}
    store.delete(["a"])
    store.compact()
    with pytest.raises(rc.OptionError, match="keep_seconds"):
        store.compact(keep_seconds=-1)
    assert (store.keys(), len(store), store.n_bytes) == ([], 0, 0)
    assert pickle.loads(pickle.dumps(store)).get(["a"], space=SPACE) == [entry(1)[1]]
    assert [each.name for each in tmp_path.iterdir()] == ["index.lance"]
    other = rc.LanceDBStore(tmp_path)
    other.put({"b": memory(2)})  # now it is made
    assert store.get(["a", "b"], space=SPACE) == [entry(1)[1], memory(2)]
    store.put({"c": memory(3)})
    assert other.keys() == store.keys() == ["b", "c"]


@pytest.mark.parametrize("first", ["store", "index"])
def test_an_index_in_the_same_place_is_read_too(tmp_path, first):
    store = rc.LanceDBStore(tmp_path) if first == "store" else None
    if store:
        assert store.get(["a"], space=SPACE) == [None]
    index = MemoryIndex(tmp_path, space=SPACE)
    index.add({"a": entry(1), "b": entry(2)})
    store = store or rc.LanceDBStore(tmp_path)
    store.put({"b": memory(20), "c": memory(30)})
    assert store.get(["c", "a", "x", "b", "a"], space=SPACE) == [memory(30), entry(1)[1], None, memory(20), entry(1)[1]]
    assert store.known(["a", "b", "c", "x"]) == {"a", "b", "c"}
    assert "a" in store
    assert "x" not in store
    index.add({"d": entry(4)})  # what is added later is there at once
    assert store.get(["d"], space=SPACE) == [entry(4)[1]]
    # All else concerns the own table alone.
    assert store.keys() == ["b", "c"]
    assert len(store) == 2
    store.delete(["a", "b"])
    assert store.get(["a", "b"], space=SPACE) == [entry(1)[1], entry(2)[1]]
    assert pickle.loads(pickle.dumps(store)).get(["a"], space=SPACE) == [entry(1)[1]]
    assert index.keys() == ["a", "b", "d"]


def test_one_address_serves_searching_and_reading(tmp_path):
    from ragcompress.testing import DOCUMENTS, QUERIES, same_context, tiny

    clara = tiny("clara")
    documents = [rc.Document(each) if isinstance(each, str) else each for each in DOCUMENTS]
    expected = clara.compress(QUERIES[0], documents)
    index = MemoryIndex(tmp_path, space=clara.memory_space)
    index.add(
        {
            clara.memory_key(each): (each, memory)
            for each, memory in zip(documents, clara.encode(documents), strict=True)
        }
    )
    clara.store = rc.open_store(f"lancedb://{tmp_path}")
    clara.encode = None  # everything comes from the index
    assert same_context(clara.compress(QUERIES[0], documents), expected)
    assert len(clara.store) == 0


def test_an_index_of_another_space_has_none_of_the_memories(tmp_path):
    store = rc.LanceDBStore(tmp_path)
    MemoryIndex(tmp_path, space="other@2").add({"a": entry(1, space="other@2")})
    assert store.get(["a"], space=SPACE) == [None]
    assert store.get(["a"], space="other@2") == [entry(1, space="other@2")[1]]


def test_an_index_that_is_deleted_or_built_again_in_another_process(tmp_path):
    store = rc.LanceDBStore(tmp_path)
    build = f"import ragcompress as rc, torch\nrc.MemoryIndex({str(tmp_path)!r}, space='test@1').add({{'a': (rc.Document('x'), rc.Memory(torch.ones(2, 4), 3, 'test@1'))}})"
    MemoryIndex(tmp_path, space="other@2").add({str(n): entry(n, space="other@2") for n in range(3)})
    assert store.get(["a"], space=SPACE) == [None]
    shutil.rmtree(tmp_path / "index.lance")
    assert store.get(["a"], space=SPACE) == [None]
    assert store.known(["0"]) == set()
    MemoryIndex(tmp_path, space="other@2")
    assert store.known(["0"]) == set()
    shutil.rmtree(tmp_path / "index.lance")
    subprocess.run([sys.executable, "-c", build], check=True)
    assert store.get(["a"], space=SPACE) == [memory()]


def test_looking_for_an_index_is_cheap(tmp_path, monkeypatch):
    looks = []
    look = tables.LanceTable.existing
    noted = lambda place, name, owner: (looks.append(place) if name == "index" else None) or look(place, name, owner)
    monkeypatch.setattr(tables.LanceTable, "existing", noted)
    store = rc.LanceDBStore(tmp_path)
    store.put({"b": memory()})
    for _ in range(3):
        store.get(["a"], space=SPACE)
    assert looks == []  # the folder is not there
    MemoryIndex(tmp_path, space=SPACE).add({"a": entry(1)})
    for _ in range(3):
        assert "a" in store
    assert len(looks) == 1
    # In object storage there is no folder to look at.
    monkeypatch.setattr(opening, "local_folder", lambda *place: None)
    remote = rc.LanceDBStore(tmp_path / "remote")
    for _ in range(3):
        assert remote.get(["a"], space=SPACE) == [None]
    assert len(looks) == 2
    MemoryIndex(tmp_path / "remote", space=SPACE).add({"a": entry(1)})
    monkeypatch.setattr(beside, "_SECONDS_BETWEEN_LOOKS", 0)
    assert remote.get(["a"], space=SPACE) == [entry(1)[1]]
    assert remote.get(["b"], space=SPACE) == [None]
    assert len(looks) == 3


@pytest.mark.parametrize("damage", ["versions", "data", "newer", "columns"])
def test_a_damaged_index_leaves_the_store_alone_and_is_not_passed_over(tmp_path, damage):
    store = rc.LanceDBStore(tmp_path)
    store.put({"b": memory()})
    schema = index_rows.schema(SPACE, None)
    if damage == "newer":
        lancedb.connect(tmp_path).create_table(
            "index", schema=schema.with_metadata(schema.metadata | {index_rows.FORMAT_FIELD: b"2"})
        )
    elif damage == "columns":
        lancedb.connect(tmp_path).create_table(
            "index", schema=pa.schema([field for field in schema if field.name != "tags"], metadata=schema.metadata)
        )
    else:
        MemoryIndex(tmp_path, space=SPACE).add({"a": entry(1)})
        for path in (
            (tmp_path / "index.lance" / "_versions").glob("*.manifest")
            if damage == "versions"
            else (tmp_path / "index.lance" / "data").iterdir()
        ):
            path.write_bytes(b"rubbish" * 10)
    said = {"newer": "format 2 .* up to 1", "columns": "lacks columns: tags"}.get(
        damage, "table 'index' at .* cannot be used"
    )
    for opened in (store, rc.LanceDBStore(tmp_path)):
        assert opened.get(["b"], space=SPACE) == [memory()]
        assert opened.known(["b"]) == {"b"}
        opened.put({"c": memory(2)})
        for _ in range(2):
            with pytest.raises(rc.InputError, match=said):
                opened.get(["b", "a"], space=SPACE)


def test_a_table_of_that_name_that_is_no_index(tmp_path):
    store = rc.LanceDBStore(tmp_path)
    rc.LanceDBStore(tmp_path, table="index").put({"a": memory()})
    assert store.get(["a"], space=SPACE) == [None]
    assert rc.LanceDBStore(tmp_path, table="index").get(["a", "b"], space=SPACE) == [memory(), None]
    (tmp_path / "other" / "index.lance" / "data").mkdir(parents=True)  # killed while it made the table
    assert rc.LanceDBStore(tmp_path / "other").get(["a"], space=SPACE) == [None]
    lancedb.connect(tmp_path / "foreign").create_table("index", data=[{"key": "a"}])
    assert rc.LanceDBStore(tmp_path / "foreign").known(["a"]) == set()


# Addresses.


def test_addresses_open_one_shared_store(tmp_path, monkeypatch):
    store = rc.open_store(f"lancedb://{tmp_path}/x")
    assert isinstance(store, rc.LanceDBStore)
    assert store.location == f"{tmp_path}/x"
    assert rc.open_store(f"lancedb://{tmp_path}/x") is store
    monkeypatch.chdir(tmp_path)
    assert rc.open_store("lancedb://x") is store
    assert rc.open_store(store) is store


def test_a_relative_store_stays_where_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = rc.LanceDBStore("here")
    store.put({"a": memory()})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(store) == len(pickle.loads(pickle.dumps(store))) == 1
    assert Path(store.location) == tmp_path / "here"
    assert repr(store) == f"LanceDBStore('{tmp_path}/here', table='memories', dtype=None)"


def test_pickling_keeps_the_options(tmp_path):
    store = rc.LanceDBStore(tmp_path, table="t", dtype="int8")
    again = pickle.loads(pickle.dumps(store))
    assert (again.location, again.table, again.dtype) == (store.location, "t", "int8")


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_object_storage_goes_to_lancedb(monkeypatch, scheme):
    asked = []
    monkeypatch.setattr(lancedb, "connect", lambda location, **_: asked.append(location) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rc.open_store(f"{scheme}://bucket/stores/one")
    assert asked == [f"{scheme}://bucket/stores/one"]


def test_a_channel_that_sticks_out_does_not_round_the_others_away():
    """Hidden states have some that are many times larger than the rest."""
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(8, 576, generator=generator)
    vectors[:, 199] *= 17
    vectors[:, 400] *= 40
    back = rows.dequantise(*rows.quantise(vectors), torch.float32)
    assert ((back - vectors).norm(dim=1) / vectors.norm(dim=1)).max() < 0.02
    ordinary = torch.ones(576, dtype=torch.bool)
    ordinary[[199, 400]] = False
    assert ((back - vectors)[:, ordinary].norm() / vectors[:, ordinary].norm()) < 0.08
