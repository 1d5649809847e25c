"""The LLM class by itself: messages, options, responses, streams, threads, settings."""

import asyncio
import copy
import gc
import json
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.llms import LLM, ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.prompts import ChatPromptTemplate
from llama_index.postprocessor.ragcompress import RagCompressLLM, RagCompressLLMError
from llama_index_fakes import KeepMatching, Scripted
from pydantic import ValidationError

import ragcompress as rc

WAYS = pytest.mark.parametrize(
    "way",
    [
        "complete",
        "chat",
        "stream_complete",
        "stream_chat",
        "acomplete",
        "achat",
        "astream_complete",
        "astream_chat",
    ],
)
SETTINGS = {
    "checkpoint": "some/checkpoint",
    "options": {"titles": "ignore"},
    "max_new_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 3,
    "stop": ["END"],
    "prompt_mode": "verbatim",
    "context_window": 1000,
    "system_prompt": "Be kind.",
    "store": "memory://settings",
}


def text_of(response):
    return response.message.content if hasattr(response, "message") else response.text


async def ask(llm, way, prompt="Is it?", **options):
    """All responses, one unless it is a stream."""
    given = [ChatMessage(role="user", content=prompt)] if way.endswith("chat") else prompt
    result = getattr(llm, way)(given, **options)
    if way.startswith("a"):
        result = await result
    if "astream" in way:
        return [each async for each in result]
    return list(result) if "stream" in way else [result]


@pytest.fixture
def llm():
    return RagCompressLLM(reader=Scripted(), max_new_tokens=50)


def reader_of(llm):
    return llm._adapter.reader


