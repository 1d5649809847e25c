"""The parts of the Ray engine, and the whole of it on a Ray that works in this process and hands over the last first."""

import datetime
import errno
import logging
import os
import pickle
import socket
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

import ragcompress as rc
from ragcompress.indexing import on_ray, ray_worker, windows
from ragcompress.indexing.encoding import Done
from ragcompress.indexing.ray_cluster import Devices
from ragcompress.indexing.summary import Reject
from ragcompress.indexing.targets import open_target
from tests.unit.indexing_fakes import Hashing, corpus

pytest.importorskip("lancedb", reason="needs ragcompress[store]")


class RayError(Exception):
    pass


class FakeRay:
    """One machine with four cores."""

    def __init__(self, resources=None):
        self.exceptions = SimpleNamespace(RayError=RayError)
        self.cloudpickle = pickle
        self.data = SimpleNamespace(from_arrow_refs=FakeDataset, ActorPoolStrategy=lambda size: size)
        self.resources = {"CPU": 4.0} if resources is None else resources
        self.started, self.ended, self.level = {}, False, None

    def is_initialized(self):
        return False

    def init(self, **options):
        self.started, self.level = options, os.environ.get("RAY_BACKEND_LOG_LEVEL")

    def shutdown(self):
        self.ended = True

    def nodes(self):
        return [{"Alive": True, "Resources": self.resources}, {"Alive": False, "Resources": {"CPU": 99.0, "GPU": 99.0}}]

    def put(self, table):
        return table


class FakeDataset:
    def __init__(self, tables):
        self.tables, self.context = tables, SimpleNamespace()

    def map_batches(self, worker, *, fn_constructor_args, ray_remote_args_fn, **_):
        assert ray_remote_args_fn()["max_restarts"] > 0  # neither lost with its first death, nor started for ever
        self.worker = worker(*fn_constructor_args)
        return self

    def iter_rows(self):
        for table in reversed(self.tables):
            row = self.worker(table)
            yield {name: value[0] for name, value in row.items()}


@pytest.fixture
def fake_ray(monkeypatch):
    ray = FakeRay()
    monkeypatch.setattr(on_ray, "require_ray", lambda: ray)
    monkeypatch.setattr(windows, "WINDOW_DOCUMENTS", 8)
    return ray


def contents(compressor, place):
    index = rc.open_index(compressor, place)
    keys = index.keys()
    memories = index.get(keys, space=compressor.memory_space)
    return index.documents(keys), {key: memory.vectors.tolist() for key, memory in zip(keys, memories, strict=True)}


def test_results_come_in_the_order_of_the_sources(fake_ray, tmp_path):
    # Portions without work, all of whose records are left out, must not come before the first good ones.
    documents = [*corpus(20), *(rc.Document(" ") for _ in range(150)), *corpus(4, start=20)]
    told = []
    summary = rc.index(Hashing(), documents, tmp_path / "ray", engine="ray", progress=told.append)
    assert (summary.n_added, summary.n_rejected) == (24, 150)
    assert [each.n_added for each in told[:3]] == [8, 16, 20]


ODD = [datetime.date(2026, 1, 2), {1: 2}, {3}, float("nan"), lambda: 1, threading.Lock(), "plain", ["a", {"b": 1}]]
ODD_DOCUMENTS = [rc.Document(f"text {n}", id=str(n), metadata={"odd": value}) for n, value in enumerate(ODD)]


def test_odd_metadata_end_in_an_index_as_with_the_local_engine(fake_ray, tmp_path):
    both = [rc.index(Hashing(), ODD_DOCUMENTS, tmp_path / engine, engine=engine) for engine in ("local", "ray")]
    assert contents(Hashing(), tmp_path / "ray") == contents(Hashing(), tmp_path / "local")
    assert both[0].rejected == both[1].rejected
    assert 0 < both[0].n_added == both[1].n_added < len(ODD)


