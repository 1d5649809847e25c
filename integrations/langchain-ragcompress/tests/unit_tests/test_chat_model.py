"""Construction, JSON, pickling, copying; arguments of a call; messages. Readers here are written down, not loaded."""

import asyncio
import copy
import pickle
import time

import pytest
from langchain_core.load import dumpd, load
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.runnables import ConfigurableField
from langchain_ragcompress import ChatRagCompress
from langchain_ragcompress.messages import to_request
from pydantic import ValidationError

import ragcompress as rc


class Echo(rc.Reader):
    """Says what it was asked, and writes down how."""

    space = "echo@1"
    name = "echo"
    window = 77

    def __init__(self):
        self.calls = []

    def inputs(self, contexts):
        raise NotImplementedError

    def generate(self, requests, **options):
        self.calls.append(options)
        return [rc.Answer(request[-1]["content"], 7, 3, True, 2, "length", "verbatim") for request in requests]

    def stream(self, request, **options):
        self.calls.append(options)
        yield from request[-1]["content"].split()
        return rc.Answer("", 7, 3, prompt_mode="native")

    def count(self, request, *, prompt_mode=None):
        return 1 + len(request.split()) if isinstance(request, str) else 5


class Slow(Echo):
    def generate(self, requests, **options):
        time.sleep(0.3)
        return super().generate(requests, **options)

    def stream(self, request, **options):
        for piece in super().stream(request, **options):
            time.sleep(0.1)
            yield piece
        return rc.Answer("", 7, 3)


def never(*args, **kwargs):
    raise AssertionError("something was loaded")


def test_nothing_is_loaded(monkeypatch):
    monkeypatch.setattr("ragcompress.reader_adapter.load", never)
    chat = ChatRagCompress("oscar", checkpoint="naver/oscar-mistral-7B", device="cpu")
    assert (chat.backend, chat.checkpoint) == ("oscar", "naver/oscar-mistral-7B")
    assert chat.options == {"device": "cpu", "store": "memory://ragcompress"}
    assert chat.profile["text_inputs"]
    assert not chat.profile["tool_calling"]
    assert "naver/oscar-mistral-7B" in repr(chat)
    dumpd(chat)
    chat._get_llm_string()


def test_model_is_the_checkpoint():
    assert ChatRagCompress(model="a/b") == ChatRagCompress(checkpoint="a/b") == ChatRagCompress("pisco", model="a/b")
    assert ChatRagCompress(model="a/b").model_name == "a/b"
    with pytest.raises(rc.OptionError, match="two names of one thing"):
        ChatRagCompress(model="a/b", checkpoint="c")


def test_json_and_langchain_round_trip():
    chat = ChatRagCompress("oscar", model="a/b", temperature=0.5, stop="END", prompt_mode="native", device="cpu")
    assert chat.stop == ["END"]
    assert ChatRagCompress.model_validate_json(chat.model_dump_json()) == chat
    with pytest.warns(Warning, match="beta"):
        restored = load(dumpd(chat), allowed_objects=[ChatRagCompress], valid_namespaces=["langchain_ragcompress"])
    assert restored == chat
    assert restored.asdict() == chat.asdict()
    assert restored != ChatRagCompress("oscar", model="a/b", temperature=0.5, device="cpu")


def test_what_was_built_by_hand_is_not_written():
    chat = ChatRagCompress(reader=Echo())
    assert chat.model_name == "echo"
    assert chat.profile["max_input_tokens"] == 77
    for write in (chat.model_dump_json, chat.model_dump):
        with pytest.raises(ValueError, match="built by hand has no configuration"):
            write()
    assert dumpd(chat)["type"] == "not_implemented"
    assert dumpd(ChatRagCompress(model="a/b", store=rc.InMemoryStore()))["type"] == "not_implemented"
    with pytest.raises(rc.OptionError, match="give either"):
        ChatRagCompress(reader=Echo(), device="cpu")
    with pytest.raises(rc.OptionError, match="built around the reader 'echo'"):
        chat.invoke("hi", model="a/b")
    assert chat.invoke("hi", model="echo").text == "hi"


