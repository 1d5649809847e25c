"""Keys address content; the in-memory store keeps within its limit and forgets the least recently used."""

import pickle
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ragcompress as rc
from ragcompress.memories import fetch, known, memory_key

SPACE = "test@1"
EACH = rc.Memory(torch.ones(0, 4), 0, SPACE).n_bytes


def memory(n_rows=1, space=SPACE):
    return rc.Memory(torch.ones(n_rows, 4), 3, space)


def test_keys_change_with_everything_that_matters():
    base = memory_key(rc.Document("text", title="t"), {"space": "a", "max_length": 512})
    others = [
        memory_key(rc.Document("text.", title="t"), {"space": "a", "max_length": 512}),
        memory_key(rc.Document("text"), {"space": "a", "max_length": 512}),
        memory_key(rc.Document("text", title=""), {"space": "a", "max_length": 512}),
        memory_key(rc.Document("text", title="t"), {"space": "b", "max_length": 512}),
        memory_key(rc.Document("text", title="t"), {"space": "a", "max_length": 256}),
        memory_key(rc.Document("text", title="t"), {"space": "a"}),
    ]
    assert len({base, *others}) == 7
    assert len(base) == 32
    assert set(base) <= set("0123456789abcdef")


def test_keys_ignore_what_does_not_matter():
    plain = memory_key(rc.Document("text"), {"a": 1, "b": 2})
    assert plain == memory_key(rc.Document("text", id="7", metadata={"page": 1}), {"b": 2, "a": 1})


def test_keys_do_not_confuse_text_with_title():
    assert memory_key(rc.Document("a", title="b"), {}) != memory_key(rc.Document("b", title="a"), {})
    assert memory_key(rc.Document('a","b'), {}) != memory_key(rc.Document("a", title="b"), {})


@given(st.text(st.characters()))
def test_any_text_has_a_key(text):
    assert len(memory_key(rc.Document(text), {})) == 32


def test_lone_surrogates_have_keys():
    assert memory_key(rc.Document("\ud800"), {}) != memory_key(rc.Document("\ud801"), {})


def test_store_keeps_and_counts():
    store = rc.InMemoryStore()
    store.put({"a": memory(), "b": memory(2)})
    assert store.get(["b", "x", "a", "b"], space=SPACE) == [memory(2), None, memory(), memory(2)]
    assert len(store) == 2
    assert store.n_bytes == 48 + 2 * EACH
    store.put({"a": memory(3)})
    assert store.n_bytes == 80 + 2 * EACH
    store.delete(["a", "unknown"])
    assert "a" not in store
    assert store.n_bytes == 32 + EACH
    assert isinstance(store, rc.MemoryStore)


def test_least_recently_used_goes_first():
    store = rc.InMemoryStore(max_bytes=3 * (16 + EACH))
    store.put({"a": memory(), "b": memory(), "c": memory()})
    store.get(["a"], space=SPACE)
    store.put({"d": memory()})
    assert [key for key in "abcd" if key in store] == ["a", "c", "d"]
    assert store.n_bytes == 3 * (16 + EACH)


def test_blank_documents_fill_a_store_too():
    store = rc.InMemoryStore(max_bytes=10 * EACH)
    store.put({str(n): memory(0) for n in range(100)})
    assert len(store) == 10


def test_a_memory_above_the_limit_is_not_kept_and_pushes_nothing_out():
    store = rc.InMemoryStore(max_bytes=40 + EACH)
    store.put({"a": memory()})
    store.put({"big": memory(10)})
    assert "a" in store
    assert "big" not in store


def test_compression_works_with_a_store_that_is_too_small():
    from ragcompress.testing import DOCUMENTS, QUERIES, same_context, tiny

    compressor = tiny("recomp-extractive")
    expected = compressor.compress(QUERIES[0], DOCUMENTS)
    compressor.store = rc.InMemoryStore(max_bytes=1)
    assert same_context(compressor.compress(QUERIES[0], DOCUMENTS), expected)
    assert len(compressor.store) == 0


def test_spaces_are_checked():
    store = rc.InMemoryStore()
    store.put({"a": memory(space="other@2")})
    with pytest.raises(rc.SpaceMismatchError, match=r"other@2.*test@1"):
        store.get(["a"], space=SPACE)


