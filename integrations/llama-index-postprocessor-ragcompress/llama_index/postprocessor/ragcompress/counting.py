"""Lengths of prompts with handles in them, and splitting that leaves handles whole.

LlamaIndex decides by length what fits into one prompt, and cuts what does not. A handle is some forty characters that
stand for a few memory slots: it must count as those, and half of one would be worth nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import LLM
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.prompts import BasePromptTemplate

from ragcompress import InputError

# A handle, and the marker that ``ragcompress.attach_question`` may put behind it: one word that is never cut.
_WORD = re.compile(r"(?:<\|rc:[^|\s]*\|>)+")
_HANDLE = re.compile(r"<\|rc:[^|\s]*\|>")
_PRIVATE_USE = range(0x100000, 0x10FFFE)


def holds_handle(text: str) -> bool:
    """Whether a text of ours holds a handle.

    Args:
        text: written or made harmless by a compressor.

    Returns:
        True if it does.
    """
    return _HANDLE.search(text) is not None


def count_handles(text: str) -> int:
    """How many handles a text holds.

    Args:
        text: any.

    Returns:
        The number.
    """
    return len(_HANDLE.findall(text))


def holds_half_a_handle(text: str) -> bool:
    """Whether the beginning of a handle stands in a text without its end.

    Args:
        text: of a prompt.

    Returns:
        True if something cut a handle, or somebody wrote the beginning of one.
    """
    return "<|rc:" in text and "<|rc:" in _HANDLE.sub("", text)


class RagCompressPromptHelper(PromptHelper):
    """A ``PromptHelper`` whose splitters leave handles whole; ``RagCompressLLM.prompt_helper`` makes one."""

    @classmethod
    def class_name(cls) -> str:
        """Name of the component."""
        return "RagCompressPromptHelper"

    def get_text_splitter_given_prompt(
        self,
        prompt: BasePromptTemplate,
        num_chunks: int = 1,
        padding: int = 5,
        llm: LLM | None = None,
        tools: list[Any] | None = None,
    ) -> TokenTextSplitter:
        """Make the splitter for what a prompt leaves of the window; see ``PromptHelper``.

        Args:
            prompt: the template.
            num_chunks: texts that share the window.
            padding: tokens to keep free for each.
            llm: whose system prompt counts.
            tools: whose descriptions count.

        Returns:
            The splitter.
        """
        plain = super().get_text_splitter_given_prompt(prompt, num_chunks, padding, llm, tools)
        settings: dict[str, Any] = {
            "separator": plain.separator,
            "chunk_size": plain.chunk_size,
            "chunk_overlap": plain.chunk_overlap,
            "tokenizer": self._token_counter.tokenizer,
        }
        return HandleSplitter(**settings)


class HandleSplitter(TokenTextSplitter):
    """A ``TokenTextSplitter`` that leaves handles whole."""

    @classmethod
    def class_name(cls) -> str:
        """Name of the component."""
        return "HandleSplitter"

    def split_text(self, text: str) -> list[str]:
        """Split.

        Args:
            text: may hold handles.

        Returns:
            The chunks; every handle is in one of them.

        Raises:
            InputError: a single handle stands for more slots than a chunk may have.
        """
        # As single characters, handles cannot be cut by anything.
        free = _unused(text)
        words: dict[str, str] = {}

        def shield(match: re.Match[str]) -> str:
            character = next(free)
            words[character] = match.group()
            return character

        shielded = _WORD.sub(shield, text)
        if not words:
            return super().split_text(text)
        table = str.maketrans(words)
        for word in words.values():
            if (length := len(self._tokenizer(word))) > self.chunk_size:
                raise InputError(
                    f"a handle stands for {length} slots, and the prompt leaves room for {self.chunk_size}.",
                    hint="Lower max_new_tokens, shorten the prompt's template, or use a model with a larger window.",
                )
        inner = TokenTextSplitter(
            separator=self.separator,
            chunk_size=self.chunk_size,
            chunk_overlap=self.chunk_overlap,
            backup_separators=self.backup_separators,
            tokenizer=_through(table, self._tokenizer),
            callback_manager=self.callback_manager,
        )
        return [chunk.translate(table) for chunk in inner.split_text(shielded)]


def _unused(text: str) -> Iterator[str]:
    used = set(text)
    return (character for code in _PRIVATE_USE if (character := chr(code)) not in used)


def _through(table: dict[int, str], tokenizer: Callable[[str], list[Any]]) -> Callable[[str], list[Any]]:
    return lambda text: tokenizer(text.translate(table))