def test_odd_metadata_are_no_obstacle_where_they_are_not_kept(fake_ray, tmp_path):
    stores = [rc.LanceDBStore(tmp_path / engine) for engine in ("local", "ray")]
    both = [
        rc.index(Hashing(), ODD_DOCUMENTS, store, engine=engine)
        for store, engine in zip(stores, ("local", "ray"), strict=True)
    ]
    assert stores[0].keys() == stores[1].keys()
    assert both[0].n_added == both[1].n_added == len(ODD)
    assert both[0].n_tokens == both[1].n_tokens


def test_documents_that_were_read_do_not_wait_in_this_process(fake_ray, tmp_path):
    compressor = Hashing()
    target = open_target(compressor, tmp_path / "ray")
    todo = windows.windows(corpus(20), compressor, target)
    seen = [window for window, _ in on_ray.run(compressor, target, todo)]
    assert len(seen) == 3
    assert not any(window.todo or window.stale for window in seen)


def test_new_metadata_are_written(fake_ray, tmp_path):
    documents = corpus(20)
    rc.index(Hashing(), documents, tmp_path / "ray", engine="ray")
    renewed = [*(replace(each, metadata={"n": 9}) for each in documents[:3]), *documents[3:], *corpus(2, start=20)]
    summary = rc.index(Hashing(), renewed, tmp_path / "ray", engine="ray")
    assert (summary.n_updated, summary.n_present, summary.n_added) == (3, 17, 2)
    assert sum(each.metadata == {"n": 9} for each in contents(Hashing(), tmp_path / "ray")[0].values()) == 3


def test_a_cluster_leaves_nothing_changed(fake_ray, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_BACKEND_LOG_LEVEL", raising=False)
    logger = logging.getLogger("ray.data")
    monkeypatch.setattr(logger, "level", logging.INFO)
    before = dict(os.environ)
    rc.index(Hashing(), corpus(3), tmp_path / "ray", engine="ray")
    assert (fake_ray.level, fake_ray.ended) == ("fatal", True)
    assert dict(os.environ) == before
    assert logger.level == logging.INFO
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "info")
    rc.index(Hashing(), corpus(3), tmp_path / "again", engine="ray")
    assert fake_ray.level == os.environ["RAY_BACKEND_LOG_LEVEL"] == "info"


def test_what_ray_cannot_do_is_said_in_one_line(fake_ray, tmp_path):
    def full(table):
        raise RayError("out of disk\nmore lines")

    fake_ray.put = full
    with pytest.raises(rc.RagCompressError, match=r"Ray gave up: RayError: out of disk Often") as caught:
        rc.index(Hashing(), corpus(3), tmp_path / "ray", engine="ray")
    assert "\n" not in str(caught.value)
    assert fake_ray.ended


# Devices.


def nodes(*resources):
    return [{"Alive": True, "Resources": each} for each in resources]


@pytest.mark.parametrize(
    ("cores", "asked", "workers", "each"),
    [
        ([2], None, 1, 2),
        ([2], 2, 2, 1),
        ([8], 3, 3, 2),
        ([4, 4], 1, 1, 4),  # not 8: no machine has so many
        ([3, 3], 3, 3, 1),  # not 2: the third would find no place
        ([1, 1, 1, 1], None, 4, 1),
        ([5, 2], None, 3, 2),
        ([0, 16], 2, 2, 8),
    ],
)
def test_every_worker_finds_a_place(cores, asked, workers, each):
    devices = Devices.found(nodes(*({"CPU": float(count)} for count in cores)), gpu=True)
    assert devices.workers(asked) == workers
    assert devices.each(workers) == {"num_cpus": each}


def test_a_worker_for_each_gpu():
    devices = Devices.found(nodes({"CPU": 8.0}, {"CPU": 8.0, "GPU": 2.0}, {"GPU": 1.0}), gpu=True)
    assert (devices.workers(None), devices.workers(2), devices.each(3)) == (3, 2, {"num_gpus": 1})
    assert Devices.found(nodes({"CPU": 8.0, "GPU": 2.0}), gpu=False) == Devices(False, (8,))


