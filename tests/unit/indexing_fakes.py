"""A compressor that is quick, remembers what it was asked, and can be made to fail; importable in other processes."""

import hashlib
import time

import torch

import ragcompress as rc
from ragcompress.memories import memory_key

SPACE = "hashing@1"


class Hashing(rc.SearchingCompressor):
    """Two vectors a document, made from its text alone."""

    name = "hashing"
    config = None

    def __init__(self, *, seconds=0.0, space=SPACE, settings=None):
        self.calls = []
        self.seconds = seconds
        self.memory_space = space
        self.own_settings = settings or {}

    memory_space = SPACE

    @property
    def memory_settings(self):
        return self.own_settings

    def check_searchable(self):
        pass

    def memory_key(self, document):
        return memory_key(document, {"space": self.memory_space, **self.own_settings})

    def encode(self, documents):
        for document in documents:
            if "unreadable" in document.text:
                raise rc.InputError(f"{document.text!r} cannot be encoded.")
        self.calls.append([document.text for document in documents])
        time.sleep(self.seconds * len(documents))
        return [self._memory(document) for document in documents]

    def _memory(self, document):
        vectors = hashed(document.text)
        if "overflow" in document.text:
            vectors[0, 0] = float("inf")
        span = ((0, len(document.text)),) * 2
        return rc.Memory(vectors, len(document.text.split()), self.memory_space, span, "too long" in document.text)

    def encode_queries(self, queries):
        return [hashed(query) for query in queries]

    def context_of(self, query, hits):
        raise NotImplementedError

    def select(self, query, documents, memories):
        raise NotImplementedError


def hashed(text):
    seed = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:4])
    return torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))


def corpus(n, start=0):
    return [
        rc.Document(
            f"text {number} of many", id=f"id {number}", title=f"title {number % 5}", metadata={"n": number % 3}
        )
        for number in range(start, start + n)
    ]
