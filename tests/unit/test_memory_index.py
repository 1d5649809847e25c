"""The searchable corpus: exact cosines, candidates first, several writers, kills in the middle, clear errors."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity, normalize

import ragcompress as rc
from ragcompress.stores import index as module
from ragcompress.stores import (
    index_checks,
    index_entries,
    index_rows,
    index_search,
    keys,
    shortening,
    snapshots,
    tables,
)

pa = pytest.importorskip("pyarrow", reason="needs ragcompress[store]")
lancedb = pytest.importorskip("lancedb", reason="needs ragcompress[store]")
MemoryIndex = module.MemoryIndex
SPACE = "test@1"
WAYS = [{}, {"exact": True}, {"exact": False}]


def memory(vectors, n_chunks=1, space=SPACE, **more):
    spans = tuple((9 * (row * n_chunks // len(vectors)), 9 * (row * n_chunks // len(vectors)) + 9) for row in range(len(vectors)))  # fmt: skip
    return rc.Memory(vectors, 3, space, spans, **more)


def entry(vectors, text="text", n_chunks=1, **more):
    return rc.Document(text, **more), memory(vectors, n_chunks)


def random(n, slots=2, width=4, seed=0, dtype=torch.float32):
    return torch.randn(n, slots, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def filled(folder, n=20, **options):
    index = MemoryIndex(folder, space=SPACE, **options)
    vectors = random(n)
    index.add({f"k{i:02}": entry(each, f"t{i}", metadata={"n": i % 3}) for i, each in enumerate(vectors)})
    return index, vectors


def keys_of(hits):
    return [hit.key for hit in hits]


@pytest.fixture(params=["main memory", "disk"])
def place(request, monkeypatch):
    """Small corpora are searched in main memory, large ones from disk."""
    if request.param == "disk":
        monkeypatch.setattr(index_search, "_EXACT_BYTES", 0)
        monkeypatch.setattr(index_search, "_BLOCK_BYTES", 200)


# What is found.


def test_exact_search_is_the_cosine_of_flattened_memories(tmp_path, place):
    index, vectors = filled(tmp_path)
    query = random(1, seed=1)[0]
    expected = cosine_similarity(vectors.flatten(1), query.flatten()[None])
    order = expected.argsort(descending=True)[:7].tolist()
    for way in WAYS:
        hits = index.search(query, 7, **way)
        assert keys_of(hits) == [f"k{i:02}" for i in order]
        assert [hit.score for hit in hits] == pytest.approx(expected[order].tolist(), abs=1e-6)
        for hit, i in zip(hits, order, strict=True):
            assert hit.memory == memory(vectors[i])
            assert hit.document == rc.Document(f"t{i}", metadata={"n": i % 3})
            assert hit.scores == (hit.score,)


@st.composite
def corpora(draw):
    slots, width = draw(st.integers(1, 3)), draw(st.integers(1, 5))
    numbers = st.lists(st.integers(-3, 3), min_size=slots * width, max_size=slots * width)
    chunks = draw(st.lists(st.lists(numbers, max_size=3), min_size=1, max_size=8))
    dtype = draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    query = torch.tensor(draw(numbers), dtype=dtype).reshape(slots, width)
    return [torch.tensor(own, dtype=dtype).reshape(-1, width) for own in chunks], query, draw(st.integers(1, 10))


def unit(flat):
    """float16 has no room for the sums."""
    return normalize(flat.float() if flat.dtype == torch.float16 else flat, dim=-1).double()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(corpora())
def test_every_way_gives_what_brute_force_gives(tmp_path_factory, corpus):
    documents, query, k = corpus
    index = MemoryIndex(tmp_path_factory.mktemp("any") / "index", space=SPACE)
    # Ties abound: small numbers, and every document twice.
    twice = [*documents, *reversed(documents)]
    index.add({f"{i:02}": entry(each, n_chunks=len(each) // len(query) or 1) for i, each in enumerate(twice)})
    q = unit(query.flatten())
    best = {}
    for i, each in enumerate(twice):
        if len(each):
            flat = unit(each.reshape(-1, query.numel()))
            best[f"{i:02}"] = (flat @ q).float().max().item()
    expected = sorted(best, key=lambda key: (-best[key], key))[:k]
    for way in WAYS:
        hits = index.search(query, k, **way)
        assert keys_of(hits) == expected
        assert [hit.score for hit in hits] == [best[key] for key in expected]
        assert [hit.memory.vectors.tolist() for hit in hits] == [twice[int(key)].tolist() for key in expected]


def test_the_scores_are_the_compressors_own(tmp_path):
    from ragcompress.testing import tiny

    clara = tiny("clara")
    documents = [rc.Document(f"document {i} about {'cats' if i % 2 else 'dogs'}") for i in range(6)]
    index = MemoryIndex(tmp_path, space=clara.memory_space)
    memories = clara.encode(documents)
    entries = {clara.memory_key(d): (d, m) for d, m in zip(documents, memories, strict=True)}
    index.add(entries)
    (query,) = clara.encode_queries(["what about cats?"])
    scores = dict(zip(entries, clara.score(query, memories), strict=True))
    for hit in index.search(query, 6):
        assert list(hit.scores) == pytest.approx(scores[hit.key], abs=1e-6)


def test_a_long_document_counts_by_its_best_chunk(tmp_path, place):
    query = torch.eye(2, 4)
    index = MemoryIndex(tmp_path, space=SPACE)
    long = torch.cat([-query, torch.ones(2, 4), 2 * query])
    index.add({"long": entry(long, n_chunks=3), "near": entry(query + 0.1), "far": entry(-query)})
    for way in (*WAYS, {"exact": False, "n_candidates": 1}):
        hits = index.search(query, 3, **way)
        assert keys_of(hits) == ["long", "near", "far"]
        assert hits[0].score == pytest.approx(1)
        assert hits[0].scores == pytest.approx((-1, 2 / 8**0.5 / 2**0.5, 1))
        assert hits[0].memory == memory(long, 3)
        assert keys_of(index.search(query, 1, **way)) == ["long"]
    assert len(index) == 3


def test_many_chunks_of_few_documents_do_not_crowd_out_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(index_search, "_EXACT_BYTES", 0)
    query = torch.eye(2, 4)
    index = MemoryIndex(tmp_path, space=SPACE)
    index.add({"long": entry(query.repeat(40, 1), n_chunks=40), "b": entry(-query), "c": entry(-query)})
    assert keys_of(index.search(query, 3, n_candidates=3)) == ["long", "b", "c"]


def test_without_spans_a_memory_is_one_chunk(tmp_path):
    index = MemoryIndex(tmp_path, space=SPACE)
    for spans in (None, ()):
        kept = rc.Memory(torch.ones(2, 4), 3, SPACE, spans, truncated=True)
        index.add({"a": (rc.Document("a"), kept)})
        assert index.search(torch.ones(2, 4), 1)[0].memory == kept


@pytest.mark.parametrize("way", WAYS)
def test_more_than_there_are_gives_all_and_none_gives_none(tmp_path, place, way):
    index = MemoryIndex(tmp_path, space=SPACE)
    assert index.search(torch.ones(2, 4), 5, **way) == []
    blank = (rc.Document(" "), rc.Memory(torch.zeros(0, 4), 0, SPACE, ()))
    index.add({"blank": blank})
    assert index.search(torch.ones(2, 4), 5, **way) == []
    vectors = random(3)
    index.add({f"{i}": entry(each) for i, each in enumerate(vectors)})
    assert len(index.search(vectors[0], 100, **way)) == 3
    assert len(index) == 4
    assert "blank" in index
    index.delete(index.keys())
    assert index.search(torch.ones(2, 4), 5, **way) == []
    index.add({"other": entry(torch.ones(3, 5))})  # an empty index takes another shape
    assert keys_of(index.search(torch.ones(3, 5), 1)) == ["other"]


def test_equal_scores_come_in_the_order_of_the_keys(tmp_path, place):
    index = MemoryIndex(tmp_path, space=SPACE)
    index.add({f"k{(7 * i) % 50:02}": entry(torch.ones(2, 4)) for i in range(50)})
    for way in WAYS:
        assert keys_of(index.search(torch.ones(2, 4), 5, **way)) == [f"k{i:02}" for i in range(5)]


@pytest.mark.parametrize("indexed", [False, True])
def test_recall_of_the_two_stages(tmp_path, monkeypatch, indexed):
    """Against mean-pooled slots of the same memories, too: that is why there is a projection."""
    monkeypatch.setattr(index_search, "_EXACT_BYTES", 0)
    torch.manual_seed(0)
    n, slots, width = 3000, 8, 64
    common = 1.5 * torch.randn(slots, width)
    common[:, 3] *= 20
    vectors = common + torch.einsum("nr,rsw->nsw", torch.randn(n, 32), torch.randn(32, slots, width) / 32**0.5)
    vectors += 0.8 * torch.randn(n, slots, width)
    index = MemoryIndex(tmp_path, space=SPACE)
    index.add({f"{i}": entry(each) for i, each in enumerate(vectors)})
    monkeypatch.setattr(module, "_MIN_ROWS_FOR_NEIGHBOURS", 2000)
    if indexed:
        index.compact()
        index.add({"0": entry(vectors[0])})  # there, but not in the index of neighbours
        index.compact()
        assert [each.columns for each in index._table.table.list_indices()] == [["short"]]
    found, pooled = 0, 0
    pool = normalize(vectors.mean(1), dim=1)
    for query in vectors[:30] + 1.2 * torch.randn(30, slots, width):
        best = {f"{i}" for i in (normalize(vectors.flatten(1), dim=1) @ query.flatten()).topk(10).indices.tolist()}
        found += len(best & set(keys_of(index.search(query, 10))))
        pooled += len(best & {f"{i}" for i in (pool @ query.mean(0)).topk(300).indices.tolist()})
    assert found >= 0.95 * 300
    assert pooled < 0.9 * 300


def test_the_projection_stays_what_it_is():
    """An index outlives versions of libraries: its matrix may never change."""
    assert shortening.signs(2)[0, :12].tolist() == [-1, -1, 1, -1, -1, -1, -1, 1, 1, -1, 1, -1]
    assert abs(shortening.signs(64).float().mean().item()) < 0.02
    assert shortening.shortened(torch.zeros(1, 8)).abs().sum() == 0


# Filters.


def test_filters(tmp_path, place):
    index, vectors = filled(tmp_path)
    for way in WAYS:
        hits = index.search(vectors[0], 100, where={"n": 1}, **way)
        assert sorted(keys_of(hits)) == [f"k{i:02}" for i in range(20) if i % 3 == 1]
        assert index.search(vectors[0], 3, where={"n": 7}, **way) == []
        assert index.search(vectors[0], 3, where={"n": 1, "absent": None}, **way) == []
        assert len(index.search(vectors[0], 100, where={}, **way)) == 20


NASTY = ["it's", '"', "' OR '1'='1", "'); DROP TABLE x; --", "\\", "%", "\n", "\ud800", "a\x00b", "", "ä"]


def test_nothing_can_be_injected_through_a_filter(tmp_path, place):
    index = MemoryIndex(tmp_path, space=SPACE)
    index.add({f"{i}": entry(torch.ones(2, 4), text, id=text, title=text, metadata={text: text}) for i, text in enumerate(NASTY)})  # fmt: skip
    for i, text in enumerate(NASTY):
        for way in WAYS:
            (hit,) = index.search(torch.ones(2, 4), 100, where={text: text}, **way)
            assert hit.key == f"{i}"
            assert hit.document == rc.Document(text, text, text, {text: text})
    assert len(index) == len(NASTY)


def test_what_equal_means(tmp_path):
    index = MemoryIndex(tmp_path, space=SPACE)
    values = [1, True, "1", None, [1, "a"], {"x": {"y": 2, "a": 1}}, 1.5, 0, False, ""]
    index.add({f"{i}": entry(torch.ones(2, 4), metadata={"v": value, "w": 0}) for i, value in enumerate(values)})
    for i, value in enumerate(values):
        assert keys_of(index.search(torch.ones(2, 4), 99, where={"v": value, "w": 0.0})) == [f"{i}"]
    assert keys_of(index.search(torch.ones(2, 4), 99, where={"v": 1.0})) == ["0"]


@pytest.mark.parametrize("where", [[("a", 1)], "a", {1: 2}, 3])
def test_impossible_filters(tmp_path, where):
    with pytest.raises(rc.InputTypeError, match="where must be a mapping"):
        MemoryIndex(tmp_path, space=SPACE).search(torch.ones(2, 4), 1, where=where)


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, {"a": float("inf")}])
def test_metadata_that_is_no_json(tmp_path, value):
    index = MemoryIndex(tmp_path, space=SPACE)
    with pytest.raises(rc.InputError, match=r"document under b: .*metadata 'v' cannot be kept"):
        index.add({"a": entry(torch.ones(2, 4)), "b": entry(torch.ones(2, 4), metadata={"v": value})})
    with pytest.raises(rc.InputError, match="cannot be kept"):
        index.search(torch.ones(2, 4), 1, where={"v": value})
    with pytest.raises(rc.InputError, match="no string"):
        index.add({"b": entry(torch.ones(2, 4), metadata={3: 4})})
    assert len(index) == 0


# Writing.


def test_adding_replaces_and_deleting_forgets(tmp_path, place):
    index, vectors = filled(tmp_path, 5)
    query = torch.eye(2, 4)
    index.add({"k01": entry(torch.cat([query, -query]), "long", n_chunks=2), "new": entry(vectors[0])})
    assert index.keys() == ["k00", "k01", "k02", "k03", "k04", "new"]
    hit = index.search(query, 1)[0]
    assert (hit.key, hit.document.text, hit.scores) == ("k01", "long", pytest.approx((1, -1)))
    index.add({"k01": entry(query, "short again")})  # no chunk of before is left
    hit = index.search(query, 1)[0]
    assert (hit.document.text, len(hit.scores)) == ("short again", 1)
    assert index._table.count() == 6
    index.delete(["k01", "unknown"])
    index.delete(iter(["k02"]))
    index.delete([])
    index.add({})
    assert index.keys() == ["k00", "k03", "k04", "new"]
    assert "k01" not in index
    assert "k'" not in index
    assert 3 not in index
    for way in WAYS:
        assert sorted(keys_of(index.search(query, 9, **way))) == index.keys()


def test_reopening_pickling_and_two_views(tmp_path):
    index, vectors = filled(tmp_path, dtype="bfloat16")
    expected = index.search(vectors[3], 5)
    again = MemoryIndex(tmp_path, space=SPACE)
    assert again.dtype == "bfloat16"
    assert again.search(vectors[3], 5) == expected
    copy = pickle.loads(pickle.dumps(index))
    assert copy.search(vectors[3], 5) == expected
    assert repr(copy) == f"MemoryIndex('{tmp_path}', space='test@1', dtype='bfloat16', table='index')"
    again.delete([expected[0].key])
    assert index.search(vectors[3], 4) == expected[1:]
    again.add({"z": entry(vectors[3])})
    assert index.search(vectors[3], 1)[0].key == "z"


def test_eight_bits(tmp_path):
    vectors = random(40, 4, 128)
    index = MemoryIndex(tmp_path, space=SPACE, dtype="int8")
    index.add({f"{i}": entry(each) for i, each in enumerate(vectors)})
    for way in WAYS:
        hits = index.search(vectors[7], 3, **way)
        assert (hits[0].key, hits[0].score) == ("7", pytest.approx(1, abs=1e-3))
        assert hits[0].memory.vectors.dtype == torch.float32
        assert hits[0].score != 1  # of what is kept, not of what was given


def test_compacting(tmp_path):
    index, vectors = filled(tmp_path)
    for _ in range(5):
        index.add({"k00": entry(vectors[0]), "x": entry(vectors[1])})
    expected, before = index.search(vectors[0], 30), index.n_bytes
    index.compact(keep_seconds=0)
    assert index.n_bytes < before
    assert index.search(vectors[0], 30) == expected
    with pytest.raises(rc.OptionError, match="keep_seconds"):
        index.compact(keep_seconds=-1)


def test_many_keys_are_written_in_parts_and_checked_before(tmp_path, monkeypatch):
    monkeypatch.setattr(index_entries, "KEYS_AT_ONCE", 7)
    monkeypatch.setattr(keys, "KEYS_AT_ONCE", 4)
    index, vectors = filled(tmp_path)
    assert len(index) == 20
    monkeypatch.setattr(index_search, "_EXACT_BYTES", 0)
    assert len(index.search(vectors[0], 20)) == 20
    more = {f"n{i}": entry(each) for i, each in enumerate(vectors)} | {"bad": entry(vectors[0], metadata={"a": set()})}
    with pytest.raises(rc.InputError, match="under bad"):
        index.add(more)
    assert len(index) == 20
    index.delete(index.keys())
    assert len(index) == 0


# What is read by key.


def test_memories_are_fetched_by_key(tmp_path, monkeypatch):
    index, vectors = filled(tmp_path)
    index.add(
        {
            "long": entry(torch.cat([vectors[0]] * 3), n_chunks=3, title="t"),
            "blank": (rc.Document(" "), rc.Memory(torch.zeros(0, 4), 0, SPACE, ())),
        }
    )
    expected = [
        memory(vectors[1]),
        None,
        memory(torch.cat([vectors[0]] * 3), 3),
        memory(vectors[1]),
        rc.Memory(torch.zeros(0, 4), 0, SPACE, ()),
    ]
    asked = ["k01", "x", "long", "k01", "blank"]
    assert index.get(asked, space=SPACE) == expected
    monkeypatch.setattr(keys, "KEYS_AT_ONCE", 2)
    assert index.get(asked, space=SPACE) == expected
    assert index.get([], space=SPACE) == []
    with pytest.raises(rc.SpaceMismatchError, match=r"'test@1', but 'other@2' was asked for"):
        index.get(["k01"], space="other@2")
    for bad in ("k01", [3], ["a b"]):
        with pytest.raises(rc.InputError, match="key"):
            index.get(bad, space=SPACE)


def test_documents_are_fetched_without_their_vectors(tmp_path, monkeypatch):
    index, vectors = filled(tmp_path)
    index.add({"long": entry(torch.cat([vectors[0]] * 3), "l", n_chunks=3, id="i", title="t", metadata={"a": [1]})})
    columns = []
    taken = tables.LanceTable.taken
    monkeypatch.setattr(tables.LanceTable, "taken", lambda self, *rest: columns.append(rest[2]) or taken(self, *rest))
    found = index.documents(iter(["x", "long", "k01", "long"]))
    assert list(found.items()) == [
        ("long", rc.Document("l", "i", "t", {"a": [1]})),
        ("k01", rc.Document("t1", metadata={"n": 1})),
    ]
    assert columns == [["row", "key", "chunk", "text", "id", "title", "metadata"]]
    assert index.documents([]) == {}


def test_keys_are_found_by_ids_and_metadata(tmp_path):
    index = MemoryIndex(tmp_path, space=SPACE)
    for i, vectors in enumerate(random(6)):
        index.add(
            {f"k{i}": entry(vectors, f"t{i}", id=None if i == 5 else f"id '{i // 2}' \ud800", metadata={"n": i % 2})}
        )
    index.add({"none": (rc.Document("", id="blank", metadata={"n": 0}), memory(torch.zeros(0, 4)))})
    assert index.keys(ids=["id '1' \ud800", "nobody"]) == ["k2", "k3"]
    assert index.keys(where={"n": 0}) == ["k0", "k2", "k4", "none"]
    assert index.keys(ids=["id '1' \ud800"], where={"n": 1}) == ["k3"]
    assert index.keys(ids=[]) == []
    assert len(index.keys()) == 7
    index.delete(index.keys(ids=["id '0' \ud800"]))
    assert index.keys() == ["k2", "k3", "k4", "k5", "none"]
    with pytest.raises(rc.InputTypeError, match="list of ids"):
        index.keys(ids="id 1")
    with pytest.raises(rc.InputTypeError, match="where"):
        index.keys(where=["n"])


def test_known_keys(tmp_path):
    index, vectors = filled(tmp_path)
    index.add({"long": entry(torch.cat([vectors[0]] * 3), n_chunks=3)})
    assert index.known(["k01", "x", "long", "k01", "a b", 3]) == {"k01", "long"}
    with pytest.raises(rc.InputTypeError, match="single string"):
        index.known("k01")


def test_an_empty_index(tmp_path):
    for index in (MemoryIndex(tmp_path, space=SPACE), MemoryIndex(tmp_path, space=SPACE)):
        assert index.get(["a"], space=SPACE) == [None]
        assert index.documents(["a"]) == {}
        assert index.known(["a"]) == set()
        assert index.keys() == []
        assert len(index) == 0
        assert "a" not in index
        index.delete(["a"])
        index.compact()


# What is refused.


BAD_ENTRIES = [
    ("a b", rc.Document("x"), memory(torch.ones(2, 4))),
    ("x" * 240, rc.Document("x"), memory(torch.ones(2, 4))),
    ("a", "x", memory(torch.ones(2, 4))),
    ("a", rc.Document("x"), torch.ones(2, 4)),
    ("a", rc.Document("x"), memory(torch.ones(2, 4), space="other@2")),
    ("a", rc.Document("x"), memory(torch.ones(3, 4))),
    ("a", rc.Document("x"), memory(torch.full((2, 4), float("nan")))),
    ("a", rc.Document("x"), memory(torch.full((2, 4), 1e6))),  # too large for float16
    ("a", rc.Document("x"), rc.Memory(torch.ones(2, 4), 1, SPACE, ((0, 1),))),
    ("a", rc.Document("x", metadata={"v": {1, 2}}), memory(torch.ones(2, 4))),
    ("a", rc.Document("x", metadata={"v": float("nan")}), memory(torch.ones(2, 4))),
    ("a", rc.Document("x", metadata={3: 4}), memory(torch.ones(2, 4))),
]


@pytest.mark.parametrize("bad", BAD_ENTRIES)
def test_checking_says_what_adding_would_say(tmp_path, bad):
    index, vectors = filled(tmp_path, dtype="float16")
    index.check("new", *entry(vectors[0], metadata={"n": 3}))
    key, *pair = bad
    said = []
    for call in (lambda: index.check(*bad), lambda: index.add({key: tuple(pair)})):
        with pytest.raises((rc.InputError, rc.SpaceMismatchError)) as caught:
            call()
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]
    assert index._table.version == MemoryIndex(tmp_path, space=SPACE)._table.version
    assert len(index) == 20


def test_settings_are_noted_and_compared(tmp_path):
    noted = {"titles": "prefix", "max_length": 512, "dtype": None, "rate": 16.0, "merge": True}
    index = MemoryIndex(tmp_path, space=SPACE, settings=noted)
    assert index.settings == MemoryIndex(tmp_path, space=SPACE).settings == noted
    index.add({"a": entry(torch.ones(2, 4))})
    copy = pickle.loads(pickle.dumps(index))
    assert copy.settings == noted
    assert copy.keys() == ["a"]
    assert MemoryIndex(tmp_path, space=SPACE, settings=dict(reversed(noted.items()))).settings == noted
    for change, said in (
        ({"titles": "ignore"}, r"settings \(titles: 'prefix' there, 'ignore' asked for\)\. Use the checkpoint"),
        ({"titles": "ignore", "max_length": 256}, r"max_length: 512 there, 256 asked for; titles: 'prefix' there"),
        ({"rate": 16}, r"\(rate: 16.0 there, 16 asked for\)"),
        ({"merge": 1}, r"\(merge: True there, 1 asked for\)"),
        ({"new": None}, r"\(new: nothing there, None asked for\)"),
    ):
        with pytest.raises(rc.SpaceMismatchError, match=said):
            MemoryIndex(tmp_path, space=SPACE, settings=noted | change)
    with pytest.raises(rc.SpaceMismatchError, match="titles: 'prefix' there, nothing asked for"):
        MemoryIndex(tmp_path, space=SPACE, settings={})


def test_without_noted_settings_nothing_is_compared(tmp_path):
    assert MemoryIndex(tmp_path, space=SPACE).settings is None
    assert MemoryIndex(tmp_path, space=SPACE, settings={"a": 1}).settings is None
    assert MemoryIndex(tmp_path / "none", space=SPACE, settings={}).settings == {}


@pytest.mark.parametrize("bad", ["a", [("a", 1)], {3: 4}, {"a": [1]}, {"a": float("nan")}, {"a": float("inf")}])
def test_impossible_settings(tmp_path, bad):
    with pytest.raises(rc.OptionError, match="settings must"):
        MemoryIndex(tmp_path / "index", space=SPACE, settings=bad)
    assert not (tmp_path / "index").exists()


def test_a_mismatch_names_the_command_that_builds_another(tmp_path):
    filled(tmp_path / "my corpus")
    command = f"or build another: ragcompress index SOURCE --backend BACKEND --checkpoint CHECKPOINT --store 'lancedb://{tmp_path}/my corpus-2'"
    with pytest.raises(rc.SpaceMismatchError) as caught:
        MemoryIndex(tmp_path / "my corpus", space="other@2")
    assert caught.value.hint == f"Use the checkpoint, rate and dtype that built it, {command}"
    for space in ("'test@1'", "'other@2'"):
        assert space in str(caught.value)
    table = tables.LanceTable("s3://bucket/corpus/", "index", None)
    assert str(index_checks.mismatch(table, "'a'", "'b'")).endswith("--store s3://bucket/corpus-2")


# What else is refused.


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_not_a_number_is_refused(tmp_path, bad):
    index, vectors = filled(tmp_path)
    broken = vectors[0].clone()
    broken[1, 2] = bad
    with pytest.raises(rc.InputError, match="hold NaN or infinity"):
        index.add({"a": entry(vectors[0]), "b": entry(broken)})
    assert "a" not in index
    with pytest.raises(rc.InputError, match="query holds NaN or infinity"):
        index.search(broken, 1)


def test_queries_of_another_shape_or_type(tmp_path):
    index, _ = filled(tmp_path)
    with pytest.raises(rc.InputError, match=r"shape \(2, 5\); the memories of the index have \(2, 4\)"):
        index.search(torch.ones(2, 5), 1)
    with pytest.raises(rc.InputError, match=r"expected \(n_slots, width\)"):
        index.search(torch.ones(8), 1)
    for bad in ([[1.0]], torch.ones(2, 4, dtype=torch.int64)):
        with pytest.raises(rc.InputTypeError, match="a query must be a tensor"):
            index.search(bad, 1)
    for options in ({"k": 0}, {"k": 1.5}, {"k": 1, "n_candidates": 0}):
        with pytest.raises(rc.OptionError):
            index.search(torch.ones(2, 4), **options)


def test_another_space_at_opening(tmp_path):
    filled(tmp_path, dtype="int8")
    with pytest.raises(
        rc.SpaceMismatchError, match=r"'test@1', but 'other@2' was asked for.*or build another: ragcompress index"
    ):
        MemoryIndex(tmp_path, space="other@2")
    with pytest.raises(rc.SpaceMismatchError, match=r"stored as int8, but 'test@1' stored as float32"):
        MemoryIndex(tmp_path, space=SPACE, dtype="float32")
    for bad in ("", None, 3):
        with pytest.raises(rc.OptionError, match="space must be"):
            MemoryIndex(tmp_path, space=bad)


def test_another_space_rate_or_number_format_at_adding(tmp_path):
    index, vectors = filled(tmp_path)
    for bad, said in (
        (memory(vectors[0], space="other@2"), r"'test@1', but 'other@2' \(the memory under b\)"),
        (memory(torch.ones(3, 4)), "2 slots of 4 float32 numbers, but 3 slots of 4"),
        (memory(torch.ones(2, 5)), "2 slots of 4 float32 numbers, but 2 slots of 5"),
        (memory(vectors[0].bfloat16()), "float32 numbers, but 2 slots of 4 bfloat16"),
    ):
        with pytest.raises(rc.SpaceMismatchError, match=said + r".*build another"):
            index.add({"a": entry(vectors[0]), "b": (rc.Document("b"), bad)})
    assert len(index) == 20


@pytest.mark.parametrize("bad", [3, (1, 2), ("text", 3), (rc.Document("x"), 3), rc.Document("x")])
def test_entries_of_another_type(tmp_path, bad):
    with pytest.raises(rc.InputTypeError, match="under a must be a"):
        MemoryIndex(tmp_path, space=SPACE).add({"a": bad})


def test_keys_and_spans_that_cannot_be_kept(tmp_path):
    index = MemoryIndex(tmp_path, space=SPACE)
    for key in ("", "a' OR '1'='1", "a b", "x" * 240):
        with pytest.raises(rc.InputError, match="key"):
            index.add({key: entry(torch.ones(2, 4))})
    with pytest.raises(rc.InputError, match="2 rows and 1 spans"):
        index.add({"a": (rc.Document("a"), rc.Memory(torch.ones(2, 4), 1, SPACE, ((0, 1),)))})


def test_something_else_lies_there(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(rc.OptionError, match=r"folder of something else.*Name a folder"):
        MemoryIndex(tmp_path / "mine", space=SPACE)
    (tmp_path / "file").write_text("")
    with pytest.raises(rc.OptionError, match="Name a folder that can be written"):
        MemoryIndex(tmp_path / "file", space=SPACE)
    rc.LanceDBStore(tmp_path / "store")
    with pytest.raises(rc.InputError, match="is no index of ragcompress"):
        MemoryIndex(tmp_path / "store", space=SPACE, table="memories")
    MemoryIndex(tmp_path / "store", space=SPACE)  # beside the store
    schema = index_rows.schema(SPACE, None)
    newer = schema.with_metadata(schema.metadata | {index_rows.FORMAT_FIELD: b"2"})
    lancedb.connect(tmp_path / "new").create_table("index", schema=newer)
    with pytest.raises(rc.InputError, match=r"format 2 .* up to 1 .*--upgrade"):
        MemoryIndex(tmp_path / "new", space=SPACE)
    fewer = pa.schema([field for field in schema if field.name != "tags"], metadata=schema.metadata)
    lancedb.connect(tmp_path / "old").create_table("index", schema=fewer)
    with pytest.raises(rc.InputError, match="lacks columns: tags"):
        MemoryIndex(tmp_path / "old", space=SPACE)


def test_damaged_files(tmp_path):
    _, vectors = filled(tmp_path)
    for name in "ab":
        shutil.copytree(tmp_path / "index.lance", tmp_path / f"{name}.lance")
    for path in (tmp_path / "a.lance" / "data").iterdir():
        path.unlink()
    for path in (tmp_path / "b.lance" / "_versions").glob("*.manifest"):
        path.write_bytes(b"rubbish" * 10)
    with pytest.raises(rc.InputError, match=r"table 'a' at .* cannot be used"):
        MemoryIndex(tmp_path, space=SPACE, table="a").search(vectors[0], 1)
    with pytest.raises(rc.InputError, match=r"table 'b' at .* cannot be used"):
        MemoryIndex(tmp_path, space=SPACE, table="b")
    (tmp_path / "c.lance" / "data").mkdir(parents=True)  # killed while it made the table
    assert len(MemoryIndex(tmp_path, space=SPACE, table="c")) == 0


def test_without_lancedb_the_pip_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(rc.MissingExtraError, match=r"MemoryIndex needs lancedb.*pip install 'ragcompress\[store\]'"):
        MemoryIndex(tmp_path, space=SPACE)


def test_importing_it_imports_nothing_heavy():
    code = "import sys, ragcompress.stores.index; sys.exit(bool({'torch', 'lancedb', 'pyarrow'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Several at once.


def test_searching_goes_on_while_others_write(tmp_path, place):
    index, vectors = filled(tmp_path)
    writer = MemoryIndex(tmp_path, space=SPACE)
    done, failures = threading.Event(), []

    def search(way):
        while not done.is_set():
            try:
                hits = index.search(vectors[3], 20, **way)
                assert hits[0].key == "k03"
                assert len(hits) == 20
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=search, args=(way,)) for way in WAYS]
    for thread in threads:
        thread.start()
    for step in range(10):
        writer.add({f"k{step:02}": entry(vectors[step])})
        if step % 3 == 0:
            writer.compact(keep_seconds=0)
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


CHILD = """
import random, sys, torch, ragcompress as rc
from ragcompress.stores import upkeep
from ragcompress.stores.index import MemoryIndex
upkeep.COMMITS_BETWEEN_CHECKS, upkeep.MIN_FRAGMENTS_TO_COMPACT = 8, 12
torch.set_num_threads(1)
folder, job, worker = sys.argv[1], sys.argv[2], int(sys.argv[3])
def entry(value, n_chunks):
    spans = tuple((chunk, chunk + 1) for chunk in range(n_chunks) for _ in range(2))
    vectors = torch.full((2 * n_chunks, 64), float(value + 1))
    return rc.Document(f"{value}", metadata={"v": value}), rc.Memory(vectors, value, "test@1", spans)
