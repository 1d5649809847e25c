"""Many calls at once, caches, callbacks and the event loop, on small random models."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, get_usage_metadata_callback
from langchain_core.documents import Document
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import HumanMessage
from langchain_ragcompress import ChatRagCompress

import ragcompress as rc

QUERY = "Who built the bridge?"
TEXTS = [f"The bridge number {n} was built by monks in the year of the war, as it is said by many." for n in range(8)]


@pytest.fixture
def cache():
    before = get_llm_cache()
    set_llm_cache(InMemoryCache())
    yield get_llm_cache()
    set_llm_cache(before)


def prompt_of(compressor, text, query=QUERY):
    (document,) = compressor.compress_documents([Document(text)], query)
    return f"{document.page_content}\n\n{query}"


@pytest.fixture
def generated(monkeypatch):
    """How often a model has really been asked."""
    counted = itertools.count()
    original = ChatRagCompress._generate

    def generate(self, *args, **kwargs):
        next(counted)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(ChatRagCompress, "_generate", generate)
    return lambda: int(repr(counted)[6:-1])


@pytest.mark.parametrize("backend", ["pisco", "oscar"])
def test_langchains_cache_never_confuses_vectors(latent, cache, generated, backend):
    compressor, chat = latent(backend, prompt_mode="verbatim")
    prompts = [prompt_of(compressor, text) for text in TEXTS[:3]]
    # What a person would read is the same; only the handles differ.
    assert len({prompt.split("|>")[-1] for prompt in prompts}) == 1
    answers = [chat.invoke(prompt).text for prompt in prompts]
    assert len(set(answers)) == len(answers)
    assert generated() == 3
    assert [chat.invoke(prompt).text for prompt in prompts] == answers
    assert generated() == 3, "the cache was not used"
    if backend == "oscar":  # the question is in the vectors, too
        assert chat.invoke(prompt_of(compressor, TEXTS[0], "When was it built?").replace("When was it built?", QUERY))
        assert generated() == 4


def test_langchains_cache_never_confuses_models(latent, cache, generated, tiny_checkpoint):
    compressor, chat = latent("pisco")
    prompt = prompt_of(compressor, TEXTS[0])
    other = chat.model_copy(update={"checkpoint": str(tiny_checkpoint("pisco", 1))})
    assert reader_space(chat) == reader_space(other), "the premise of this test: the handles are good for both"
    answer = chat.invoke(prompt).text
    assert other.invoke(prompt).text != answer
    assert chat.invoke(prompt, model=other.checkpoint).text == other.invoke(prompt).text
    assert chat.invoke(prompt, max_tokens=3).text != answer
    by_hand = [ChatRagCompress(reader=each._adapter.reader, max_tokens=12) for each in (chat, other)]
    assert by_hand[0].invoke(prompt).text == answer
    assert by_hand[1].invoke(prompt).text == other.invoke(prompt).text != answer
    assert generated() == 6
    assert by_hand[0].invoke(prompt).text == answer
    assert ChatRagCompress.model_validate_json(chat.model_dump_json()).invoke(prompt).text == answer
    assert generated() == 6


def reader_space(chat):
    return chat._adapter.reader.space


def test_another_model_for_one_call(latent, tiny_checkpoint):
    compressor, chat = latent("pisco")
    prompt = prompt_of(compressor, TEXTS[0])
    other = str(tiny_checkpoint("pisco", 1))
    message = chat.invoke(prompt, model=other)
    assert message.response_metadata["model_name"] == other
    assert message.text != chat.invoke(prompt, model=chat.checkpoint).text == chat.invoke(prompt).text
    with pytest.raises(rc.CheckpointError):
        chat.invoke(prompt, model="/nowhere")


@pytest.mark.parametrize("backend", ["pisco", "oscar"])
async def test_many_at_once_give_the_same(latent, backend):
    compressor, chat = latent(backend)

    def answer(text):
        return chat.invoke(prompt_of(compressor, text)).text

    expected = [answer(text) for text in TEXTS]
    assert len(set(expected)) > len(TEXTS) / 2
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, TEXTS)) == expected
        prompts = [prompt_of(compressor, text) for text in TEXTS]
        assert list(pool.map(lambda prompt: "".join(c.text for c in chat.stream(prompt)), prompts)) == expected
    assert [message.text for message in chat.batch(prompts, {"max_concurrency": 8})] == expected
    assert [message.text for message in await chat.abatch(prompts)] == expected


def test_eight_threads_load_one_model(latent, monkeypatch):
    loaded = []
    original = rc.load

    def load(*args, **kwargs):
        loaded.append(threading.get_ident())
        return original(*args, **kwargs)

    monkeypatch.setattr("ragcompress.reader_adapter.load", load)
    _, chat = latent("pisco")
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: chat.invoke("hi").text, range(8)))) == 1
    assert len(loaded) == 1


@pytest.mark.parametrize("way", ["ainvoke", "astream"])
async def test_event_loop_goes_on(latent, monkeypatch, way):
    _, chat = latent("pisco", max_tokens=64)
    ticks = 0
    loading = []
    original = rc.load

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    def load(*args, **kwargs):
        time.sleep(0.3)
        loading.append((threading.get_ident(), ticks))
        return original(*args, **kwargs)

    monkeypatch.setattr("ragcompress.reader_adapter.load", load)
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0.02)
    if way == "ainvoke":
        await chat.ainvoke("Hello")
    else:
        assert len([chunk async for chunk in chat.astream("Hello")]) > 10
    ticking.cancel()
    ((thread, ticks_while_loading),) = loading
    assert thread != threading.get_ident()
    assert ticks_while_loading >= 6
    assert ticks - ticks_while_loading >= 3


class Tokens(BaseCallbackHandler):
    def __init__(self):
        self.tokens = []
        self.ended = []

    def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        assert chunk.message.text == token
        self.tokens.append(token)

    def on_llm_end(self, response, **kwargs):
        self.ended.append(response.generations[0][0].message)


class AsyncTokens(AsyncCallbackHandler):
    def __init__(self):
        self.sync = Tokens()

    async def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        self.sync.on_llm_new_token(token, chunk=chunk)

    async def on_llm_end(self, response, **kwargs):
        self.sync.on_llm_end(response)


async def test_callbacks_see_tokens(latent):
    _, chat = latent("pisco")
    expected = chat.invoke("Hello").text
    streaming = chat.model_copy(update={"streaming": True})
    for handler, call in (
        (Tokens(), lambda config: list(chat.stream("Hello", config))),
        (Tokens(), lambda config: streaming.invoke("Hello", config)),
        (Tokens(), lambda config: list(chat.stream_events("Hello", config, version="v3"))),
    ):
        call({"callbacks": [handler]})
        assert len(handler.tokens) > 3
        assert "".join(handler.tokens) == expected
    handler = AsyncTokens()
    async for _ in chat.astream("Hello", {"callbacks": [handler]}):
        pass
    assert "".join(handler.sync.tokens) == expected
    (message,) = handler.sync.ended
    assert message.usage_metadata["output_tokens"] > 0


def test_usage_is_added_up_by_model(latent):
    _, chat = latent("pisco")
    with get_usage_metadata_callback() as usage:
        first, second = chat.invoke("Hello"), chat.invoke("Hello there")
    total = first.usage_metadata["total_tokens"] + second.usage_metadata["total_tokens"]
    assert usage.usage_metadata[chat.checkpoint]["total_tokens"] == total


async def test_cancelling_stops_the_work(latent):
    _, chat = latent("pisco", max_tokens=2000)
    await chat.ainvoke("Hello", max_tokens=1)

    async def read():
        async for _ in chat.astream("Hello"):
            pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    begin = time.perf_counter()
    while any(thread.name == "ragcompress-stream" for thread in threading.enumerate()):
        assert time.perf_counter() - begin < 2, "the model writes on, though nobody listens"
        await asyncio.sleep(0.01)


def test_sampling_is_repeatable_with_a_seed(latent):
    _, chat = latent("pisco", temperature=1.0, seed=3)
    assert chat.invoke("Hello").text == chat.invoke("Hello").text
    assert chat.invoke("Hello").text != chat.invoke("Hello", seed=4).text
    assert chat.invoke([HumanMessage("Hello")], temperature=0).text == chat.invoke("Hello", temperature=0, seed=9).text


def test_stop_strings_end_an_answer(latent):
    _, chat = latent("pisco")
    whole = chat.invoke("Hello").text
    stop = whole[len(whole) // 2 :][:2]
    message = chat.invoke("Hello", stop=[stop])
    assert message.text == whole[: whole.index(stop)]
    assert message.response_metadata["finish_reason"] == "stop"
    assert "".join(chunk.text for chunk in chat.stream("Hello", stop=[stop])) == message.text