def test_pickle_and_copies():
    chat = ChatRagCompress(model="a/b", max_tokens=3, device="cpu")
    for restored in (
        pickle.loads(pickle.dumps(chat)),
        copy.deepcopy(chat),
        chat.model_copy(),
        chat.model_copy(deep=True),
    ):
        assert restored == chat
        assert restored._adapter.options == chat.options
    assert chat.model_copy(update={"max_tokens": 4, "checkpoint": "c"}) == ChatRagCompress(
        model="c", max_tokens=4, device="cpu"
    )
    by_hand = ChatRagCompress(reader=Echo(), max_tokens=3)
    assert by_hand != ChatRagCompress(reader=Echo(), max_tokens=3)
    assert by_hand.model_copy(update={"max_tokens": 3}) == by_hand
    assert pickle.loads(pickle.dumps(by_hand)).invoke("hi").text == "hi"
    with pytest.raises(ValidationError, match="frozen"):
        chat.temperature = 1.0


def test_configurable_fields():
    reader = Echo()
    chat = ChatRagCompress(reader=reader).configurable_fields(max_tokens=ConfigurableField("length"))
    assert chat.invoke("hi", {"configurable": {"length": 4}}).text == "hi"
    assert reader.calls == [{"max_new_tokens": 4}]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"backend": "piscco"}, "closest first: 'pisco'"),
        ({"backend": "recomp-extractive"}, "no reader of its own"),
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_new_tokens"),
        ({"prompt_mode": "nativ"}, "closest first: 'native'"),
        ({"timeout": 0}, "timeout"),
        ({"divice": "cpu"}, "unknown option 'divice'.*'device'"),
        ({"stop": [""]}, "stop"),
    ],
)
def test_wrong_values_are_refused_at_construction(wrong, message):
    with pytest.raises(rc.OptionError, match=message):
        ChatRagCompress(**wrong)


def test_options_of_a_call_win():
    reader = Echo()
    chat = ChatRagCompress(reader=reader, temperature=0.5, max_tokens=9, stop=["a"], prompt_mode="verbatim")
    chat.invoke("hi")
    chat.invoke("hi", stop=["b", "c"], temperature=0, max_tokens=2, top_p=0.9, seed=1, repetition_penalty="base")
    chat.bind(max_tokens=None, prompt_mode="auto").invoke("hi", stop=[])
    assert reader.calls == [
        {"temperature": 0.5, "max_new_tokens": 9, "stop": ["a"], "prompt_mode": "verbatim"},
        {
            "temperature": 0,
            "max_new_tokens": 2,
            "stop": ("b", "c"),
            "prompt_mode": "verbatim",
            "top_p": 0.9,
            "seed": 1,
            "repetition_penalty": "base",
        },
        {"temperature": 0.5, "max_new_tokens": 9, "stop": (), "prompt_mode": "auto"},
    ]


def test_tools_are_refused():
    chat = ChatRagCompress(reader=Echo())
    with pytest.raises(rc.OptionError, match="call no tools"):
        chat.invoke("hi", tools=[{"name": "f"}])
    with pytest.raises(NotImplementedError):
        chat.bind_tools([])


def test_what_lands_in_the_message():
    answer = ChatRagCompress(reader=Echo()).invoke("hi")
    assert answer.usage_metadata == {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10}
    assert (
        answer.response_metadata.items()
        >= {
            "model_name": "echo",
            "finish_reason": "length",
            "prompt_mode": "verbatim",
            "truncated": True,
            "n_dropped": 2,
        }.items()
    )


def test_the_last_chunk_says_what_a_message_says():
    *pieces, last = ChatRagCompress(reader=Echo()).stream("one two three")
    assert [piece.text for piece in pieces] == ["one", "two", "three"]
    assert (last.text, last.chunk_position) == ("", "last")
    assert last.usage_metadata["output_tokens"] == 3
    assert last.response_metadata["model_name"] == "echo"
    assert last.response_metadata["finish_reason"] == "stop"


def test_streaming_is_tried_only_when_wanted():
    assert len(list(ChatRagCompress(reader=Echo(), streaming=False).stream("a b"))) == 1
    assert ChatRagCompress(reader=Echo(), streaming=True).invoke("a b").text == "ab"
    assert ChatRagCompress(reader=Echo()).invoke("a b").text == "a b"


