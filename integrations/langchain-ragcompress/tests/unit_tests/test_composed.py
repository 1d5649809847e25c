"""Several compressors as one, from plain configuration."""

import json
import pickle

import pytest
from langchain_core.documents import Document
from langchain_ragcompress import ChatRagCompress, RagCompressor

import ragcompress as rc
from ragcompress.testing import tiny

DOCUMENTS = [
    Document("The stone bridge is 412 metres long. It was built in 1357. Pigeons nest below.", metadata={"title": "A"}),
    Document("Bread needs flour. It was built in 1357. The stone bridge is long.", metadata={"title": "B"}),
]
QUERY = "How long is the stone bridge?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("stages")
    tiny("recomp-extractive").save_pretrained(path / "ranker")
    tiny("pisco").save_pretrained(path / "pisco")
    return path


@pytest.fixture
def stages(folder):
    return [
        {"backend": "recomp-extractive", "checkpoint": str(folder / "ranker"), "top_k": 5, "device": "cpu"},
        {"backend": "deduplicate"},
        {"backend": "token-budget", "max_tokens": 12, "token_counter": "words"},
    ]


def contents(documents):
    return [(document.page_content, rc.read_note(document.metadata)["spans"]) for document in documents]


def test_a_list_in_the_place_of_a_backend(stages):
    core = [rc.Document(each.page_content, title=each.metadata["title"]) for each in DOCUMENTS]
    context = rc.Pipeline(stages).compress(QUERY, core)
    expected = [(part.text, [span[1:] for span in part.spans]) for part in context.by_document()]
    assert expected
    for compressor in (
        RagCompressor(stages),
        RagCompressor("pipeline", stages=stages),
        RagCompressor(compressor=rc.Pipeline(stages)),
    ):
        assert (compressor.backend, compressor.options) == ("pipeline", {"stages": stages})
        assert contents(compressor.compress_documents(DOCUMENTS, QUERY)) == expected
        for again in (
            RagCompressor.model_validate_json(compressor.model_dump_json()),
            pickle.loads(pickle.dumps(compressor)),
        ):
            assert again.options == compressor.options
            assert contents(again.compress_documents(DOCUMENTS, QUERY)) == expected


def test_json_may_hold_the_list_itself(stages):
    compressor = RagCompressor.model_validate_json(json.dumps({"backend": stages}))
    assert compressor == RagCompressor(stages)


def test_spans_lead_into_what_was_retrieved(stages):
    for document in RagCompressor(stages).compress_documents(DOCUMENTS, QUERY):
        note = rc.read_note(document.metadata)
        original = next(each for each in DOCUMENTS if each.metadata["title"] == document.metadata["title"])
        assert note["backend"] == "pipeline"
        for start, end in note["spans"]:
            assert original.page_content[start:end] in document.page_content
        assert note["context_n_slots"] <= 12 < note["context_n_tokens"]


def test_a_pipeline_that_ends_in_vectors_is_read_by_the_chat_model(stages, folder):
    checkpoint = str(folder / "pisco")
    latent = [stages[0], {"backend": "pisco", "checkpoint": checkpoint, "device": "cpu"}]
    long = [Document(f"{each.page_content} " * 6, metadata=each.metadata) for each in DOCUMENTS]
    with pytest.warns(rc.HandleWarning, match="pipeline writes handles"):
        RagCompressor(latent)
    compressor = RagCompressor(latent, handles="expected")
    documents = compressor.compress_documents(long, QUERY)
    prompt = "\n\n".join(document.page_content for document in documents)
    assert "<|rc:" in prompt
    chat = ChatRagCompress("pisco", checkpoint=checkpoint, options={"device": "cpu"}, max_tokens=4)
    message = chat.invoke(f"{prompt}\n\n{QUERY}")
    assert message.response_metadata["prompt_mode"] == "native"  # question and handles are those of one result
    slots = sum(rc.read_note(document.metadata)["n_slots"] for document in documents)
    assert message.usage_metadata["input_tokens"] > slots


def test_wrong_stages_are_named_before_anything_is_loaded(stages):
    for wrong, said in (([], "at least one stage"), ([*stages, {"backend": "provenz"}], r"stage 4 \(provenz\)")):
        with pytest.raises(rc.OptionError, match=said):
            RagCompressor(wrong)