print("ready", flush=True)
sys.stdin.readline()
index = MemoryIndex(folder, space="test@1")
source = random.Random(worker)
for step in range(30 if job == "upsert" else 10000):
    if job == "upsert":
        value = 1000 * worker + step
        index.add({str(source.randrange(20)): entry(value, source.randrange(1, 4)) for _ in range(3)})
    else:
        index.add({f"{worker}-{step}-{part}": entry(step, 2) for part in range(3)})
        print(step, flush=True)
"""


def child(folder, job, worker):
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), job, str(worker)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"RUST_LOG": "error", "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip


def go(children):
    for each in children:
        assert each.stdout.readline() == "ready\n"
    for each in children:
        each.stdin.write("go\n")
        each.stdin.flush()


def assert_whole(index):
    hits = index.search(torch.ones(2, 64), 10**6)
    assert sorted(keys_of(hits)) == index.keys()
    for hit in hits:
        value = hit.memory.n_tokens
        assert hit.document == rc.Document(f"{value}", metadata={"v": value})
        assert bool((hit.memory.vectors == value + 1).all())
        assert len(hit.memory.spans) == len(hit.memory.vectors) == 2 * len(hit.scores)
    assert index._table.count() == sum(len(hit.scores) for hit in hits)  # no row twice, none left over
    return hits


def test_two_processes_write_at_once(tmp_path):
    children = [child(tmp_path / "made at once", "upsert", worker) for worker in range(2)]
    go(children)
    for each in children:
        each.communicate()
        assert each.returncode == 0
    assert len(assert_whole(MemoryIndex(tmp_path / "made at once", space=SPACE))) == 20


def test_a_killed_writer_leaves_nothing_half_written(tmp_path):
    for worker, wait in enumerate((0.003, 0.02)):
        process = child(tmp_path / "index", "many", worker)
        go([process])
        for _ in range(10):
            process.stdout.readline()
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        assert process.returncode == -signal.SIGKILL
        index = MemoryIndex(tmp_path / "index", space=SPACE)
        steps = {hit.key.rpartition("-")[0] for hit in assert_whole(index)}
        assert len(index) == 3 * len(steps)  # each add is there as a whole or not at all
        assert {f"{worker}-{step}" for step in range(10 + len(rest.splitlines()))} <= steps
        index.compact()


FULL = """
import resource, sys, torch, ragcompress as rc
index = rc.MemoryIndex(sys.argv[1], space="test@1")
def entry(value):
    return rc.Document(f"{value}", metadata={"v": value}), rc.Memory(torch.full((2, 64), value + 1.0), value, "test@1", ((0, 1),) * 2)
