"""Readers behind an endpoint: a small server that speaks the protocol, and everything that it may say instead."""

import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ragcompress.errors import InputError, MissingExtraError, OptionError
from ragcompress.evaluation.prompts import short_answer_prompt
from ragcompress.evaluation.readers import OpenAIReader, as_reader, read_each
from tests.unit.evaluation_models import context

pytestmark = [pytest.mark.enable_socket, pytest.mark.allow_hosts(["127.0.0.1", "::1"])]
KEY = "sk-very-secret"
QUESTIONS = [context(f"Who was it, {index}?") for index in range(6)]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def reply(text, **more):
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop", **more}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 17, "completion_tokens": 2}}


def refusal(status, message, **headers):
    return status, {"error": {"message": message, "type": "some_error"}}, headers


@contextmanager
def server(answer):
    """Serve ``answer(body, request) -> (status, JSON or bytes[, headers])``; yields the address and what was asked."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, self.headers, body))
            found = answer(body, len(asked))
            if found is None:
                self.close_connection = True
                return
            status, content, headers = (*found, {})[:3]
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{found.server_port}/v1", asked
    finally:
        found.shutdown()
        thread.join()
        found.server_close()


def reader_at(url, **options):
    return OpenAIReader("small", base_url=url, **{"n_retries": 1, "retry_wait_s": 0, **options})


def test_a_prompt_is_sent_as_a_user_message_and_its_answer_read(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with server(lambda body, _: reply(body["messages"][0]["content"][-20:])) as (url, asked):
        readings = reader_at(url, max_new_tokens=9).read(QUESTIONS)
    prompts = [short_answer_prompt(question) for question in QUESTIONS]
    assert [reading.text for reading in readings] == [prompt[-20:] for prompt in prompts]
    assert {(reading.n_prompt_tokens, reading.n_new_tokens, reading.prefill_ms) for reading in readings} == {
        (17, 2, None)
    }
    assert all(reading.total_ms > 0 for reading in readings)
    assert {path for path, _, _ in asked} == {"/v1/chat/completions"}
    assert {headers["Authorization"] for _, headers, _ in asked} == {f"Bearer {KEY}"}
    bodies = sorted((body for _, _, body in asked), key=lambda body: body["messages"][0]["content"])
    assert bodies == [
        {"model": "small", "max_tokens": 9, "temperature": 0.0, "messages": [{"role": "user", "content": prompt}]}
        for prompt in prompts
    ]


def test_the_other_protocol_goes_on_with_the_prompt_and_options_are_sent_as_named():
    with server(lambda body, _: (200, {"choices": [{"text": " Rome"}]})) as (url, asked):
        options = {"api": "completions", "length_field": "max_completion_tokens", "temperature": None}
        (reading,) = as_reader("openai:small", base_url=f"{url}/", **options).read(QUESTIONS[:1])
    assert (reading.text, reading.n_prompt_tokens) == (" Rome", None)
    ((path, headers, body),) = asked
    assert path == "/v1/completions"
    assert "Authorization" not in headers
    prompt = short_answer_prompt(QUESTIONS[0])
    assert body == {"model": "small", "max_completion_tokens": 32, "prompt": prompt, "stop": ["\nQuestion:"]}


def test_requests_run_side_by_side_and_answers_keep_their_places():
    together = threading.Barrier(3, timeout=30)

    def answer(body, _):
        together.wait()
        return reply(body["messages"][0]["content"].split("\n")[-2])

    with server(answer) as (url, _):
        readings = reader_at(url, concurrency=3).read(QUESTIONS)
    assert [reading.text for reading in readings] == [f"Question: {question.query}" for question in QUESTIONS]


@pytest.mark.parametrize("trouble", [refusal(429, "slow down", Retry_After="0"), refusal(503, "loading"), None])
def test_passing_trouble_is_tried_again(trouble):
    with server(lambda _, request: trouble if request < 3 else reply("Rome")) as (url, asked):
        (reading,) = reader_at(url, n_retries=2).read(QUESTIONS[:1])
    assert reading.text == "Rome"
    assert len(asked) == 3


def test_a_server_that_says_how_long_to_wait_is_believed_up_to_a_minute(monkeypatch):
    waited = []
    monkeypatch.setattr(time, "sleep", waited.append)
    times = ["7", "86400", "Wed, 21 Oct 2015 07:28:00 GMT", "-1"]

    def answer(_, request):
        return refusal(429, "slow", Retry_After=times[request - 1]) if request <= len(times) else reply("Rome")

    with server(answer) as (url, _):
        reader_at(url, n_retries=4).read(QUESTIONS[:1])
    assert waited == [7, 60, 0, 0]


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (refusal(401, f"wrong key: {KEY}"), OptionError, r"401: wrong key: \*\*\*\. It refuses the key: set OPENAI_API_KEY"),
        (refusal(404, "no model small"), OptionError, r"404: no model small\. Does it have the model 'small', and does base_url"),
        (refusal(429, "slow down"), OptionError, r"429: slow down after 2 attempts\. Lower concurrency"),
        (refusal(500, "oops"), OptionError, r"500: oops after 2 attempts"),
        (refusal(400, "maximum context length"), InputError, r"400: maximum context length\. Keep less"),
        ((418, b"<h1>teapot</h1>"), InputError, "418: <h1>teapot</h1>"),
        ((422, {"detail": [{"loc": "body"}]}), InputError, "422"),
        (refusal(308, "moved", Location="http://127.0.0.1:1/v2"), OptionError, "It names 'http://127.0.0.1:1/v2'"),
        ((200, b"<html>welcome</html>"), OptionError, "else than a JSON object: '<html>welcome</html>'. Is base_url"),
        ((200, ["a"]), OptionError, "else than a JSON object"),
        ((200, b"[" * 100_000), OptionError, "else than a JSON object"),
        ((200, {"choices": []}), InputError, "answered without a choice"),
        ((200, {"object": "error"}), InputError, "answered without a choice"),
        (reply(None, finish_reason="length"), InputError, r"without a text \(finish_reason 'length'\).*max_new_tokens"),
    ],
)  # fmt: skip
def test_what_an_endpoint_says_instead_of_an_answer_is_told(answer, error, message):
    with server(lambda *_: answer) as (url, _), pytest.raises(error, match=message) as raised:
        reader_at(url, api_key=KEY).read(QUESTIONS[:1])
    assert KEY not in str(raised.value)


def test_a_missing_key_is_told_as_such():
    with (
        server(lambda *_: refusal(401, "who are you?")) as (url, _),
        pytest.raises(OptionError, match="No key was sent"),
    ):
        reader_at(url).read(QUESTIONS[:1])


def test_an_empty_answer_is_an_answer():
    with server(lambda *_: reply("")) as (url, _):
        assert [reading.text for reading in read_each(reader_at(url), QUESTIONS)] == [""] * 6


def test_one_refused_question_does_not_take_the_others_with_it():
    def answer(body, _):
        return refusal(400, "filtered") if "it, 2?" in body["messages"][0]["content"] else reply("Rome")

    with server(answer) as (url, _):
        outcomes = read_each(reader_at(url), QUESTIONS)
    assert [isinstance(outcome, InputError) for outcome in outcomes] == [False, False, True, False, False, False]


def test_one_question_without_an_answer_in_time_does_not_take_the_others_with_it(monkeypatch):
    import httpx2

    post = httpx2.Client.post

    def slow(client, url, *, json):
        if "it, 2?" in json["messages"][0]["content"]:
            raise httpx2.ReadTimeout("timed out")
        return post(client, url, json=json)

    monkeypatch.setattr(httpx2.Client, "post", slow)
    with server(lambda *_: reply("Rome")) as (url, _):
        reader = reader_at(url)
        read = read_each(reader, QUESTIONS)
        completed = reader.complete_each([short_answer_prompt(question) for question in QUESTIONS], max_new_tokens=4)
    for outcomes in (read, completed):
        assert [getattr(outcome, "text", None) for outcome in outcomes] == ["Rome"] * 2 + [None] + ["Rome"] * 3
        assert isinstance(outcomes[2], OptionError)
        assert "gave no answer within 120 seconds" in str(outcomes[2])


def test_an_endpoint_that_cannot_be_reached_is_told_after_five_questions():
    with server(lambda *_: reply("Rome")) as (url, _):
        pass  # nobody listens there any more
    with pytest.raises(
        InputError, match=r"5 questions in a row .* cannot be reached: .*refused.* Is the server running"
    ):
        read_each(reader_at(url), QUESTIONS * 20)


def test_an_endpoint_that_does_not_answer_in_time_is_told():
    gone = threading.Event()
    with server(lambda *_: gone.wait(30) and None) as (url, _):
        with pytest.raises(OptionError, match=r"gave no answer within 0.05 seconds. Raise timeout_s"):
            reader_at(url, timeout_s=0.05, n_retries=0).read(QUESTIONS[:1])
        gone.set()


def test_the_key_is_neither_in_settings_nor_in_what_is_printed():
    reader = reader_at("http://localhost/v1", api_key=KEY)
    assert KEY not in json.dumps(reader.settings()) + repr(reader) + repr(reader.endpoint)
    assert reader.settings()["base_url"] == "http://localhost/v1"
    assert reader.name == "small"


def test_lone_surrogates_can_be_sent():
    with server(lambda body, _: reply(body["messages"][0]["content"][-30:])) as (url, _):
        (reading,) = reader_at(url).read([context("Who \ud800?")])
    assert "Who \N{REPLACEMENT CHARACTER}?" in reading.text


def test_lone_surrogates_that_come_back_can_be_written_on():
    # An emoji cut in two by the length limit.
    with server(lambda *_: reply("Rome \ud83d")) as (url, _):
        (reading,) = reader_at(url).read(QUESTIONS[:1])
    assert reading.text == "Rome \N{REPLACEMENT CHARACTER}"
    with server(lambda *_: refusal(400, "no \ud83d")) as (url, _):
        (outcome,) = read_each(reader_at(url), QUESTIONS[:1])
    assert "no \N{REPLACEMENT CHARACTER}" in str(outcome)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_url": "localhost:8000"}, "must be an address with http"),
        ({"base_url": "ftp://host/v1"}, "must be an address with http"),
        ({"base_url": "http://me:secret@host/v1"}, "neither a password nor a query"),
        ({"base_url": "http://host/v1?key=secret"}, "neither a password nor a query"),
        ({"base_url": "http://[::"}, "base_url is no address"),
        ({"base_url": "http://host/\ud800"}, "base_url is no address"),
        ({"api": "responses"}, "unknown api 'responses'"),
        ({"api_key": "sk-\n-x"}, "characters that no key has"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"temperature": -1}, "temperature must be"),
        ({"timeout_s": 0}, "timeout_s must be"),
        ({"model": " "}, "must be told a model"),
    ],
)
def test_options_are_checked_before_anything_is_sent(options, message):
    with pytest.raises(OptionError, match=message) as raised:
        OpenAIReader(options.pop("model", "small"), **options)
    assert "secret" not in str(raised.value)


def test_the_address_comes_from_the_environment_or_is_that_of_openai(monkeypatch):
    assert OpenAIReader("m").settings()["base_url"] == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1/")
    assert OpenAIReader("m").settings()["base_url"] == "http://elsewhere/v1"


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tenacity", None)
    with pytest.raises(MissingExtraError, match=r"need the package tenacity. pip install 'ragcompress\[evaluation\]'"):
        OpenAIReader("m")
