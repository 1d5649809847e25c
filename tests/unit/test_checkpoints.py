"""Finding checkpoints, and fingerprints that are cheap yet change with the weights."""

import pytest
import torch

import ragcompress as rc
from ragcompress import checkpoints


def write_weights(path, n_bytes, change_at=None):
    content = bytearray(n_bytes)
    content[:8] = (64).to_bytes(8, "little")
    if change_at is not None:
        for index in range(change_at, n_bytes, 4099):  # training moves nearly every weight
            content[index] = 1
    path.write_bytes(content)


@pytest.mark.parametrize("n_bytes", [200, 10_000, 40 * 1024**2])
def test_fingerprints_change_with_the_weights(tmp_path, n_bytes):
    (tmp_path / "config.json").write_text("{}")
    write_weights(tmp_path / "model.safetensors", n_bytes)
    before = checkpoints.fingerprint_folder(tmp_path)
    assert before == checkpoints.fingerprint_folder(tmp_path)
    write_weights(tmp_path / "model.safetensors", n_bytes, change_at=100)
    assert checkpoints.fingerprint_folder(tmp_path) != before
    write_weights(tmp_path / "model.safetensors", n_bytes)
    (tmp_path / "config.json").write_text("{ }")
    assert checkpoints.fingerprint_folder(tmp_path) != before


def test_what_an_earlier_visit_left_in_the_cache_is_completed(tmp_path, monkeypatch):
    """Reading only a configuration leaves a folder that the cache takes for the whole repository."""
    asked = []

    def snapshot(repository, allow_patterns, local_files_only=False, **options):
        asked.append((allow_patterns, local_files_only))
        if not local_files_only:
            for pattern in allow_patterns:
                (tmp_path / pattern).write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    (tmp_path / "config.json").write_text("{}")
    arguments = {"allow_patterns": ["config.json", "weights.safetensors"], "fallback_patterns": ["weights.bin"]}
    checkpoints.resolve("owner/name", complete=lambda folder: (folder / "weights.safetensors").exists(), **arguments)
    assert [local for _, local in asked] == [True, False]
    asked.clear()
    checkpoints.resolve("owner/name", complete=lambda folder: (folder / "weights.bin").exists(), **arguments)
    assert asked == [
        (["config.json", "weights.safetensors", "weights.bin"], True),
        (["config.json", "weights.safetensors"], False),
        (["config.json", "weights.safetensors", "weights.bin"], False),
    ]


def test_fingerprints_cover_what_is_loaded(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    before = checkpoints.fingerprint_folder(tmp_path, ["config.json", "*.safetensors"])
    (tmp_path / "notes.txt").write_text("x")
    assert checkpoints.fingerprint_folder(tmp_path, ["config.json", "*.safetensors"]) == before
    assert checkpoints.fingerprint_folder(tmp_path) != before


def test_fingerprints_ignore_place_time_and_documentation(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"12345678" * 9)
    (tmp_path / "two" / ".cache").mkdir()
    (tmp_path / "two" / ".cache" / "x.json").write_text("{}")
    assert checkpoints.fingerprint_folder(tmp_path / "one") == checkpoints.fingerprint_folder(tmp_path / "two")


def test_large_files_are_sampled(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    write_weights(path, 300 * 1024**2)
    read = sum(len(block) for block in checkpoints._blocks(path, path.stat().st_size))
    assert read < 6 * 1024**2


def test_a_broken_header_does_not_make_it_read_everything(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"\xff" * (40 * 1024**2))
    assert sum(len(block) for block in checkpoints._blocks(path, path.stat().st_size)) < 6 * 1024**2


def test_tensor_fingerprints():
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3_000_000)}
    before = checkpoints.fingerprint_tensors(weights)
    assert before == checkpoints.fingerprint_tensors(dict(reversed(weights.items())))
    assert before != checkpoints.fingerprint_tensors(weights, "other settings")
    assert before != checkpoints.fingerprint_tensors(weights | {"a": weights["a"].reshape(3, 2)})
    assert before != checkpoints.fingerprint_tensors(weights | {"a": weights["a"].bfloat16()})
    assert before != checkpoints.fingerprint_tensors(weights | {"b": weights["b"] + 0.001})
    assert checkpoints.fingerprint_tensors({"empty": torch.ones(0)})


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "nowhere", "~/nowhere-at-all", "a//b"])
def test_folders_that_do_not_exist(name):
    with pytest.raises(rc.CheckpointError, match="does not exist"):
        checkpoints.resolve(name)


def test_a_file_instead_of_a_folder(tmp_path):
    (tmp_path / "model.bin").write_text("")
    with pytest.raises(rc.CheckpointError, match="is a file"):
        checkpoints.resolve(tmp_path / "model.bin")


def test_ids_that_are_none():
    with pytest.raises(rc.CheckpointError, match="neither a folder nor a hub id"):
        checkpoints.resolve("bad name/with spaces")


def test_sub_folders_are_found_in_the_cache(tmp_path, monkeypatch):
    (tmp_path / "compression-16").mkdir()
    asked = []

    def snapshot(repository, **options):
        asked.append((repository, options))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    found = checkpoints.resolve("owner/name/compression-16", revision="abc", allow_patterns=["*.json"])
    assert found == tmp_path / "compression-16"
    assert asked == [
        ("owner/name", {"revision": "abc", "allow_patterns": ["compression-16/*.json"], "local_files_only": True})
    ]
    assert checkpoints.resolve("owner/name/compression-16", complete=lambda folder: True) == found
    with pytest.raises(rc.CheckpointError, match=r"no folder 'compression-128'.*compression-16"):
        checkpoints.resolve("owner/name/compression-128")


def test_downloads_are_announced_before_they_begin(tmp_path, monkeypatch, caplog):
    from huggingface_hub.errors import LocalEntryNotFoundError

    said = []

    def snapshot(repository, local_files_only=False, **options):
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        said.append(caplog.text)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert checkpoints.resolve("owner/name") == tmp_path
    assert "downloading owner/name" in said[0]


def test_a_mistyped_path_is_no_hub_id(tmp_path, monkeypatch):
    """Its first part is a folder here: nothing is asked of the hub."""
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(rc.CheckpointError, match=r"checkpoint 'models/pisko/v1' does not exist"):
        checkpoints.resolve("models/pisko/v1")
