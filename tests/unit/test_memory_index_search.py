"""What a search must find whatever the size of the corpus, and whatever others do to it meanwhile."""

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