@pytest.mark.parametrize("limit", [0, -1, "1GB", 2.5])
def test_bad_limits(limit):
    with pytest.raises(rc.OptionError, match="max_bytes"):
        rc.InMemoryStore(max_bytes=limit)


def test_threads_leave_the_count_right():
    store = rc.InMemoryStore(max_bytes=160 + 4 * EACH)

    def work(worker):
        for step in range(300):
            store.put({f"{(worker * step) % 17}": memory(1 + step % 3)})
            store.get([f"{step % 17}"], space=SPACE)
            store.delete([f"{(step * 3) % 17}"])

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.n_bytes == sum(each.n_bytes for each in store._memories.values()) <= 160 + 4 * EACH


def test_pickle():
    store = rc.InMemoryStore(max_bytes=9999)
    store.put({"a": memory()})
    other = pickle.loads(pickle.dumps(store))
    other.put({"b": memory()})
    assert (len(store), len(other), other.max_bytes) == (1, 2, 9999)


def test_named_stores_are_shared_in_the_process():
    assert rc.open_store("memory://one") is rc.open_store("memory://one")
    assert rc.open_store("memory://one") is not rc.open_store("memory://two")
    own = rc.InMemoryStore()
    assert rc.open_store(own) is own


@pytest.mark.parametrize("bad", ["memory://", "memory", "lance:/x", "lancedb://", "s3://", "http://x", "", 3])
def test_unknown_addresses(bad):
    with pytest.raises(rc.OptionError, match="store"):
        rc.open_store(bad)


def test_the_error_lists_every_kind_of_address():
    with pytest.raises(rc.OptionError) as caught:
        rc.open_store("lance:/x")
    for scheme in ("memory://NAME", "lancedb://FOLDER", "s3://", "gs://", "az://"):
        assert scheme in caught.value.hint


def test_fetch_gives_what_is_there():
    store = rc.InMemoryStore()
    store.put({"a": memory(), "b": memory(2)})
    assert fetch(store, ["b", "a", "b"], space=SPACE) == [memory(2), memory(), memory(2)]
    assert fetch(store, iter([]), space=SPACE) == []


def test_fetch_says_what_is_missing_where_and_what_to_do():
    store = rc.InMemoryStore()
    store.put({"a": memory()})
    with pytest.raises(rc.MemoryNotFoundError) as caught:
        fetch(store, ["x1", "a", "x2", "x1"], space=SPACE)
    assert str(caught.value).startswith("InMemoryStore(1 memories, 528 bytes, limit 268,435,456 bytes) holds nothing ")
    assert "under x1, x2. Compress the documents again (or remember() them)" in str(caught.value)
    assert "pass store=" in caught.value.hint
    with pytest.raises(KeyError, match="under 0, 1, 2 and 7 more"):
        fetch(store, [str(n) for n in range(10)], space=SPACE)


def test_fetch_checks_the_space():
    store = rc.InMemoryStore()
    store.put({"a": memory(space="other@2")})
    with pytest.raises(rc.SpaceMismatchError):
        fetch(store, ["a", "x"], space=SPACE)


class OnlyTheProtocol:
    """A store as others write it."""

    def __init__(self):
        self.asked = []

    def __contains__(self, key):
        self.asked.append(key)
        return key in ("a", "b")


def test_known_asks_a_store_once_or_for_each_key():
    store = rc.InMemoryStore()
    store.put({"a": memory(), "b": memory(space="other@2")})
    assert known(store, ["b", "x", "b"]) == store.known(iter(["b", "x"])) == {"b"}
    assert known(store, iter([])) == set()
    other = OnlyTheProtocol()
    assert known(other, iter(["x", "b", "a"])) == {"a", "b"}
    assert other.asked == ["x", "b", "a"]
    for each in (store, other):
        with pytest.raises(rc.InputTypeError, match="single string"):
            known(each, "ab")


def test_known_does_not_count_as_use():
    store = rc.InMemoryStore(max_bytes=2 * (16 + EACH))
    store.put({"a": memory(), "b": memory()})
    store.known(["a"])
    store.put({"c": memory()})
    assert store.known(["a", "b", "c"]) == {"b", "c"}
