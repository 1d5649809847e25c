"""What a search must find whatever the size of the corpus, and whatever others do to it meanwhile."""

import shutil
import uuid

import pytest
import torch
from torch.nn.functional import normalize

import ragcompress as rc
from ragcompress.stores import index_search

pytest.importorskip("lancedb", reason="needs ragcompress[store]")
SPACE = "test@1"
N_DOCUMENTS = 2000


def entry(vectors, text="text", **metadata):
    return rc.Document(text, metadata=metadata), rc.Memory(vectors, 3, SPACE, ((0, 9),) * len(vectors))


def keys_of(hits):
    return [hit.key for hit in hits]


# Many partitions of the index of neighbours.


@pytest.fixture(scope="module")
def vectors():
    return torch.randn(N_DOCUMENTS, 2, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def divided(tmp_path_factory, vectors):
    """An index of neighbours with more partitions than are looked into at first, as those of large corpora have."""
    from lancedb.index import IvfFlat

    index = rc.MemoryIndex(tmp_path_factory.mktemp("divided") / "index", space=SPACE)
    index.add({f"{i:04}": entry(each, rare=i % 50 == 0, third=i % 3) for i, each in enumerate(vectors)})
    index._table.table.create_index("short", config=IvfFlat(distance_type="dot", num_partitions=512))
    return index


@pytest.fixture
def two_stages(monkeypatch):
    monkeypatch.setattr(index_search, "_EXACT_BYTES", 0)


def best(vectors, query, k, allowed):
    scores = normalize(vectors.flatten(1), dim=1) @ normalize(query.flatten(), dim=0)
    order = scores.argsort(descending=True).tolist()
    return [f"{i:04}" for i in order if allowed(i)][:k]


def test_a_filter_loses_nothing_in_many_partitions(divided, vectors, two_stages):
    query = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    for where, allowed in (({"rare": True}, lambda i: i % 50 == 0), ({"third": 1}, lambda i: i % 3 == 1)):
        found = divided.search(query, 30, where=where)
        assert keys_of(found) == best(vectors, query, 30, allowed)
    assert len(divided.search(query, 100, where={"rare": True})) == 40


def test_as_many_are_found_as_were_asked_for_in_many_partitions(divided, vectors, two_stages):
    query = torch.randn(2, 16, generator=torch.Generator().manual_seed(2))
    assert len(divided.search(query, 1500, n_candidates=1)) == 1500
    expected = best(vectors, query, 190, lambda i: True)
    assert len({*expected} & {*keys_of(divided.search(query, 190))}) >= 0.95 * 190
    assert len(divided.search(query, 10**6)) == N_DOCUMENTS


def test_a_filter_that_asks_for_several_things(divided, vectors):
    query = torch.randn(2, 16, generator=torch.Generator().manual_seed(3))
    for way in ({}, {"exact": False}):
        found = divided.search(query, 100, where={"rare": True, "third": 1}, **way)
        assert keys_of(found) == best(vectors, query, 100, lambda i: i % 50 == 0 and i % 3 == 1)


# Number formats.


@pytest.mark.parametrize("way", [{}, {"exact": True}, {"exact": False}])
def test_lengths_beyond_what_float16_can_say(tmp_path, way):
    index = rc.MemoryIndex(tmp_path, space=SPACE)
    long = torch.tensor([[60000.0, 1.0], [60000.0, 1.0]], dtype=torch.float16)
    across = torch.tensor([[1.0, -60000.0], [1.0, -60000.0]], dtype=torch.float16)
    index.add({"long": entry(long), "across": entry(across), "zero": entry(torch.zeros_like(long))})
    assert [(hit.key, pytest.approx(hit.score, abs=1e-3)) for hit in index.search(long, 3, **way)] == [
        ("long", 1),
        ("across", 0),
        ("zero", 0),
    ]


# An index that is built anew, and one that others write to.


def small(folder, names, value=1.0, **options):
    index = rc.MemoryIndex(folder, space=SPACE, **options)
    index.add({name: entry(torch.full((2, 4), value), name) for name in names})
    return index


@pytest.mark.parametrize("told_apart", [True, False])
def test_an_index_that_was_built_anew_in_the_same_place(tmp_path, monkeypatch, told_apart):
    if not told_apart:  # as after a copy was put back
        monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=1))
    index = small(tmp_path / "index", "ab")
    query = torch.ones(2, 4)
    assert keys_of(index.search(query, 9)) == ["a", "b"]
    for names in ("cd", "ef"):
        shutil.rmtree(tmp_path / "index")
        again = small(tmp_path / "index", names)
        assert again._table.version == index._table.version
        for _ in range(2):
            assert keys_of(index.search(query, 9)) == [*names]


def test_an_index_that_was_built_anew_with_some_of_the_same_documents(tmp_path):
    index = small(tmp_path, "abc")
    assert keys_of(index.search(torch.ones(2, 4), 9)) == ["a", "b", "c"]
    shutil.rmtree(tmp_path / "index.lance")
    small(tmp_path, "abd", dtype="bfloat16")
    assert keys_of(index.search(torch.ones(2, 4), 9)) == ["a", "b", "d"]
    index.add({"e": entry(torch.ones(2, 4))})
    assert index.dtype == "bfloat16"
    assert index.search(torch.ones(2, 4), 9)[3].memory.vectors.dtype == torch.bfloat16


def test_an_index_that_was_built_anew_by_another_checkpoint(tmp_path):
    index = small(tmp_path, "ab", settings={"titles": "prefix"})
    index.search(torch.ones(2, 4), 9)
    shutil.rmtree(tmp_path / "index.lance")
    rc.MemoryIndex(tmp_path, space="other@2").add(
        {"a": (rc.Document("a"), rc.Memory(torch.ones(2, 4), 3, "other@2", None))}
    )
    for call in (
        lambda: index.search(torch.ones(2, 4), 9),
        lambda: index.add({"b": entry(torch.ones(2, 4))}),
        lambda: index.get(["a"], space=SPACE),
    ):
        with pytest.raises(rc.SpaceMismatchError, match="other@2"):
            call()
    shutil.rmtree(tmp_path / "index.lance")
    small(tmp_path, "ab", settings={"titles": "ignore"})
    with pytest.raises(rc.SpaceMismatchError, match="titles"):
        index.search(torch.ones(2, 4), 9)


def test_two_views_of_different_age_do_not_make_each_other_read_again(tmp_path, monkeypatch):
    index = small(tmp_path, "ab")
    reads = []
    read = index_search.snapshot_of
    monkeypatch.setattr(index_search, "snapshot_of", lambda batches: reads.append(1) or read(batches))
    old = index._state()
    small(tmp_path, "c")
    for state in (old, index._state(), old, index._state(), old):
        found = index._search.search(torch.full((8,), 8**-0.5), 9, tags=(), exact=None, n_candidates=300, state=state)
        assert sorted(key for key, _, _ in found) == ["a", "b", "c"]
    assert len(reads) == 1


def test_what_was_committed_while_it_was_read_is_found_afterwards(tmp_path, monkeypatch):
    index = small(tmp_path, "ab")
    read = index_search.snapshot_of

    def slowly(batches):
        found = read(batches)
        monkeypatch.setattr(index_search, "snapshot_of", read)
        small(tmp_path, "c")
        return found

    monkeypatch.setattr(index_search, "snapshot_of", slowly)
    assert keys_of(index.search(torch.ones(2, 4), 9)) == ["a", "b"]
    assert keys_of(index.search(torch.ones(2, 4), 9)) == ["a", "b", "c"]
