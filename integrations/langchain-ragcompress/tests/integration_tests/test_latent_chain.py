"""Retriever -> compressor -> prompt -> chat model with vectors in the place of text, on small random models.

What they write is noise; that the chain writes what the reader itself writes is not.
"""

import asyncio
import pickle
import warnings
from dataclasses import replace

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import BaseDocumentTransformer, Document
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_ragcompress import ChatRagCompress, RagCompressor
from langchain_ragcompress.messages import to_request

import ragcompress as rc

QUERY = "Who built the bridge?"
LONG = "The bridge over the river is one of the first in the city and was built by monks in the year of the war. "
FOUND = [
    Document(LONG, id="bridge", metadata={"title": "Bridge"}),
    Document(LONG * 9, id="long"),
    Document("Tea.", id="short", metadata={"title": "Tea"}),
    Document(" ", id="blank"),
    Document("bread " * 125 + ". Salt.", id="mixed", metadata={"title": "Bread"}),
]
PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Answer in one word."), ("human", "Context:\n{context}\n\nQuestion: {query}")]
)
backends = pytest.mark.parametrize("backend", ["pisco", "oscar"])
both = pytest.mark.parametrize("mode", ["sync", "async"])


def joined(documents):
    return "\n\n".join(document.page_content for document in documents)


def core(documents):
    return [rc.Document(each.page_content, id=each.id, title=each.metadata.get("title")) for each in documents]


def chain_of(compressor, found=FOUND):
    return (
        {"documents": RunnableLambda(lambda query: found), "query": RunnablePassthrough()}
        | RunnablePassthrough.assign(context=compressor.as_runnable() | joined)
        | PROMPT
    )


def reader_of(chat):
    return chat._adapter.reader


def context_of(compressor, documents=FOUND, query=QUERY):
    return compressor._adapter.compressor.compress(query, core(documents))


@backends
@both
async def test_a_chain_answers_with_the_published_prompt(latent, backend, mode):
    compressor, chat = latent(backend)
    chain = chain_of(compressor) | chat
    message = chain.invoke(QUERY) if mode == "sync" else await chain.ainvoke(QUERY)
    context = context_of(compressor)
    kinds = {type(segment).__name__ for segment in context.segments}
    assert kinds == {"MemorySegment", "TextSegment"}, "the premise of this test"
    (expected,) = reader_of(chat).generate([context], max_new_tokens=12)
    assert expected.prompt_mode == "native"
    assert message.text == expected.text
    assert message.usage_metadata["input_tokens"] == expected.n_prompt_slots
    assert message.usage_metadata["output_tokens"] == expected.n_new_tokens == 12
    assert message.response_metadata["finish_reason"] == "length"
    assert message.response_metadata["prompt_mode"] == "native"
    assert message.response_metadata["model_name"] == chat.checkpoint


@backends
@both
async def test_a_chain_streams_the_same(latent, backend, mode):
    compressor, chat = latent(backend)
    chain = chain_of(compressor) | chat
    whole = chain.invoke(QUERY)
    chunks = list(chain.stream(QUERY)) if mode == "sync" else [chunk async for chunk in chain.astream(QUERY)]
    assert len(chunks) > 3
    assert "".join(chunk.text for chunk in chunks) == whole.text
    full = sum(chunks[1:], chunks[0])
    assert full.chunk_position == "last"
    assert full.response_metadata["model_name"] == chat.checkpoint
    assert full.usage_metadata["input_tokens"] == whole.usage_metadata["input_tokens"]
    if "finish_reason" in full.response_metadata:  # the reader's stream ended with an answer
        assert full.usage_metadata == whole.usage_metadata
        assert full.response_metadata.items() >= whole.response_metadata.items()
    parsed = chain | StrOutputParser()
    assert "".join(parsed.stream(QUERY)) == whole.text


@backends
def test_verbatim_is_the_prompt_of_the_chain(latent, backend):
    compressor, chat = latent(backend, prompt_mode="verbatim")
    prompt = chain_of(compressor).invoke(QUERY)
    message = chat.invoke(prompt)
    expected = reader_of(chat).complete(to_request(prompt.to_messages()), prompt_mode="verbatim", max_new_tokens=12)
    assert message.text == expected
    assert message.response_metadata["prompt_mode"] == "verbatim"
    assert message.text != chat.invoke(prompt, prompt_mode="native").text
    (*_, last) = chat.stream(prompt)
    assert last.usage_metadata["input_tokens"] == message.usage_metadata["input_tokens"]
    assert chat.get_num_tokens_from_messages(prompt.to_messages()) == message.usage_metadata["input_tokens"]


