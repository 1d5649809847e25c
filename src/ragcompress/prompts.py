"""Published prompts, as data.

Sources: PISCO and OSCAR (2025), released code and training harness; COCOM (2024) and CLaRa (2025), released code; the
2026 rewrite of PISCO and OSCAR. White space is part of a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_SYSTEM = (
    "You are a helpful assistant. Your task is to extract relevant information from provided documents and to answer "
    "to questions as briefly as possible."
)


# What CLaRa's authors ask for to see what memory tokens still say, and trained them on; ``{documents}``: placeholders.
PARAPHRASE_SYSTEM = (
    "You are a helpful assistant. Your task is follow the instructions to paraphrase the background information."
)
PARAPHRASES = (
    "Background: {documents} means the same as",
    "Background: {documents} Can you put the above sentences in your own terms?",
    "Background: {documents} Please provide a reinterpretation of the preceding background text.",
    "These two expressions are equivalent in essence:\n(1) {documents}\n(2)",
    "Background: {documents} is a paraphrase of what?",
    "Background: {documents} Could you give me a different version of the background sentences above?",
    "In other words, background: {documents} is just another way of saying:",
    "You're getting across the same point whether you say background: {documents} or",
    "Background: {documents} After unpacking the ideas in the background information above, we got:",
    "Background: {documents} Please offer a restatement of the background sentences I've just read.",
    "Background: {documents}, which also means:",
    "Strip away the mystery, and you'll find background: {documents} is simply another rendition of:",
    "The essence of background: {documents} is captured again in the following statement:",
)
# What CLaRa is pretrained on: questions and answers that cover a document.
QUESTIONS_SYSTEM = (
    "You are a helpful assistant. Given a document, your task is to generate some single questions to cover all key "
    "information of the document and answer them sequentially."
)
QUESTIONS_USER = "Background:\n{documents}"


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
