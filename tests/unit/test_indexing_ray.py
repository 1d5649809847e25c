"""The Ray engine: the same contents as the local one, whatever happens to its workers."""

import importlib.util
import os
import pickle
import subprocess
import sys

import pytest
import torch

import ragcompress as rc
from ragcompress.compressor import LoadSpec
from ragcompress.indexing import ray_worker
from ragcompress.testing import tiny

pytest.importorskip("lancedb", reason="needs ragcompress[store]")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ragcompress[distributed]")

# In a process of its own: Ray opens sockets, and leaves threads behind. One cluster for all of it: it starts slowly.
SCRIPT = """
import datetime, logging, os, signal, sys, threading, types
import psutil, ray, torch
import ray.data
import ragcompress as rc
from ragcompress.indexing import ray_worker, windows
from ragcompress.testing import tiny

folder = sys.argv[1]
windows.WINDOW_DOCUMENTS = 16
tiny("clara").save_pretrained(f"{folder}/clara")
clara = rc.load("clara", f"{folder}/clara", device="cpu")
documents = [
    rc.Document("words of a document that says something \\ud800 " * (1 + i % 9) + str(i), id=str(i), title=f"T{i % 4}", metadata={"n": i})
    for i in range(400)
]

def contents(place):
    index = rc.open_index(clara, f"{folder}/{place}")
    keys = index.keys()
    memories = index.get(keys, space=clara.space)
    return index.documents(keys), {key: memory.vectors.numpy().tobytes() for key, memory in zip(keys, memories)}

class Own:
    pass

odd = [float("nan"), datetime.date(2026, 1, 2), {1: 2}, {3}, b"x", Own(), len, lambda: 1, threading.Lock(), types.MappingProxyType({"a": 1})]
for number, value in enumerate(odd):
    documents.append(rc.Document(f"fine, but for its metadata {number}", id=f"odd {number}", metadata={"n": value}))
told = []
local = rc.index(clara, documents, f"{folder}/local")
settings = lambda: (dict(os.environ), logging.getLogger("ray.data").level, ray.data.DataContext.get_current().enable_progress_bars)
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)

# The same, bit for bit; what is there already is not done again.
rc.index(clara, documents[:32], f"{folder}/ray")
before = settings()
distributed = rc.index(clara, documents, f"{folder}/ray", engine="ray", workers=2, progress=told.append)
assert settings() == before
assert (distributed.n_added, distributed.n_present) == (local.n_added - 32, 32), distributed
assert local.n_tokens > distributed.n_tokens > 0
assert contents("ray") == contents("local")
assert len(told) == 26 and told[-1].n_added == distributed.n_added, told[-1]
assert distributed.rejected == local.rejected and distributed.rejected[0].place == "odd 0", distributed
assert all("'n' cannot be kept" in each.reason for each in distributed.rejected), distributed
assert rc.index(clara, documents[:400], f"{folder}/ray", engine="ray").n_present == 400
print("same contents", flush=True)

# A worker that is killed in the middle of the run loses nothing.
killed = []
def kill(summary):
    if not killed and summary.n_added >= 32:
        for process in psutil.Process().children(recursive=True):
            if (process.cmdline() or [""])[0].startswith("ray::MapWorker"):
                process.send_signal(signal.SIGKILL)
                killed.append(process.pid)
                break

# Those that nothing can be made of come last, and do not end it.
more = documents[:400] + [rc.Document("further words " * 40 + str(i)) for i in range(800)] + [rc.Document(" ")] * 200
summary = rc.index(clara, more, f"{folder}/killed", engine="ray", workers=2, progress=kill)
assert killed
assert (summary.n_added, summary.n_rejected) == (1200, 200), summary
rc.index(clara, more, f"{folder}/whole")
assert contents("killed") == contents("whole")
print("killed", killed, flush=True)

# What a worker cannot do comes back as the error that it is.
ray_worker.recipe = lambda compressor: rc.compressor.LoadSpec("clara", f"{folder}/nowhere", {})
try:
    rc.index(clara, ["a text"], f"{folder}/gone", engine="ray", workers=1)
except rc.CheckpointError as error:
    assert "nowhere" in str(error)
    print("told", flush=True)
"""


@needs_ray
def test_a_cluster_writes_what_one_process_writes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {"same contents", "killed", "told"} <= {line.partition(" [")[0] for line in done.stdout.splitlines()}


@needs_ray
def test_a_store_of_this_process_is_refused():
    with pytest.raises(rc.OptionError, match="ends with this process"):
        rc.index(tiny("clara"), ["x"], rc.InMemoryStore(), engine="ray")


def test_ray_that_is_missing_is_said_with_the_command_that_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(rc.MissingExtraError, match=r"pip install 'ragcompress\[distributed\]'"):
        rc.index(tiny("clara"), ["x"], tmp_path / "index", engine="ray")


def test_workers_load_what_was_loaded_from_wherever_they_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    clara = tiny("clara")
    clara.spec = LoadSpec("clara", "model", {"device": "cuda:1", "store": "memory://x", "base": "model", "titles": "ignore"})  # fmt: skip
    expected = {"device": "cuda", "base": str(tmp_path / "model"), "titles": "ignore"}
    assert ray_worker.recipe(clara) == LoadSpec("clara", str(tmp_path / "model"), expected)
    clara.spec = LoadSpec("clara", "apple/CLaRa-7B-E2E/compression-16", {})
    assert ray_worker.recipe(clara).checkpoint == "apple/CLaRa-7B-E2E/compression-16"


def test_a_compressor_that_was_built_by_hand_is_handed_over_without_its_store():
    pisco = tiny("pisco")
    pisco.store = rc.InMemoryStore()
    bare = pickle.loads(ray_worker.packed_job(pisco, None, pickle.dumps)).how
    assert bare.store is None
    assert pisco.store is not None
    document = rc.Document("words of a document that are read")
    assert torch.equal(bare.encode([document])[0].vectors, pisco.encode([document])[0].vectors)
