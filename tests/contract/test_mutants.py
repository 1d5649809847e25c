"""Each test of the contract is shown failing on a compressor that breaks just that property.

A contract test that no mutant can fail proves nothing; the last test here keeps the list complete.
"""

import asyncio
import copy
import itertools
import random
import threading
import time
from dataclasses import dataclass, replace

import pytest

import ragcompress as rc
from ragcompress.options import build_config
from ragcompress.testing import CompressorContract, tiny


@dataclass(frozen=True)
class Options:
    top_k: int = 4


class Reference(rc.Compressor):
    """A correct compressor: shared letters-and-words score with a small term for the length, so that nothing ties."""

    name = "reference"

    def __init__(self):
        self.config = Options()

    def compress_batch(self, queries, documents):
        checked = rc.check_inputs(queries, documents)
        return [self.one(query, each) for query, each in zip(queries, checked, strict=True)]

    def score(self, query, sentence):
        shared = {word.strip("?.,!").lower() for word in query.split()} & {
            w.strip("?.,!").lower() for w in sentence.split()
        }
        return len(shared) + sum(place * ord(letter) for place, letter in enumerate(sentence)) % 997 / 1000

    def candidates(self, query, documents):
        split = rc.get_splitter("punkt")
        return [
            (self.score(query, document.text[start:end]), index, start, end)
            for index, document in enumerate(documents)
            for start, end in split(document.text)
        ]

    def segment(self, documents, score, index, start, end):
        text = documents[index].text[start:end]
        return rc.TextSegment(text, (rc.Source(index, start, end),), score, self.token_counter(text))

    def arrange(self, best):
        return sorted(best, key=lambda candidate: candidate[1:])

    def one(self, query, documents):
        best = sorted(self.candidates(query, documents), key=lambda candidate: -candidate[0])[: self.config.top_k]
        segments = tuple(self.segment(documents, *candidate) for candidate in self.arrange(best))
        lengths = tuple(self.token_counter(f"{document.title or ''} {document.text}") for document in documents)
        context = rc.CompressedContext(
            query, documents, segments, n_tokens=sum(lengths), counter="words", document_tokens=lengths
        )
        return self.finish(replace(context, n_slots=self.token_counter(context.text)))

    def finish(self, context):
        return context


class TestReference(CompressorContract):
    def make(self):
        return Reference()


class KeepsNothing(Reference):
    def candidates(self, query, documents):
        return []


class StripsSpans(Reference):
    def segment(self, documents, score, index, start, end):
        segment = super().segment(documents, score, index, start, end)
        return replace(segment, sources=(rc.Source(index, start, max(start + 1, end - 1)),))


class NumpyScores(Reference):
    def score(self, query, sentence):
        import numpy

        return numpy.float32(super().score(query, sentence))


class Unpicklable(Reference):
    """Its results hold something that neither copies nor compares."""

    def finish(self, context):
        documents = tuple(replace(document, metadata={"lock": random.Random()}) for document in context.documents)
        return replace(context, documents=documents)


class ChangesInputs(Reference):
    def one(self, query, documents):
        for document in documents:
            document.metadata["seen"] = True
        return super().one(query, documents)


class LosesDocuments(Reference):
    def finish(self, context):
        return replace(context, documents=context.documents[:1])


class BatchAsOne(Reference):
    """Answers every query of a batch like the first one."""

    def compress_batch(self, queries, documents):
        results = super().compress_batch(queries, documents)
        return [replace(result, segments=results[0].segments) for result in results]


class FailsOnNothing(Reference):
    def one(self, query, documents):
        assert documents[0]
        return super().one(query, documents)


class FailsOnBlank(Reference):
    def one(self, query, documents):
        return super().one(query, documents) if all(d.text.split()[0] for d in documents) else None


class ScoresByPlace(Reference):
    def candidates(self, query, documents):
        return [(score + index, index, *span) for score, index, *span in super().candidates(query, documents)]


class ShortSighted(Reference):
    """Recursion (here: a limit) that only a long document meets."""

    def candidates(self, query, documents):
        found = super().candidates(query, documents)
        if len(found) > 5000:
            raise AssertionError("too many sentences")
        return found


class BestFirst(Reference):
    def arrange(self, best):
        return best


class MisplacedScores(Reference):
    """Zips sorted scores onto unsorted sentences, as a published reranker adapter did."""

    def arrange(self, best):
        scores = sorted((candidate[0] for candidate in best), reverse=True)
        return [(score, *rest) for score, (_, *rest) in zip(scores, super().arrange(best), strict=True)]


class Repeats(Reference):
    def arrange(self, best):
        return [candidate for candidate in super().arrange(best) for _ in range(3)]


class CountsCharacters(Reference):
    def finish(self, context):
        return replace(context, n_slots=min(context.n_tokens, len(context.text)) if context.segments else 0)


