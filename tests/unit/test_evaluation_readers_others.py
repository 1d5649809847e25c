"""Readers of latent backends and of frameworks, how a reader is named, and what becomes of those that fail."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.language_models.fake_chat_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from llama_index.core.llms.mock import MockLLM

import ragcompress as rc
from ragcompress.errors import InputError, OptionError, SpaceMismatchError
from ragcompress.evaluation.prompts import short_answer_prompt
from ragcompress.evaluation.readers import (
    ContextReader,
    FrameworkReader,
    HuggingFaceReader,
    MemoryReader,
    OpenAIReader,
    PromptReader,
    Reading,
    as_reader,
    read_each,
)
from ragcompress.testing import tiny
from tests.unit.evaluation_models import byte_tokenizer, context, tiny_llama

LONG = "the river is long and the bridge over it was built by the city in one year of war; " * 2
QUESTIONS = [context(f"Who was it, {index}?") for index in range(7)]


class Failing(ContextReader):
    """Gives the question back, unless it is one that fails."""

    name = "failing"

    def __init__(self, *failing, error=RuntimeError):
        self.failing = {f"Who was it, {index}?" for index in failing}
        self.error = error
        self.calls = []

    def read(self, contexts):
        self.calls.append(len(contexts))
        for each in contexts:
            if each.query in self.failing:
                raise self.error(f"not {each.query}")
        return [Reading(each.query) for each in contexts]


# Latent backends


@pytest.fixture(scope="module")
def pisco():
    return tiny("pisco")


def test_vectors_and_text_are_read_by_the_backend_s_own_reader(pisco):
    own = pisco.reader()
    reader = as_reader(own, max_new_tokens=5)
    contexts = [
        pisco.compress("who?", [LONG, "a bridge"]),
        context("who?", "the river"),
        context("who?"),
    ]
    readings = reader.read(contexts)
    answers = own.generate(contexts, max_new_tokens=5)
    assert [reading.text for reading in readings] == [answer.text for answer in answers]
    assert [reading.n_prompt_tokens for reading in readings] == [answer.n_prompt_slots for answer in answers]
    assert all(reading.n_new_tokens <= 5 and reading.total_ms > 0 for reading in readings)
    assert reader.read([]) == []
    assert (reader.name, reader.settings()["space"]) == (own.name, own.space)
    decoder = own.model.decoder.model
    assert reader.n_parameters == decoder.model.num_parameters() - decoder.get_input_embeddings().weight.numel()


def test_a_latent_reader_counts_in_its_own_vocabulary_without_what_stands_around_a_text(pisco):
    reader = MemoryReader(pisco.reader())
    text = "the river is long"
    assert reader.token_counter("") == 0
    assert reader.token_counter(text) == pisco.token_counter(text)
    assert MemoryReader(pisco.reader(), token_counter="words").token_counter(text) == 4


def test_a_latent_reader_reads_lone_surrogates(pisco):
    contexts = [pisco.compress("who \ud800?", ["the \ud800 river"]), context("who \ud800?", "the \udfff river")]
    outcomes = read_each(MemoryReader(pisco.reader(), max_new_tokens=2), contexts)
    assert [type(outcome) for outcome in outcomes] == [Reading, Reading]


def test_vectors_of_another_model_are_an_error_in_their_place(pisco):
    strange = tiny("clara").compress("who?", [LONG])
    first, second = read_each(MemoryReader(pisco.reader(), max_new_tokens=2), [context("who?"), strange])
    assert isinstance(first, Reading)
    assert isinstance(second, SpaceMismatchError)


def test_vectors_are_an_error_in_their_place_for_readers_of_prompts(pisco):
    reader = HuggingFaceReader(tiny_llama(), byte_tokenizer(), max_new_tokens=2)
    outcomes = read_each(reader, [context("who?"), pisco.compress("who?", [LONG]), context("when?")])
    assert [type(outcome).__name__ for outcome in outcomes] == ["Reading", "InputError", "Reading"]


# Frameworks


def langchain(function):
    return RunnableLambda(function)


@pytest.mark.parametrize("model", [FakeListLLM(responses=["Rome"]), FakeListChatModel(responses=["Rome"])])
def test_texts_and_messages_of_langchain_are_read(model):
    assert [reading.text for reading in as_reader(model).read(QUESTIONS)] == ["Rome"] * 7


def test_blocks_and_usage_of_a_message_are_read():
    blocks = [
        "Ro",
        {"type": "text", "text": "me"},
        {"type": "reasoning", "reasoning": "hm"},
        {"type": "text", "text": "."},
    ]
    usage = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
    model = GenericFakeChatModel(messages=iter([AIMessage(blocks, usage_metadata=usage)]))
    (reading,) = FrameworkReader(model).read(QUESTIONS[:1])
    assert (reading.text, reading.n_prompt_tokens, reading.n_new_tokens) == ("Rome.", 12, 3)


def test_a_model_of_llama_index_is_asked_prompt_by_prompt():
    reader = as_reader(MockLLM())
    readings = reader.read(QUESTIONS)
    assert [reading.text for reading in readings] == [short_answer_prompt(question) for question in QUESTIONS]
    assert reader.settings()["class"] == "llama_index.core.llms.mock.MockLLM"


@pytest.mark.parametrize("framework", ["langchain", "llama-index"])
def test_lone_surrogates_reach_no_framework_and_come_from_none(framework):
    class Model:
        metadata = None

        def ask(self, prompt):
            prompt.encode()
            return SimpleNamespace(text=f"{prompt[-2]}\ud800")

    setattr(Model, "invoke" if framework == "langchain" else "complete", Model.ask)
    (reading,) = FrameworkReader(Model()).complete(["Who \ud800?"], max_new_tokens=2)
    assert reading.text == "\N{REPLACEMENT CHARACTER}" * 2


def test_one_failing_prompt_does_not_fail_its_batch():
    def answer(prompt):
        if "it, 2?" in prompt:
            raise ValueError("filtered")
        return AIMessage(prompt[-20:])

    outcomes = read_each(FrameworkReader(langchain(answer), concurrency=3), QUESTIONS)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Reading"] * 2 + ["ValueError"] + ["Reading"] * 4
    with pytest.raises(ValueError, match="filtered"):
        FrameworkReader(langchain(answer)).read(QUESTIONS)


def test_a_class_that_fails_a_batch_for_one_of_it_is_asked_one_by_one():
    class Strict(FakeListLLM):
        def _call(self, prompt, *arguments, **options):
            if "it, 2?" in prompt:
                raise ValueError("filtered")
            return "Rome"

    outcomes = read_each(FrameworkReader(Strict(responses=["x"])), QUESTIONS)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Reading"] * 2 + ["ValueError"] + ["Reading"] * 4


def test_a_model_that_is_down_is_told_after_five_questions():
    asked = []

    def answer(prompt):
        asked.append(prompt)
        raise ConnectionError("no route")

    with pytest.raises(InputError, match=r"5 questions in a row .* the last: ConnectionError: no route"):
        read_each(FrameworkReader(langchain(answer), concurrency=1), QUESTIONS * 10)
    assert len(set(asked)) == 5


def test_a_reply_without_a_text_is_an_error():
    with pytest.raises(InputError, match="gave dict without a text"):
        FrameworkReader(langchain(lambda _: {"answer": 1})).read(QUESTIONS[:1])


def test_a_framework_s_model_names_itself_and_its_settings():
    class Named(FakeListLLM):
        model_name: str = "small-1"
        temperature: float = 0.0
        api_key: str = "sk-secret"

    settings = FrameworkReader(Named(responses=["x"])).settings()
    assert (settings["name"], settings["temperature"]) == ("small-1", 0.0)
    assert "secret" not in json.dumps(settings)
    assert FrameworkReader(MockLLM()).name == "MockLLM"
    with pytest.raises(OptionError, match="neither invoke"):
        FrameworkReader(object())


# Names


def test_a_reader_is_made_of_whatever_can_answer(tmp_path):
    assert as_reader(None, device="cpu") is None
    ready = Failing()
    assert as_reader(ready, device="cpu", dtype="float32") is ready
    assert isinstance(as_reader("openai:some/model:7b"), OpenAIReader)
    assert as_reader("openai:some/model:7b", device="cpu").model == "some/model:7b"
    tiny_llama().save_pretrained(tmp_path / "hf:odd")
    byte_tokenizer().save_pretrained(tmp_path / "hf:odd")
    for spec in (tmp_path / "hf:odd", str(tmp_path / "hf:odd"), f"hf:{tmp_path / 'hf:odd'}"):
        assert as_reader(spec, device="cpu", dtype="bfloat16").settings()["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (7, {}, "int is no reader; expected 'openai:MODEL', 'hf:PATH'"),
        ("ollama:small", {}, "unknown kind of reader 'ollama' in 'ollama:small'; expected"),
        ("openai:", {}, "names no model"),
        ("", {}, "names no model"),
        ("hf:somewhere", {"base_url": "http://host"}, "unknown option of this reader 'base_url'"),
        ("openai:m", {"max_tokens": 3}, "unknown option of this reader 'max_tokens'; known, closest first: 'max_new_tokens'"),
        (None, {"base_url": "http://host"}, "base_url came with no reader"),
        (Failing(), {"max_new_tokens": 3}, r"max_new_tokens came with a reader that is built already \(failing\)"),
        (FakeListLLM, {}, "a reader is an object, and FakeListLLM is a class"),
    ],
)  # fmt: skip
def test_what_is_no_reader_says_what_is(spec, options, message):
    with pytest.raises(OptionError, match=message):
        as_reader(spec, **options)


def test_a_missing_folder_is_told():
    with pytest.raises(rc.CheckpointError, match="does not exist"):
        as_reader(Path("./there-is-no-such-folder"))


# Failures


def test_questions_that_fail_keep_their_places_and_most_work_stays_in_batches():
    reader = Failing(2, 5)
    outcomes = read_each(reader, QUESTIONS)
    assert [getattr(outcome, "text", outcome) for outcome in outcomes[:2]] == [QUESTIONS[0].query, QUESTIONS[1].query]
    assert [type(outcome) for outcome in outcomes].count(RuntimeError) == 2
    assert str(outcomes[5]) == "not Who was it, 5?"
    assert read_each(Failing(), []) == []
    reader = Failing(3)
    read_each(reader, QUESTIONS * 1 + [context(f"Another {index}?") for index in range(57)])
    assert len(reader.calls) < 16


def test_failures_apart_from_each_other_do_not_end_a_run_and_five_in_a_row_do():
    apart = [question for index in range(20) for question in (QUESTIONS[0], QUESTIONS[1])]
    assert [type(outcome) for outcome in read_each(Failing(0), apart)].count(RuntimeError) == 20
    with pytest.raises(
        InputError, match=r"5 questions in a row could not be read; the last: RuntimeError: not Who was it, 6\?"
    ):
        read_each(Failing(2, 3, 4, 5, 6), QUESTIONS)


def test_interrupting_ends_a_run_at_once():
    for error in (KeyboardInterrupt, SystemExit):
        with pytest.raises(error):
            read_each(Failing(3, error=error), QUESTIONS)


def test_a_reader_that_gives_too_few_readings_is_told():
    class Short(Failing):
        def read(self, contexts):
            return super().read(contexts)[: len(contexts) // 2]

    (outcome,) = read_each(Short(), QUESTIONS[:1])
    assert isinstance(outcome, OptionError)
    assert "0 readings for 1 questions" in str(outcome)


def test_an_option_error_of_one_question_stays_in_its_place():
    class Limited(PromptReader):
        def complete(self, prompts, *, max_new_tokens):
            if any("when?" in prompt for prompt in prompts):
                raise OptionError("no answer within 120 seconds.")
            return [Reading("yes") for _ in prompts]

    contexts = [context("who?"), context("when?"), context("where?")]
    outcomes = read_each(Limited(), contexts)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Reading", "OptionError", "Reading"]
    prompts = ["who?", "when?", "where?"]
    outcomes = Limited().complete_each(prompts, max_new_tokens=2)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Reading", "OptionError", "Reading"]


def test_a_prompt_reader_of_someone_else_needs_only_complete():
    class Echo(PromptReader):
        def complete(self, prompts, *, max_new_tokens):
            assert max_new_tokens == 32
            return [Reading(prompt[-9:]) for prompt in prompts]

    assert [reading.text for reading in read_each(Echo(), QUESTIONS)] == ["?\nAnswer:"] * 7
