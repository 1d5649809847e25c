"""Summaries as documents: one with several sources, one for each document, or none at all."""

from langchain_core.documents import Document
from langchain_ragcompress import RagCompressor

import ragcompress as rc
from ragcompress.testing import tiny

DOCUMENTS = [
    Document("The bridge was built in 1357. It is 412 metres long, on sixteen arches.", id="a", metadata={"n": 1}),
    Document("Bread needs flour, water, salt and time, and a baker who rises early.", id="b", metadata={"n": 2}),
]
QUESTION = "How long is the bridge?"


def silent(**options):
    """A model that ends before it says anything."""
    compressor = tiny("recomp-abstractive").with_options(**options)
    compressor.summarizer.end_ids = frozenset(range(100_000))
    return RagCompressor(compressor=compressor)


def test_a_summary_is_one_document_that_names_its_sources():
    (found,) = RagCompressor(compressor=tiny("recomp-abstractive")).compress_documents(DOCUMENTS, QUESTION)
    assert found.page_content
    note = rc.read_note(found.metadata)
    assert note["source_ids"] == ["a", "b"]
    assert note["spans"] == []
    assert "n" not in found.metadata
    assert [document.metadata for document in DOCUMENTS] == [{"n": 1}, {"n": 2}]


def test_a_summary_of_each_document_keeps_id_and_metadata():
    compressor = RagCompressor(compressor=tiny("recomp-abstractive").with_options(per_document=True))
    found = compressor.compress_documents(DOCUMENTS, QUESTION)
    assert [(document.id, document.metadata["n"]) for document in found] == [("a", 1), ("b", 2)]
    assert all(each.page_content != given.page_content for each, given in zip(found, DOCUMENTS, strict=True))


def test_silence_gives_no_document():
    assert silent().compress_documents(DOCUMENTS, QUESTION) == []
    assert silent(per_document=True).compress_documents(DOCUMENTS, QUESTION) == []


def test_or_the_best_one():
    (best,) = silent(on_empty="keep_best").compress_documents(DOCUMENTS, QUESTION)
    assert (best.id, best.page_content) == ("a", DOCUMENTS[0].page_content)