class Dice(Reference):
    def score(self, query, sentence):
        return super().score(query, sentence) + random.random()


class SharedState(Reference):
    """Keeps the query of the call in the object, where another thread overwrites it."""

    def one(self, query, documents):
        self.query = query
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.002)
        return super().one(self.query, documents)


class BlocksTheLoop(Reference):
    async def acompress(self, query, documents):
        return self.compress(query, documents)


class Unchecked(Reference):
    def compress_batch(self, queries, documents):
        as_documents = [
            tuple(d if isinstance(d, rc.Document) else rc.Document(str(d)) for d in each) for each in documents
        ]
        return [self.one(str(query), each) for query, each in zip(queries, as_documents, strict=False)]


@dataclass(frozen=True)
class RawText(rc.CompressedContext):
    @property
    def text(self):
        return "\n".join(segment.text for segment in self.segments)


class LeavesHandles(Reference):
    def finish(self, context):
        return RawText(**{name: getattr(context, name) for name in context.__dataclass_fields__})


class OneKeyForAll(Reference):
    """Vectors under a key that only the place of the document decides."""

    def finish(self, context):
        import torch

        segments = tuple(
            rc.MemorySegment(
                torch.full((2, 3), float(sum(map(ord, segment.text)))),
                segment.sources,
                key=str(segment.sources[0].document),
            )
            for segment in context.segments
        )
        return replace(context, segments=segments, space="reference")


class AcceptsAnything(Reference):
    def with_options(self, **options):
        other = copy.copy(self)
        other.config = build_config(Options, {k: v for k, v in options.items() if k == "top_k"})
        return other


def forgetful():
    """Saves its weights and loads others."""
    compressor = tiny("recomp-extractive")

    class Forgetful(type(compressor)):
        @classmethod
        def from_pretrained(cls, checkpoint=None, **options):
            loaded = super().from_pretrained(checkpoint, **options)
            return loaded.with_options(titles="ignore", top_k=2)

    compressor.__class__ = Forgetful
    return compressor


def forgiving():
    """Falls back to random weights where a file does not fit."""
    compressor = tiny("recomp-extractive")

    class Forgiving(type(compressor)):
        @classmethod
        def from_pretrained(cls, checkpoint=None, **options):
            try:
                return super().from_pretrained(checkpoint, **options)
            except rc.CheckpointError:
                return tiny("recomp-extractive")

    compressor.__class__ = Forgiving
    return compressor


class Heavy(Reference):
    """Its module counts as one that the bare import brings along."""


Heavy.__module__ = "ragcompress.registry"

MUTANTS = {
    "test_keeps_something": KeepsNothing,
    "test_every_segment_knows_its_source": StripsSpans,
    "test_scores_are_plain_floats": NumpyScores,
    "test_results_compare_copy_and_pickle": Unpicklable,
    "test_inputs_are_not_changed": ChangesInputs,
    "test_documents_are_handed_back": LosesDocuments,
    "test_batch_equals_singles": BatchAsOne,
    "test_no_documents": FailsOnNothing,
    "test_odd_documents": FailsOnBlank,
    "test_duplicate_documents": ScoresByPlace,
    "test_long_document": ShortSighted,
    "test_reading_order": BestFirst,
    "test_order_of_documents_does_not_change_scores": MisplacedScores,
    "test_never_longer_than_the_input": Repeats,
    "test_lengths_are_true": CountsCharacters,
    "test_deterministic": Dice,
    "test_threads": SharedState,
    "test_async_equals_sync": BlocksTheLoop,
    "test_bad_inputs_are_named": Unchecked,
    "test_handles_in_documents_are_harmless": LeavesHandles,
    "test_keys_address_vectors": OneKeyForAll,
    "test_options": AcceptsAnything,
    "test_save_and_load": forgetful,
    "test_missing_or_surplus_weights_raise": forgiving,
    "test_import_is_light": Heavy,
}


@pytest.mark.parametrize("test", sorted(MUTANTS))
def test_mutant_is_caught(test):
    class Contract(CompressorContract):
        def make(self):
            return MUTANTS[test]()

    with pytest.raises((AssertionError, IndexError)):
        getattr(Contract(), test)()


def test_every_contract_test_has_a_mutant():
    assert set(MUTANTS) == {name for name in dir(CompressorContract) if name.startswith("test_")}


def test_reference_has_separated_scores():
    """Ties would let a permutation test pass on a broken compressor."""
    from ragcompress.testing import DOCUMENTS, QUERIES

    for compressor in (Reference(), tiny("recomp-extractive")):
        for query in QUERIES:
            scores = sorted(segment.score for segment in compressor.compress(query, DOCUMENTS).segments)
            assert all(b - a > 1e-3 for a, b in itertools.pairwise(scores)), scores


def test_asyncio_default_is_off_the_loop():
    context = asyncio.run(Reference().acompress("moon", ["The moon is far away."]))
    assert context.text == "The moon is far away."