class TestAnswers:
    @WAYS
    async def test_every_way_says_the_same(self, llm, way):
        responses = await ask(llm, way)
        assert text_of(responses[-1]) == "Well, yes."
        if "stream" in way:
            assert [response.delta for response in responses] == ["Well", ", ", "yes.", ""]
            assert [text_of(response) for response in responses] == ["Well", "Well, ", "Well, yes.", "Well, yes."]
        assert responses[-1].raw == {
            "n_prompt_slots": 7,
            "n_new_tokens": 3,
            "truncated": False,
            "finish_reason": "stop",
            "prompt_mode": "verbatim",
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
        assert responses[-1].additional_kwargs == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        responses[-1].model_dump_json()
        if way.endswith("chat"):
            assert responses[-1].message.role == MessageRole.ASSISTANT

    @WAYS
    async def test_the_real_reader(self, latent, way):
        llm = RagCompressLLM(reader=latent, max_new_tokens=12)
        expected = latent.reader().complete([{"role": "user", "content": "Is it?"}], max_new_tokens=12)
        responses = await ask(llm, way)
        assert text_of(responses[-1]) == expected
        assert responses[-1].raw["prompt_mode"] == "verbatim"
        assert responses[-1].raw["finish_reason"] == "length"
        assert responses[-1].additional_kwargs["completion_tokens"] == 12

    def test_a_prompt_is_a_message_unless_it_is_formatted(self, llm):
        llm.complete("Is it?")
        llm.complete("[INST] Is it? [/INST]", formatted=True)
        llm.complete(prompt="Is it?")
        message = [{"role": "user", "content": "Is it?"}]
        assert reader_of(llm).requests == [message, "[INST] Is it? [/INST]", message]

    def test_roles_and_blocks(self, llm):
        roles = ("system", "user", "assistant", "tool", "chatbot", "model", "developer", "function")
        llm.chat([ChatMessage(role=role, content="x") for role in roles])
        (asked,) = reader_of(llm).requests
        assert [message["role"] for message in asked] == [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
            "assistant",
            "developer",
            "function",
        ]
        llm.chat([ChatMessage(blocks=[TextBlock(text="one"), TextBlock(text="two")]), ChatMessage(blocks=[])])
        assert reader_of(llm).requests[-1] == [
            {"role": "user", "content": "one\ntwo"},
            {"role": "user", "content": ""},
        ]

    def test_roles_reach_the_real_model(self, pisco):
        llm = RagCompressLLM(reader=pisco, max_new_tokens=2)
        llm.chat([ChatMessage(role=role, content="x") for role in ("developer", "user", "model", "tool")])

    async def test_other_blocks_are_refused(self, llm):
        messages = [ChatMessage(content="a"), ChatMessage(blocks=[ImageBlock(url="http://example.org/a.png")])]
        with pytest.raises(rc.InputTypeError, match=r"messages\[1\] holds a ImageBlock"):
            llm.chat(messages)
        with pytest.raises(rc.InputTypeError, match="ImageBlock"):
            await llm.astream_chat(messages)

    def test_predict_puts_the_system_prompt_in_front(self):
        llm = RagCompressLLM(reader=Scripted(), system_prompt="Be kind.")
        assert llm.predict(ChatPromptTemplate.from_messages([("user", "{x}?")]), x="Is it") == "Well, yes."
        assert reader_of(llm).requests == [
            [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Is it?"}]
        ]


class TestOptions:
    @WAYS
    async def test_of_a_call(self, llm, way):
        await ask(llm, way, max_tokens=5, temperature=0.7, top_p=0.5, stop=["x"], seed=1, prompt_mode="verbatim")
        assert reader_of(llm).options == [
            {
                "max_new_tokens": 5,
                "temperature": 0.7,
                "prompt_mode": "verbatim",
                "top_p": 0.5,
                "stop": ["x"],
                "seed": 1,
            }
        ]

    def test_what_is_none_was_not_said(self, llm):
        llm.complete("x", stop=None, temperature=None, max_new_tokens=None)
        assert reader_of(llm).options == [{"max_new_tokens": 50, "temperature": 0.0, "prompt_mode": "auto"}]

    @WAYS
    async def test_unknown_or_out_of_range(self, pisco, way):
        llm = RagCompressLLM(reader=pisco)
        # Neither is a ValueError, which LlamaIndex would take for an answer.
        with pytest.raises(RagCompressLLMError, match="unknown option 'temprature'; known, closest first"):
            await ask(llm, way, temprature=1)
        with pytest.raises(RagCompressLLMError, match="temperature") as raised:
            await ask(llm, way, temperature=-1)
        assert not isinstance(raised.value, ValueError)
        assert isinstance(raised.value.__cause__, rc.OptionError)

    def test_two_names_of_one_limit(self, pisco):
        assert RagCompressLLM(reader=pisco, max_tokens=4).complete("Is it?").raw["n_new_tokens"] == 4

    def test_stop_strings_and_length(self, pisco):
        whole = RagCompressLLM(reader=pisco, max_new_tokens=12).complete("Is it?").text
        stop = whole[4:6]
        llm = RagCompressLLM(reader=pisco, max_new_tokens=12, stop=stop)
        found = llm.complete("Is it?")
        assert (found.text, found.raw["finish_reason"]) == (whole[: whole.index(stop)], "stop")
        assert llm.complete("Is it?", stop="never").text == whole
        assert llm.complete("Is it?", stop=["never"], max_tokens=3).raw["n_new_tokens"] == 3

    def test_seeds(self, pisco):
        llm = RagCompressLLM(reader=pisco, max_new_tokens=12, temperature=1.0, seed=7)
        assert llm.complete("Is it?").text == llm.complete("Is it?").text != llm.complete("Is it?", seed=8).text

    def test_wrong_settings(self):
        for wrong in (
            {"temperature": -1},
            {"max_new_tokens": 0},
            {"prompt_mode": "loud"},
            {"top_p": 2},
            {"stop": [""]},
        ):
            with pytest.raises(rc.OptionError, match=next(iter(wrong))):
                RagCompressLLM(checkpoint="x", **wrong)
        with pytest.raises(rc.OptionError, match="unknown option 'titel'"):
            RagCompressLLM(checkpoint="x", titel="ignore")
        with pytest.raises(rc.OptionError, match="makes text, which any LLM reads"):
            RagCompressLLM("recomp-extractive")
        with pytest.raises(rc.OptionError, match="makes text, which any LLM reads"):
            RagCompressLLM(reader=KeepMatching())
        with pytest.raises(rc.OptionError, match="give either"):
            RagCompressLLM(reader=Scripted(), device="cpu")
        with pytest.raises(rc.UnknownBackendError, match="'pisco'"):
            RagCompressLLM("pisko")


class TestMetadata:
    def test_of_a_reader(self, pisco):
        metadata = RagCompressLLM(reader=pisco, max_new_tokens=33).metadata
        assert (metadata.context_window, metadata.num_output, metadata.is_chat_model) == (4096, 33, True)
        assert metadata.model_name == pisco.reader().name
        assert metadata.is_function_calling_model is False
        assert RagCompressLLM(reader=pisco, context_window=100).metadata.context_window == 100

    def test_counting(self, pisco):
        llm = RagCompressLLM(reader=pisco)
        handle = pisco.compress("x", ["A document that is long enough to become vectors, and so it does."]).text
        assert handle.startswith("<|rc:")
        (marked,) = rc.attach_question("Is it?", [handle])
        assert llm.count_tokens("") == 0
        assert llm.count_tokens("a b c") == 3
        # Eight slots and the separator that the model wants behind them.
        assert llm.count_tokens(handle) == llm.count_tokens(marked) == 9
        assert llm.count_tokens(f"a {marked} b") == 11
        assert len(llm.tokenize(f"a {marked} b")) == 11

    def test_nothing_is_loaded_early(self, monkeypatch):
        def load(*args, **kwargs):
            raise AssertionError("loaded")

        monkeypatch.setattr("ragcompress.reader_adapter.load", load)
        llm = RagCompressLLM(**SETTINGS)
        assert llm.metadata.context_window == 1000
        assert llm.metadata.model_name == "some/checkpoint"
        assert RagCompressLLM(checkpoint="x").to_payload() == {
            "class_name": "RagCompressLLM",
            "model_name": "x",
            "is_chat_model": True,
            "max_new_tokens": 256,
            "temperature": 0.0,
            "prompt_mode": "auto",
        }
        llm.to_json()
        pickle.loads(pickle.dumps(llm))
        with pytest.raises(AssertionError, match="loaded"):
            llm.complete("x")

    def test_importing_loads_no_torch(self):
        module = "llama_index.postprocessor.ragcompress.llm"
        program = f"import sys, {module}; assert 'torch' not in sys.modules, 'torch'"
        subprocess.run([sys.executable, "-c", program], check=True)


class TestInstrumentation:
    @WAYS
    async def test_events_and_spans(self, llm, way, recorder):
        spans = SimpleSpanHandler()
        get_dispatcher().add_span_handler(spans)
        try:
            await ask(llm, way)
        finally:
            get_dispatcher().span_handlers.remove(spans)
        names = [type(event).__name__ for event in recorder.events]
        kind = "Chat" if way.endswith("chat") else "Completion"
        assert names[0] == f"LLM{kind}StartEvent"
        assert names[-1] == f"LLM{kind}EndEvent"
        assert names.count(f"LLM{kind}InProgressEvent") == (4 if "stream" in way else 0)
        assert f"RagCompressLLM.{way}" in {span.id_.split("-")[0] for span in spans.completed_spans}

    def test_callback_handlers(self):
        debug, tokens = LlamaDebugHandler(print_trace_on_end=False), TokenCountingHandler()
        llm = RagCompressLLM(reader=Scripted(), callback_manager=CallbackManager([debug, tokens]))
        llm.chat([ChatMessage(content="Is it?")])
        list(llm.stream_complete("Is it?"))
        assert len(debug.get_llm_inputs_outputs()) == 2
        assert (tokens.prompt_llm_token_count, tokens.completion_llm_token_count) == (14, 6)


class TestAsync:
    async def ticks_during(self, work):
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        result = await work
        ticking.cancel()
        return ticks, result

    @pytest.mark.parametrize("way", ["acomplete", "achat", "astream_complete", "astream_chat"])
    async def test_the_loop_goes_on(self, way):
        llm = RagCompressLLM(reader=Scripted(seconds=0.1))
        ticks, responses = await self.ticks_during(ask(llm, way))
        assert ticks > 10
        assert text_of(responses[-1]) == "Well, yes."

    async def test_several_at_once(self):
        llm = RagCompressLLM(reader=Scripted(seconds=0.05))
        found = await asyncio.gather(*(ask(llm, "astream_chat") for _ in range(5)))
        assert [text_of(each[-1]) for each in found] == ["Well, yes."] * 5

    async def test_pieces_come_as_they_are_made(self):
        stream = await RagCompressLLM(reader=Scripted(["a"] * 20, seconds=0.02)).astream_complete("x")
        begin = asyncio.get_running_loop().time()
        assert (await anext(stream)).delta == "a"
        assert asyncio.get_running_loop().time() - begin < 0.2
        await stream.aclose()

    @pytest.mark.parametrize("way", ["astream_chat", "stream_chat"])
    async def test_whoever_stops_listening_stops_the_model(self, way):
        llm = RagCompressLLM(reader=Scripted(["a"] * 1000, seconds=0.005))
        stream = getattr(llm, way)([ChatMessage(content="x")])
        if way.startswith("a"):
            stream = await stream
            await anext(stream)
            await stream.aclose()
        else:
            next(stream)
            stream.close()
        del stream
        gc.collect()
        assert await asyncio.to_thread(reader_of(llm).closed.wait, 2)

    @pytest.mark.parametrize("way", ["stream_complete", "astream_complete"])
    async def test_failures_on_the_way(self, way):
        llm = RagCompressLLM(reader=Scripted(["a", "b", "c"], fail_at=1))
        with pytest.raises(rc.CheckpointError, match="the weights are gone"):
            await ask(llm, way)
        assert reader_of(llm).closed.is_set()

    @WAYS
    async def test_missing_memories(self, pisco, way):
        llm = RagCompressLLM(reader=pisco)
        with pytest.raises(rc.MemoryNotFoundError):
            await ask(llm, way, "Read <|rc:0123456789abcdef:8|>.")


def test_eight_threads(latent):
    """One model, several conversations at once: each gets what it would get alone."""
    llm = RagCompressLLM(reader=latent, max_new_tokens=8)
    texts = [f"Fact {n}: the harbour of town {n} is {n * 7} metres long and {n} metres deep." for n in range(8)]
    prompts = []
    for text in texts:
        prompts += rc.attach_question(f"How long is {text[:8]}?", [latent.compress(text[:8], [text]).text])
    alone = [llm.complete(prompt).text for prompt in prompts]
    assert len(set(alone)) > 4
    barrier = threading.Barrier(8)

    def together(prompt):
        barrier.wait()
        first = llm.complete(prompt).text
        return first, "".join(each.delta for each in llm.stream_complete(prompt))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(together, prompts)) == [(each, each) for each in alone]


class TestSettings:
    def test_kind(self):
        assert issubclass(RagCompressLLM, LLM)
        assert RagCompressLLM.class_name() == "RagCompressLLM"

    def test_defaults(self):
        assert RagCompressLLM(checkpoint="x").to_dict() == {
            "backend": "pisco",
            "checkpoint": "x",
            "options": {"store": "memory://ragcompress"},
            "max_new_tokens": 256,
            "temperature": 0.0,
            "top_p": None,
            "seed": None,
            "stop": [],
            "prompt_mode": "auto",
            "context_window": None,
            "system_prompt": None,
            "pydantic_program_mode": "default",
            "class_name": "RagCompressLLM",
        }

    @pytest.mark.parametrize(
        "path", ["to_dict", "to_json", "model_dump_json", "model_dump", "pickle", "copy", "deepcopy"]
    )
    def test_round_trips(self, path):
        llm = RagCompressLLM(**SETTINGS)
        back = {
            "to_dict": lambda: RagCompressLLM.from_dict(llm.to_dict()),
            "to_json": lambda: RagCompressLLM.from_json(llm.to_json()),
            "model_dump_json": lambda: RagCompressLLM.model_validate_json(llm.model_dump_json()),
            "model_dump": lambda: RagCompressLLM(**llm.model_dump(mode="json")),
            "pickle": lambda: pickle.loads(pickle.dumps(llm)),
            "copy": lambda: copy.copy(llm),
            "deepcopy": lambda: copy.deepcopy(llm),
        }[path]()
        assert type(back) is RagCompressLLM
        assert back.to_dict() == llm.to_dict()
        assert back._adapter.configuration() == llm._adapter.configuration()
        assert back._adapter.generation == llm._adapter.generation

    def test_fixed(self):
        llm = RagCompressLLM(**SETTINGS)
        for name in ("backend", "temperature", "options", "stop"):
            with pytest.raises(ValidationError, match="frozen"):
                setattr(llm, name, getattr(llm, name))
        llm.callback_manager = CallbackManager()

    def test_changed_copies(self):
        llm = RagCompressLLM(**SETTINGS)
        llm.messages_to_prompt = str
        copied = llm.model_copy(update={"temperature": 0.1})
        assert copied.to_dict() == {**llm.to_dict(), "temperature": 0.1}
        assert copied._adapter.generation["temperature"] == 0.1
        assert copied.messages_to_prompt is str
        hand = RagCompressLLM(reader=Scripted())
        assert hand.model_copy(update={"temperature": 0.1}).complete("x").text == "Well, yes."

    def test_built_by_hand(self):
        llm = RagCompressLLM(reader=Scripted())
        assert llm.to_dict()["reader"] == "Scripted scripted scripted"
        with pytest.raises(rc.OptionError, match="built by hand"):
            llm.to_json()
        with pytest.raises(ValueError, match="built by hand"):
            llm.model_dump_json()

    def test_callback_handlers_stay_behind(self):
        handler = LlamaDebugHandler(print_trace_on_end=False)
        handler.unpicklable = lambda: None
        llm = RagCompressLLM(checkpoint="x", callback_manager=CallbackManager([handler]))
        assert pickle.loads(pickle.dumps(llm)).callback_manager.handlers == []

    def test_options_are_json(self):
        assert json.loads(RagCompressLLM(**SETTINGS).to_json())["options"] == {
            "store": "memory://settings",
            "titles": "ignore",
        }
        with pytest.raises(rc.OptionError, match="memory://NAME"):
            RagCompressLLM(checkpoint="x", store=rc.InMemoryStore()).to_json()