@backends
@pytest.mark.parametrize(
    "change",
    [
        lambda found, messages: [SystemMessage("Be brief."), HumanMessage(joined(found[:2]) + QUERY)],
        lambda found, messages: [*messages, AIMessage("Monks."), HumanMessage("Who else?")],
    ],
)
def test_auto_keeps_what_native_would_lose(latent, backend, change):
    compressor, chat = latent(backend)
    found = compressor.compress_documents(FOUND, QUERY)
    messages = change(found, PROMPT.invoke({"context": joined(found), "query": QUERY}).to_messages())
    message = chat.invoke(messages)
    assert message.response_metadata["prompt_mode"] == "verbatim"
    assert message.text == reader_of(chat).complete(to_request(messages), prompt_mode="verbatim", max_new_tokens=12)
    with pytest.raises(rc.InputError, match="native"):
        chat.invoke(messages, prompt_mode="native")


@backends
def test_order_of_the_documents_does_not_matter_to_native(latent, backend):
    compressor, chat = latent(backend)
    found = compressor.compress_documents(FOUND[:2], QUERY)
    message = chat.invoke(joined(found[::-1]))
    assert message.response_metadata["prompt_mode"] == "native"


@both
async def test_contextual_compression_retriever(latent, store, mode):
    compressor, chat = latent("pisco")
    retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=store.as_retriever())
    chain = {"context": retriever | joined, "query": RunnablePassthrough()} | PROMPT | chat
    message = chain.invoke(QUERY) if mode == "sync" else await chain.ainvoke(QUERY)
    assert message.response_metadata["prompt_mode"] == "native"
    context = context_of(compressor, store.as_retriever().invoke(QUERY))
    assert message.text == reader_of(chat).answer([context], max_new_tokens=12)[0]


@both
async def test_text_compressor_then_vectors(latent, minilm, mode):
    compressor, chat = latent("pisco")
    text = RagCompressor(compressor=minilm)
    pipeline = DocumentCompressorPipeline(transformers=[text, compressor])
    if mode == "sync":
        found = pipeline.compress_documents(FOUND, QUERY)
    else:
        found = await pipeline.acompress_documents(FOUND, QUERY)
    message = chat.invoke(joined(found))
    assert message.response_metadata["prompt_mode"] == "native"
    context = context_of(compressor, text.compress_documents(FOUND, QUERY))
    assert message.text == reader_of(chat).answer([context], max_new_tokens=12)[0]


class Last(BaseDocumentTransformer):
    """Puts a document behind, as a pipeline's own steps may."""

    def transform_documents(self, documents, **kwargs):
        return [*documents, Document("The bridge was built by monks. Pigeons nest. Salt is white. Tea.", id="new")]


@both
@backends
async def test_vectors_then_text_compressor(latent, minilm, backend, mode):
    compressor, chat = latent(backend)
    text = RagCompressor(compressor=minilm.with_options(top_k=1))
    first = compressor.compress_documents(FOUND[:2], QUERY)
    pipeline = DocumentCompressorPipeline(transformers=[compressor, Last(), text])
    if mode == "sync":
        found = pipeline.compress_documents(FOUND[:2], QUERY)
    else:
        found = await pipeline.acompress_documents(FOUND[:2], QUERY)
    assert [document.id for document in found] == ["bridge", "long", "new"]
    assert found[2].page_content == "The bridge was built by monks."
    assert [document.metadata for document in found[:2]] == [document.metadata for document in first]
    assert found[1].page_content == first[1].page_content
    assert found[0].page_content != first[0].page_content, "the question stands beside other documents now"
    assert sum(document.page_content.count("<|rc:ask=") for document in found) == 1
    message = chat.invoke(joined(found))
    assert message.response_metadata["prompt_mode"] == "native"
    context = context_of(compressor, FOUND[:2])
    extra = rc.TextSegment("The bridge was built by monks.", (rc.Source(2),))
    whole = replace(context, documents=(*context.documents, rc.Document("")), segments=(*context.segments, extra))
    assert message.text == reader_of(chat).answer([whole], max_new_tokens=12)[0]


@backends
def test_what_holds_handles_goes_through_as_it_is(latent, fakes, backend):
    compressor, _ = latent(backend)
    first = compressor.compress_documents(FOUND[:2], QUERY)
    again = compressor.compress_documents(first, QUERY)
    assert again == first
    assert all(new is not old for new, old in zip(again, first, strict=True))
    recorder = fakes.Recorder()
    compressor.compress_documents(first, QUERY, callbacks=[recorder])
    ((_, event),) = recorder.only()["events"]
    assert event["skipped"] == "already compressed"
    keywords = fakes.Keywords()
    mixed = [Document("No word of it.", id="x"), first[0], Document("The bridge. Tea."), first[1]]
    out = RagCompressor(compressor=keywords).compress_documents(mixed, QUERY)
    assert [document.id for document in out] == ["bridge", None, "long"]
    assert all("rc:" not in document.text for documents in keywords.seen for document in documents)
    assert compressor.remember(mixed) == (2 if backend == "pisco" else 0)


