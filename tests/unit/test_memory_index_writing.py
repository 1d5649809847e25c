"""What one add is: a single commit, as cheap for a large index as it can be, and right whoever else writes."""

import pytest
import torch

import ragcompress as rc
from ragcompress.stores import index_entries, tables

lancedb = pytest.importorskip("lancedb", reason="needs ragcompress[store]")
SPACE = "test@1"


def entry(vectors, text="text"):
    spans = tuple((row // 2, row // 2 + 1) for row in range(len(vectors)))
    return rc.Document(text), rc.Memory(vectors, 3, SPACE, spans)


@pytest.mark.parametrize(("n_documents", "n_slots"), [(256, 16), (256, 64), (511, 16)])
def test_a_portion_of_indexing_is_one_commit(n_documents, n_slots):
    """Else a killed run would leave half of one, and other batches with other bits would follow."""
    large = rc.Document("x" * 800), rc.Memory(torch.zeros(n_slots, 4096), 500, SPACE, ((0, 800),) * n_slots)
    assert len(list(index_entries.sized({f"{i}": large for i in range(n_documents)}))) == 1


def test_what_does_not_fit_into_one_commit_is_cut(monkeypatch):
    entries = {f"{i}": entry(torch.zeros(2, 4)) for i in range(1030)}
    assert [len(part) for part in index_entries.sized(entries)] == [512, 512, 6]
    monkeypatch.setattr(index_entries, "_BYTES_AT_ONCE", 400 * entries["0"][1].n_bytes)
    assert max(len(part) for part in index_entries.sized(entries)) <= 400


def test_rows_to_delete_are_looked_for_only_where_there_may_be_some(tmp_path, monkeypatch):
    looked, counted = [], []
    builder = lancedb.merge.LanceMergeInsertBuilder
    delete = builder.when_not_matched_by_source_delete
    monkeypatch.setattr(
        builder, "when_not_matched_by_source_delete", lambda self, where: looked.append(where) or delete(self, where)
    )
    count = tables.LanceTable.count
    monkeypatch.setattr(
        tables.LanceTable, "count", lambda self, where=None: counted.append(where) or count(self, where)
    )
    index = rc.MemoryIndex(tmp_path, space=SPACE)
    for name in "abc":
        index.add({name: entry(torch.ones(2, 4))})
    assert looked == []
    assert not any(counted)  # a condition would have to be looked at for every row
    index.add({"c": entry(torch.ones(4, 4)), "d": entry(torch.ones(2, 4))})
    assert looked == ["key IN ('c', 'd')"]
    assert index._table.count() == 5


@pytest.mark.parametrize("n_chunks", [1, 2, 4])
def test_a_key_that_another_process_adds_meanwhile_is_there_once(tmp_path, monkeypatch, n_chunks):
    index, other = (rc.MemoryIndex(tmp_path, space=SPACE) for _ in range(2))
    known = tables.LanceTable.known

    def slowly(self, keys):
        found = known(self, keys)
        monkeypatch.setattr(tables.LanceTable, "known", known)
        other.add({"a": entry(torch.zeros(2 * n_chunks, 4), "theirs")})
        return found

    monkeypatch.setattr(tables.LanceTable, "known", slowly)
    index.add({"a": entry(torch.ones(4, 4), "ours")})
    assert index._table.count() == 2
    (hit,) = index.search(torch.ones(2, 4), 5)
    assert (hit.document.text, hit.memory.vectors.tolist()) == ("ours", torch.ones(4, 4).tolist())
