"""Requests to an endpoint that speaks OpenAI's protocol: addresses, keys, further attempts, and what went wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ragcompress.errors import InputError, MissingExtraError, OptionError, RagCompressError
from ragcompress.options import check_range
from ragcompress.tokens import encodable

DEFAULT_BASE_URL = "https://api.openai.com/v1"
URL_VARIABLE = "OPENAI_BASE_URL"
KEY_VARIABLE = "OPENAI_API_KEY"
_PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
_MAX_WAIT_S = 60.0
_MAX_TOLD_CHARS = 300


class _PassingError(Exception):
    """What another attempt may get over: an overloaded server, a lost connection."""

    def __init__(self, reason: RagCompressError, wait_s: float | None = None) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.wait_s = wait_s


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. The key is sent in their header and is in no message.

    Attributes:
        base_url: what stands before the path of a request.
        key: empty: none is sent.
        timeout_s: of one request, in seconds.
        n_retries: further attempts when the server is overloaded or the connection is lost.
        retry_wait_s: longest pause before the first of them; it doubles each time, up to a minute. A server that
            says how long to wait is believed, up to the same minute.

    Raises:
        MissingExtraError: the packages for requests are not installed.
        OptionError: a value is out of range, the address is none, or holds a secret.
    """

    base_url: str
    key: str = field(default="", repr=False)
    timeout_s: float = 120.0
    n_retries: int = 4
    retry_wait_s: float = 0.5

    def __post_init__(self) -> None:
        """Check the values."""
        _require_packages()
        _check_url(self.base_url)
        check_range("timeout_s", self.timeout_s, at_least=0.001)
        check_range("n_retries", self.n_retries, at_least=0, whole=True)
        check_range("retry_wait_s", self.retry_wait_s, at_least=0)
        if not self.key.isascii() or not self.key.isprintable():
            raise OptionError(f"the key holds characters that no key has; was {KEY_VARIABLE} copied whole?")

    def client(self) -> Any:  # noqa: ANN401 (a client of httpx2)
        """Open connections; safe to use from several threads.

        Returns:
            A client for ``post``, and a context manager that closes it.
        """
        import httpx2

        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        return httpx2.Client(headers=headers, timeout=self.timeout_s)

    def post(self, client: Any, path: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], float]:  # noqa: ANN401
        """Ask, and again as long as that may help.

        Args:
            client: of this endpoint.
            path: behind the base URL.
            body: JSON-safe.

        Returns:
            The reply, and how long the attempt took that succeeded, in milliseconds.

        Raises:
            OptionError: the endpoint cannot be reached, is overloaded, or refuses the key, the path or the model; or
                it is none.
            InputError: it refuses the body.
        """
        from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
        from tenacity.wait import wait_random_exponential

        backoff = wait_random_exponential(multiplier=self.retry_wait_s, max=_MAX_WAIT_S)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            told = error.wait_s if isinstance(error, _PassingError) else None
            return backoff(state) if told is None else min(told, _MAX_WAIT_S)

        attempts = Retrying(
            retry=retry_if_exception_type(_PassingError),
            stop=stop_after_attempt(1 + self.n_retries),
            wait=wait,
            reraise=True,
        )
        try:
            answered: tuple[dict[str, Any], float] = attempts(self._post_once, client, path, body)
        except _PassingError as error:
            raise error.reason from None
        return answered

    def told(self, text: str) -> str:
        """Repeat what an endpoint said.

        Args:
            text: its own words.

        Returns:
            One short line without the key, which some repeat.
        """
        text = text.replace(self.key, "***") if self.key else text
        line = encodable(" ".join(text.split()).rstrip("."))
        return line if len(line) <= _MAX_TOLD_CHARS else f"{line[:_MAX_TOLD_CHARS]}…"

    def _post_once(self, client: Any, path: str, body: Mapping[str, Any]) -> tuple[dict[str, Any], float]:  # noqa: ANN401
        import httpx2

        url = f"{self.base_url.rstrip('/')}/{path}"
        begin = time.perf_counter()
        try:
            response = client.post(url, json=body)
        except httpx2.TimeoutException:
            reason = f"{url} gave no answer within {self.timeout_s:g} seconds."
            raise _PassingError(OptionError(reason, hint="Raise timeout_s, or lower concurrency.")) from None
        except httpx2.RequestError as error:
            reason = f"{url} cannot be reached: {self.told(str(error) or type(error).__name__)}."
            raise _PassingError(OptionError(reason, hint="Is the server running, and base_url right?")) from None
        took_ms = (time.perf_counter() - begin) * 1000
        if response.status_code != 200:
            raise self._refusal(url, response, str(body.get("model", "")))
        try:
            reply = response.json()
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise OptionError(
                f"{url} answered with something else than a JSON object: {self.told(response.text)!r}.",
                hint="Is base_url right?",
            )
        return reply, took_ms

    def _refusal(self, url: str, response: Any, model: str) -> Exception:  # noqa: ANN401 (a response of httpx2)
        status = response.status_code
        said = self.told(_message(response))
        reason = f"{url} answered {status}{f': {said}' if said else ''}"
        if status in _PASSING:
            attempts = f" after {1 + self.n_retries} attempts" if self.n_retries else ""
            hint = "Lower concurrency, or raise n_retries and retry_wait_s." if status == 429 else "Try again later."
            return _PassingError(OptionError(f"{reason}{attempts}.", hint=hint), _seconds(response))
        if status in (401, 403):
            key = "It refuses the key" if self.key else "No key was sent"
            return OptionError(f"{reason}.", hint=f"{key}: set {KEY_VARIABLE}.")
        if status == 404:
            hint = f"Does it have the model {model!r}, and does base_url end as it should, often in /v1?"
            return OptionError(f"{reason}.", hint=hint)
        if 300 <= status < 400:
            elsewhere = self.told(response.headers.get("location", ""))
            return OptionError(f"{reason}.", hint=f"It names {elsewhere!r}: give that as base_url if it is right.")
        return InputError(
            f"{reason}.",
            hint="Keep less of the documents if the prompt is too long; if an option is refused, see length_field and "
            "temperature.",
        )


