"""Readers behind an endpoint that speaks OpenAI's protocol: OpenAI itself, vLLM, llama.cpp, Ollama and many more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from ragcompress.errors import InputError, OptionError
from ragcompress.evaluation.readers.base import PromptReader, Reading
from ragcompress.evaluation.readers.endpoint import Endpoint, key_from_environment, url_from_environment
from ragcompress.evaluation.readers.failures import Patience, raised
from ragcompress.evaluation.readers.frameworks import text_of
from ragcompress.options import check_choice, check_range
from ragcompress.tokens import encodable, get_token_counter

_PATHS = {"chat": "chat/completions", "completions": "completions"}
_LENGTH_FIELDS = ("max_tokens", "max_completion_tokens")


class OpenAIReader(PromptReader):
    """Sends prompts to an endpoint that speaks OpenAI's protocol; greedy, several at a time.

    The key goes into the header of a request and nowhere else: neither into settings nor into messages. ``total_ms`` is
    the time of the request that succeeded, the network and the server's queue included.

    Attributes:
        model: name of the model, as the endpoint knows it.
        endpoint: where requests go.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        api: Literal["chat", "completions"] = "chat",
        max_new_tokens: int = 32,
        temperature: float | None = 0.0,
        length_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        concurrency: int = 4,
        timeout_s: float = 120.0,
        n_retries: int = 4,
        retry_wait_s: float = 0.5,
        token_counter: object = None,
        name: str | None = None,
    ) -> None:
        """Check the options; nothing is sent.

        Args:
            model: name of the model, as the endpoint knows it.
            base_url: what stands before ``/chat/completions``; None: the environment's OPENAI_BASE_URL, else OpenAI's.
            api_key: None: the environment's OPENAI_API_KEY; without either, no key is sent.
            api: ``"chat"``: the prompt is one user message; ``"completions"``: it is gone on with as it is.
            max_new_tokens: longest answer, in tokens.
            temperature: 0: greedy; None: not sent, for models that accept no other than their own.
            length_field: under which name the length limit is sent; newer models of OpenAI want the longer one.
            concurrency: how many requests run at a time.
            timeout_s: of one request, in seconds.
            n_retries: further attempts when the server is overloaded or the connection is lost.
            retry_wait_s: longest pause before the first of them; it doubles each time, up to a minute.
            token_counter: what a token is; see ``ragcompress.tokens.get_token_counter``. None: a word.
            name: for reports; None: the model's.

        Raises:
            OptionError: a value is out of range, or the address is none.
            MissingExtraError: the packages for requests are not installed.
        """
        check_choice("api", api, _PATHS)
        check_choice("length_field", length_field, _LENGTH_FIELDS)
        check_range("max_new_tokens", max_new_tokens, at_least=1, whole=True)
        check_range("temperature", temperature, at_least=0)
        check_range("concurrency", concurrency, at_least=1, whole=True)
        if not isinstance(model, str) or not model.strip():
            raise OptionError("the endpoint must be told a model.", hint="For example openai:gpt-4o-mini.")
        self.model = model
        self.endpoint = Endpoint(
            (url_from_environment() if base_url is None else base_url).rstrip("/"),
            key_from_environment() if api_key is None else api_key.strip(),
            timeout_s=timeout_s,
            n_retries=n_retries,
            retry_wait_s=retry_wait_s,
        )
        self.api = api
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.length_field = length_field
        self.concurrency = concurrency
        self.token_counter = get_token_counter(token_counter or "words")
        self.name = name or model

    def settings(self) -> Mapping[str, Any]:
        """Say what the answers depend on; see ``ContextReader.settings``."""
        return {
            "name": self.name,
            "model": self.model,
            "base_url": self.endpoint.base_url,
            "api": self.api,
            "temperature": self.temperature,
            "max_new_tokens": self.max_new_tokens,
        }

    def complete(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[Reading]:
        """Go on with some prompts; see ``PromptReader.complete``.

        Raises:
            OptionError: the endpoint cannot be reached, or refuses the key, the model or the options.
            InputError: it refuses a prompt, gives no text, or fails too often in a row.
        """
        return raised(self.complete_each(prompts, max_new_tokens=max_new_tokens))

    def complete_each(
        self, prompts: Sequence[str], *, max_new_tokens: int, patience: Patience | None = None
    ) -> list[Reading | Exception]:
        """Go on with some prompts, several at a time; see ``PromptReader.complete_each``."""
        patience = Patience() if patience is None else patience
        outcomes: list[Reading | Exception] = []
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="ragcompress-openai")
        with self.endpoint.client() as client:
            try:
                waiting = [pool.submit(self._one, client, prompt, max_new_tokens) for prompt in prompts]
                for future in waiting:
                    outcome = future.result()
                    patience.note(outcome)
                    outcomes.append(outcome)
            finally:
                pool.shutdown(cancel_futures=True)
        return outcomes

    def _one(self, client: Any, prompt: str, max_new_tokens: int) -> Reading | Exception:  # noqa: ANN401
        try:
            reply, total_ms = self.endpoint.post(
                client, _PATHS[self.api], self._body(encodable(prompt), max_new_tokens)
            )
            return self._reading(reply, total_ms)
        except Exception as error:
            return error

    def _body(self, prompt: str, max_new_tokens: int) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, self.length_field: max_new_tokens}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            # A model without a chat goes on to make up further questions.
            body |= {"prompt": prompt, "stop": ["\nQuestion:"]}
        return body

    def _reading(self, reply: Mapping[str, Any], total_ms: float) -> Reading:
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise InputError(
                f"{self.endpoint.base_url} answered without a choice: {self.endpoint.told(str(reply))!r}.",
                hint="Expected {'choices': [...]} of OpenAI's protocol.",
            )
        message = choices[0].get("message")
        text = text_of(message.get("content") if isinstance(message, dict) else choices[0].get("text"))
        if text is None:
            raise InputError(
                f"{self.endpoint.base_url} answered without a text "
                f"(finish_reason {choices[0].get('finish_reason')!r}).",
                hint="A model that thinks first may have used up max_new_tokens.",
            )
        usage = reply.get("usage")
        told = usage if isinstance(usage, dict) else {}
        before, new = told.get("prompt_tokens"), told.get("completion_tokens")
        return Reading(
            encodable(text),
            n_prompt_tokens=before if isinstance(before, int) else None,
            n_new_tokens=new if isinstance(new, int) else None,
            total_ms=total_ms,
        )
