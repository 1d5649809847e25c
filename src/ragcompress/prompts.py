"""Published prompts, as data.

Sources: PISCO (2025) and OSCAR (2025), released code and training harness; COCOM (2024), released code; the 2026
rewrite of PISCO and OSCAR. White space is part of a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_SYSTEM = (
    "You are a helpful assistant. Your task is to extract relevant information from provided documents and to answer "
    "to questions as briefly as possible."
)


@dataclass(frozen=True, slots=True)
class AnswerPrompt:
    """How documents and a question become one prompt.

    Attributes:
        user: holds ``{documents}`` and ``{question}``.
        user_without_documents: holds ``{question}``.
        document: one document; may hold ``{index}`` (from 0), ``{memory}``: its placeholders or its text.
        handle: what takes the place of a handle in a prompt that is not ours; holds ``{memory}``.
        system: the instruction; None: ``user`` is the whole prompt, and no chat template is used.
        special_tokens: whether the tokenizer adds its own to the finished prompt.
    """

    user: str
    user_without_documents: str
    document: str
    handle: str
    system: str | None = _SYSTEM
    special_tokens: bool = False


PISCO = AnswerPrompt(
    user="Background:\n{documents}\n\nQuestion:{question}",
    user_without_documents="Question:{question}",
    document="{memory}<SEP>",
    handle="{memory}<SEP>",
)
PISCO_WITHOUT_SEPARATOR = AnswerPrompt(
    user=PISCO.user, user_without_documents=PISCO.user_without_documents, document="{memory}", handle="{memory}"
)
PISCO_V2 = AnswerPrompt(
    user="\n\nBackground:{documents}\n Question: {question}",
    user_without_documents="\n\n Question: {question}",
    document="Document {index}:{memory}",
    handle="{memory}",
)
# The tokenizer puts a second BOS in front; kept, since the released models saw it.
COCOM = AnswerPrompt(
    user="{bos}{documents}[INST]{question}\n[/INST]\n",
    user_without_documents="{bos}[INST]{question}\n[/INST]\n",
    document="{memory}<SEP>",
    handle="{memory}<SEP>",
    system=None,
    special_tokens=True,
)
COCOM_WITHOUT_SEPARATOR = AnswerPrompt(
    user=COCOM.user,
    user_without_documents=COCOM.user_without_documents,
    document="{memory}",
    handle="{memory}",
    system=None,
    special_tokens=True,
)


def spaced(prompt: AnswerPrompt) -> AnswerPrompt:
    """Put a space behind ``Question:``.

    The hub class writes none; the harness that the models were trained and measured with does.

    Args:
        prompt: as the hub class writes it.

    Returns:
        The other spelling.
    """
    return replace(
        prompt,
        user=prompt.user.replace("Question:{", "Question: {"),
        user_without_documents=prompt.user_without_documents.replace("Question:{", "Question: {"),
    )