def key_from_environment() -> str:
    """Read the key that OpenAI's own client reads.

    Returns:
        The key; empty: there is none.
    """
    return os.environ.get(KEY_VARIABLE, "").strip()


def url_from_environment() -> str:
    """Read the address that OpenAI's own client reads.

    Returns:
        The address, OpenAI's if there is none.
    """
    return os.environ.get(URL_VARIABLE, "").strip() or DEFAULT_BASE_URL


def _message(response: Any) -> str:  # noqa: ANN401 (a response of httpx2)
    """What a refusal says; servers differ in where they write it."""
    try:
        reply = response.json()
    except (ValueError, RecursionError):
        return str(response.text)
    error = reply.get("error", reply) if isinstance(reply, dict) else reply
    found = (error.get("message") or error.get("detail")) if isinstance(error, dict) else error
    return found if isinstance(found, str) else str(response.text)


def _seconds(response: Any) -> float | None:  # noqa: ANN401 (a response of httpx2)
    """How long the server asks to wait; a date instead of a number is left to the backoff."""
    try:
        seconds = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def _check_url(url: str) -> None:
    import httpx2

    try:
        parts = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError, UnicodeEncodeError) as error:
        raise OptionError(f"base_url is no address: {error}.") from error
    if parts.userinfo or parts.query or parts.fragment:
        raise OptionError(
            "base_url must hold neither a password nor a query: it is written into the results.",
            hint=f"Keys go into {KEY_VARIABLE}.",
        )
    if parts.scheme not in ("http", "https") or not parts.host:
        raise OptionError(
            f"base_url must be an address with http:// or https://, got {url!r}.", hint="http://localhost:8000/v1, say."
        )


def _require_packages() -> None:
    try:
        import httpx2  # noqa: F401
        import tenacity  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"readers behind an endpoint need the package {error.name}.", hint="pip install 'ragcompress[evaluation]'"
        ) from error