async def test_timeout():
    chat = ChatRagCompress(reader=Slow(), timeout=0.05)
    with pytest.raises(rc.CompressionTimeoutError, match=r"echo took longer than timeout=0\.05"):
        chat.invoke("a b c")
    with pytest.raises(rc.CompressionTimeoutError):
        await chat.ainvoke("a b c")
    with pytest.raises(rc.CompressionTimeoutError):
        list(chat.stream("a b c"))
    with pytest.raises(rc.CompressionTimeoutError):
        async for _ in chat.astream("a b c"):
            pass
    assert chat.invoke("a", timeout=5).text == "a"


async def test_leaving_a_stream_ends_it():
    ended = []

    class Leaving(Slow):
        def stream(self, request, **options):
            try:
                yield from super().stream(request, **options)
            finally:
                ended.append(options)

    chat = ChatRagCompress(reader=Leaving())
    stream = chat.stream("a b c d e f")
    next(stream)
    stream.close()
    assert len(ended) == 1
    stream = chat.astream("a b c d e f")
    await anext(stream)
    await stream.aclose()
    for _ in range(50):
        if len(ended) < 2:
            await asyncio.sleep(0.02)
    assert len(ended) == 2


def test_traces_name_the_model():
    chat = ChatRagCompress(model="a/b", temperature=0.5, max_tokens=7, stop=["x"])
    assert chat._get_ls_params() == {
        "ls_provider": "ragcompress",
        "ls_model_type": "chat",
        "ls_model_name": "a/b",
        "ls_temperature": 0.5,
        "ls_max_tokens": 7,
        "ls_stop": ["x"],
    }
    assert chat._get_ls_params(stop=["y"], model="c")["ls_stop"] == ["y"]


def test_whatever_changes_an_answer_changes_the_cache_key():
    changes = [
        {},
        {"device": "cpu"},
        {"store": "memory://other"},
        {"store": rc.InMemoryStore()},
        {"store": rc.InMemoryStore()},
        {"temperature": 0},
        {"max_tokens": 5},
        {"top_p": 0.5},
        {"top_k": 5},
        {"seed": 5},
        {"repetition_penalty": "base"},
        {"stop": ["x"]},
        {"prompt_mode": "verbatim"},
        {"backend": "oscar"},
    ]
    made = [ChatRagCompress(model="a/b", **change) for change in changes]
    made += [ChatRagCompress(model="c"), ChatRagCompress(reader=Echo()), ChatRagCompress(reader=Echo())]
    keys = [chat._get_llm_string() for chat in made]
    keys += [made[0]._get_llm_string(stop=["x"]), made[0]._get_llm_string(temperature=1)]
    assert len(set(keys)) == len(keys)
    assert made[0]._get_llm_string() == ChatRagCompress(model="a/b")._get_llm_string()


def test_messages():
    conversation = [
        SystemMessage("s"),
        HumanMessage(["a", {"type": "text", "text": "b"}]),
        AIMessage("c"),
        ToolMessage("d", tool_call_id="1"),
        FunctionMessage("e", name="f"),
        ChatMessage("g", role="developer"),
    ]
    assert [(each["role"], each["content"]) for each in to_request(conversation)] == [
        ("system", "s"),
        ("user", "ab"),
        ("assistant", "c"),
        ("tool", "d"),
        ("function", "e"),
        ("developer", "g"),
    ]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            HumanMessage([{"type": "image_url", "image_url": "data:,"}]),
            r"messages\[1\] holds a block of type 'image_url'",
        ),
        (ChatMessage("x", role="moderator"), "role 'moderator'"),
        (RemoveMessage(id="1"), "RemoveMessage"),
    ],
)
def test_messages_that_no_reader_understands(message, reason):
    with pytest.raises(rc.InputTypeError, match=reason):
        to_request([HumanMessage("fine"), message])


def test_counting():
    chat = ChatRagCompress(reader=Echo())
    assert chat.get_num_tokens("one two") == 2
    assert chat.get_num_tokens_from_messages([HumanMessage("x")]) == 5
    assert ChatRagCompress(reader=Echo(), custom_get_token_ids=lambda text: [1] * 9).get_num_tokens("x") == 9
    with pytest.raises(NotImplementedError, match="get_num_tokens"):
        chat.get_token_ids("x")
    with pytest.raises(rc.OptionError, match="tools"):
        chat.get_num_tokens_from_messages([HumanMessage("x")], tools=[1])