index.add({"a": entry(1)})
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
for call in (lambda: index.add({"a": entry(9), "b": entry(2)}), lambda: index.compact(), lambda: rc.MemoryIndex(sys.argv[1] + "/new", space="test@1")):
    try:
        call()
    except rc.InputError as error:
        print(error)
assert index.get(["a", "b"], space="test@1") == [entry(1)[1], None]
"""


@pytest.mark.parametrize("limit", [100, 2000])
def test_a_full_disk_takes_nothing_that_was_there(tmp_path, limit):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "index"), str(limit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = f"there is no room left at {tmp_path}/index (File too large): this could not be written to the table 'index'; what was committed before is kept. Free space there, or name another place"
    assert done.stdout.startswith(said)
    assert all(line.startswith(f"there is no room left at {tmp_path}/index") for line in done.stdout.splitlines())
    assert "delete it" not in done.stdout
    index = MemoryIndex(tmp_path / "index", space=SPACE)
    assert [hit.key for hit in assert_whole(index)] == ["a"]
    index.add({"b": entry(torch.ones(2, 64))})  # and on it goes
    index.compact(keep_seconds=0)
    assert index.keys() == ["a", "b"]
    assert len(MemoryIndex(tmp_path / "index" / "new", space=SPACE)) == 0


def test_near_ties_are_settled_by_the_exact_sum():
    tiny = 2.0**-24
    # Added up one by one in float32 the second is larger; rounded once, they are equal.
    flat = torch.tensor([[1, tiny, tiny], [1, 1.5 * tiny, 0]])
    owners, none = torch.tensor([0, 1]), torch.zeros(0, dtype=torch.int64)
    names = pa.array(["a.0", "b.0"])
    both = snapshots.Snapshot(names, owners, ["a", "b"], owners, pa.array([], pa.string()), none, none, flat)
    assert both.best(torch.ones(3), 1, ()) == [0]
    assert both.best(torch.ones(3), 2, ()) == [0, 1]