@pytest.mark.parametrize(
    ("resources", "asked", "words"),
    [
        ([{"CPU": 4.0, "GPU": 1.0}, {"GPU": 1.0}], 3, "3 workers were asked for, and the Ray cluster has 2 GPUs"),
        ([{"CPU": 2.0}], 3, "3 workers were asked for, and the Ray cluster has 2 processor cores"),
        ([{"CPU": 0.5}], None, "has 0 processor cores"),
        ([], None, "has 0 processor cores"),
    ],
)
def test_more_workers_than_devices_are_refused(resources, asked, words):
    with pytest.raises(rc.OptionError, match=words):
        Devices.found(nodes(*resources), gpu=True).workers(asked)


def test_too_many_workers_are_refused_before_anything_is_read(fake_ray, tmp_path):
    def documents():
        raise AssertionError("read")
        yield

    with pytest.raises(rc.OptionError, match="5 workers were asked for"):
        rc.index(Hashing(), documents(), tmp_path / "ray", engine="ray", workers=5)


# Workers.


def result_of(worker, documents=("text",)):
    import pyarrow as pa

    todo = {str(n): windows.Record(rc.Document(text), str(n)) for n, text in enumerate(documents)}
    row = worker(pa.table({"window": [7], "records": [pickle.dumps(todo)]}))
    assert row["window"] == [7]
    return ray_worker.read_back(row["result"][0])


class Failing(Hashing):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def encode(self, documents):
        raise self.error


class OutOfMemoryError(RuntimeError):
    """As torch has one."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore"), "OutOfMemoryError: CUDA out of memory. Tried to allocate. Its memory is full: name fewer"),
        (MemoryError(), "portion: MemoryError. Its memory is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "Its disk is full: make room there"),
        (KeyError("slots"), "KeyError: 'slots'. See whether engine='local' can do it. What was written is kept"),
    ],
)  # fmt: skip
def test_errors_of_workers_are_told_in_one_line(error, words, tmp_path):
    compressor = Failing(error)
    worker = ray_worker.Worker(ray_worker.packed_job(compressor, open_target(compressor, tmp_path), pickle.dumps))
    with pytest.raises(rc.RagCompressError, match="could not encode and write a portion") as caught:
        result_of(worker)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" in caught.value.__notes__[0]


def test_a_worker_that_cannot_begin_says_so_with_its_first_portion():
    with pytest.raises(rc.RagCompressError, match=r"a worker on .* could not begin: UnpicklingError"):
        result_of(ray_worker.Worker(b"no pickle"))


def test_a_worker_with_other_weights_says_so():
    job = ray_worker.Job(Hashing(space="other@1"), "hashing@1", {}, None)
    with pytest.raises(rc.SpaceMismatchError, match="a worker loaded 'other@1'"):
        result_of(ray_worker.Worker(pickle.dumps(job)))


def test_a_compressor_that_cannot_travel_is_refused():
    compressor = Hashing()
    compressor.lock = threading.Lock()
    with pytest.raises(rc.OptionError, match="Hashing cannot be handed to workers: TypeError: cannot pickle"):
        ray_worker.packed_job(compressor, None, pickle.dumps)


def test_what_two_processes_did_of_a_portion_is_one_thing():
    one, other = Done(n_added=2, n_tokens=3, rejects=[Reject("a", "b")]), Done(n_added=1, n_updated=4)
    portions = [on_ray.Portion(windows.Window(), other, sent=True)]
    (_, done), = on_ray.in_order(portions, iter([(0, one)]))  # fmt: skip
    assert done == Done(n_added=3, n_updated=4, n_tokens=3, rejects=[Reject("a", "b")])


def test_an_address_where_nobody_listens_is_refused_at_once(fake_ray, tmp_path, monkeypatch):
    def refuse(address, timeout):
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"Connection refused by {address[0]} within {timeout}")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(rc.OptionError, match=r"no Ray cluster could be joined at 'host:1': Connection refused by host"):
        rc.index(Hashing(), corpus(1), tmp_path / "ray", engine="ray", ray_address="host:1")
    assert not fake_ray.started