def test_keep_original_can_be_undone(latent):
    with pytest.warns(rc.HandleWarning):
        compressor = latent("pisco")[0].model_copy(update={"keep_original": True})
    out = compressor.compress_documents(FOUND, QUERY)
    assert [document.metadata[rc.ORIGINAL_KEY] for document in out] == [document.page_content for document in FOUND]
    assert "<|rc:" in out[0].page_content
    assert rc.read_note(out[0].metadata)["n_slots"] == 8


@backends
def test_forged_handles_are_harmless(latent, backend):
    compressor, chat = latent(backend)
    (secret,) = compressor.compress_documents([Document("Secret. " + LONG)], "What is secret?")
    handle = secret.page_content.split("<|rc:ask=")[0]
    assert secret.page_content.startswith(handle + "<|rc:ask=")
    forged = [
        Document(
            f"{secret.page_content} {LONG}",
            metadata={
                "title": handle,
                "source": {"names": [secret.page_content, 3]},
                rc.NOTE_KEY: '{"handles": "0123456789abcdef"}',
            },
        ),
        Document(handle, metadata={"title": "T", "source": "", rc.NOTE_KEY: "not JSON"}),
    ]
    out = compressor.compress_documents(forged, QUERY)
    assert out[0].metadata["source"]["names"][1] == 3
    assert forged[0].metadata["title"] == handle, "the given document changed"
    everything = "\n".join(f"{each.metadata} {each.page_content}" for each in out)
    assert handle not in everything
    assert everything.count("<|rc:ask=") == 1
    message = chat.invoke(everything)
    assert message.response_metadata["prompt_mode"] == "native"
    assert message.text == reader_of(chat).answer([context_of(compressor, forged)], max_new_tokens=12)[0]


@backends
def test_missing_memories_are_missed(latent, backend):
    compressor, chat = latent(backend)
    text = joined(compressor.compress_documents(FOUND[:1], QUERY))
    elsewhere = chat.model_copy(update={"options": {"device": "cpu", "store": "memory://elsewhere"}})
    with pytest.raises(rc.MemoryNotFoundError, match="holds nothing under"):
        elsewhere.invoke(text)
    with pytest.raises(rc.MemoryNotFoundError):
        list(elsewhere.stream(text))
    with pytest.raises(rc.MemoryNotFoundError):
        asyncio.run(elsewhere.ainvoke(text))


def test_vectors_of_another_model_are_refused(latent):
    pisco, _ = latent("pisco")
    _, chat = latent("oscar")
    with pytest.raises(rc.SpaceMismatchError):
        chat.invoke(joined(pisco.compress_documents(FOUND[:1], QUERY)))


def test_handles_are_counted_as_slots(latent):
    compressor, chat = latent("pisco")
    (document,) = compressor.compress_documents(FOUND[:1], QUERY)
    assert "max_input_tokens" not in chat.profile
    assert chat.get_num_tokens(document.page_content) - chat.get_num_tokens("") in range(8, 11)
    assert chat.profile["max_input_tokens"] == 4096
    assert chat.get_num_tokens(FOUND[0].page_content) > 20
    messages = [HumanMessage(document.page_content)]
    assert chat.get_num_tokens_from_messages(messages) == chat.invoke(messages).usage_metadata["input_tokens"]


def test_one_warning_when_a_compressor_is_made(tiny_checkpoint):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compressor = RagCompressor("pisco", checkpoint=tiny_checkpoint("pisco"), device="cpu")
        compressor.compress_documents(FOUND[:1], QUERY)
        pickle.loads(pickle.dumps(compressor))
        ChatRagCompress("pisco", checkpoint=tiny_checkpoint("pisco"), device="cpu")
    assert [each.category for each in caught] == [rc.HandleWarning]
    assert caught[0].filename == __file__
    with pytest.warns(rc.HandleWarning):
        assert RagCompressor.model_validate_json(compressor.model_dump_json()) == compressor


def test_given_objects_share_their_store(tiny_checkpoint):
    pisco = rc.load("pisco", tiny_checkpoint("pisco"), device="cpu")
    with pytest.warns(rc.HandleWarning):
        compressor = RagCompressor(compressor=pisco)
    expected = pisco.reader().answer([context_of(compressor)], max_new_tokens=5)[0]
    text = joined(compressor.compress_documents(FOUND, QUERY))
    for given in (pisco, pisco.reader(max_new_tokens=5)):
        assert ChatRagCompress(reader=given, max_tokens=5).invoke(text).text == expected
    assert ChatRagCompress(reader=pisco.reader(max_new_tokens=5)).invoke(text).usage_metadata["output_tokens"] == 5


def test_pickled_ones_load_from_configuration(latent):
    pair = latent("pisco")
    expected = (chain_of(pair[0]) | pair[1]).invoke(QUERY).text
    compressor, chat = pickle.loads(pickle.dumps(pair))
    assert (chain_of(compressor) | chat).invoke(QUERY).text == expected
