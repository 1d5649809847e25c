"""From a context, a prompt or a conversation to the decoder's ids: placeholders now, vectors later."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ragcompress.errors import InputError, InputTypeError, OptionError, SpaceMismatchError
from ragcompress.handles import Ask, Handle, digest, parse
from ragcompress.latent.model import LatentModel
from ragcompress.latent.text import render_chat
from ragcompress.prompts import AnswerPrompt
from ragcompress.reader import PromptMode, Request
from ragcompress.types import CompressedContext, MemorySegment

# Names of roles in other places, by those that chat templates know.
_ROLES = {"human": "user", "ai": "assistant", "developer": "system", "tool": "user", "function": "user"}


@dataclass(frozen=True, slots=True)
class Vectors:
    """A place in a prompt where vectors go.

    Attributes:
        n_slots: how many.
        vectors: (n_slots, width); None: they are under ``handle`` in a store.
        handle: where they are.
    """

    n_slots: int
    vectors: Tensor | None = None
    handle: Handle | None = None


Piece = str | Vectors


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A prompt in ids.

    Attributes:
        ids: (seq_len,), placeholders included.
        vectors: the places, in the order of the placeholders.
        n_dropped: how many pieces were left out from the end because the prompt was too long.
        mode: which prompt was written.
    """

    ids: list[int]
    vectors: list[Vectors]
    n_dropped: int
    mode: Literal["native", "verbatim"]


def prepare(
    request: Request, model: LatentModel, prompt: AnswerPrompt, mode: PromptMode, limit: int
) -> PreparedRequest:
    """Write a request as ids, documents dropped from the end until it fits.

    Args:
        request: a context, a prompt or messages.
        model: whose vocabulary and template are used.
        prompt: the published one.
        mode: see ``GenerationOptions.prompt_mode``.
        limit: longest prompt, in tokens and slots.

    Returns:
        The ids.

    Raises:
        InputError: the question alone is too long, or ``mode="native"`` without a question.
        InputTypeError: it is no request.
        SpaceMismatchError: a context's vectors belong to another space.
    """
    if isinstance(request, CompressedContext):
        return _native(request.query, _pieces(request, model), model, prompt, limit)
    messages = _messages(request)
    parts = [part for message in messages for part in parse(message["content"])]
    ask = _question_of(parts, messages)
    if mode == "native" and ask is None:
        raise InputError(
            "prompt_mode='native' was asked for, but the prompt holds no question of a ragcompress adapter with "
            "all handles of its result.",
            hint="Use prompt_mode='verbatim' (or 'auto'), or call answer() with contexts.",
        )
    if ask is not None and mode != "verbatim":
        pieces: list[Piece] = []
        texts = dict(ask.texts)
        for part in parts:
            if isinstance(part, Handle):
                while (place := len(pieces)) in texts:
                    pieces.append(texts.pop(place))
                pieces += _places(part, model)
        pieces += [text for _, text in sorted(texts.items())]
        return _native(ask.question, pieces, model, prompt, limit)
    return _verbatim(request, messages, model, prompt, limit)


def _places(handle: Handle, model: LatentModel) -> list[Piece]:
    """Where a handle's vectors go; one that stands for several chunks of a fixed length has several places."""
    window = model.decoder.window
    if handle.n_slots > window:
        raise InputError(f"{handle} stands for {handle.n_slots} vectors; the model reads {window} positions.")
    chunk = len(model.slot_tokens)
    if model.documents.rate is None and handle.chunk is None and handle.n_slots > chunk and not handle.n_slots % chunk:
        return [Vectors(chunk, handle=Handle(handle.key, chunk, index)) for index in range(handle.n_slots // chunk)]
    return [Vectors(handle.n_slots, handle=handle)]


def _pieces(context: CompressedContext, model: LatentModel) -> list[Piece]:
    if context.space not in (None, model.space):
        raise SpaceMismatchError(
            f"the context's vectors belong to the space {context.space!r}; this reader reads {model.space!r}.",
            hint="Use the reader of the compressor that made them: compressor.reader().",
        )
    pieces: list[Piece] = []
    titled: set[int] = set()
    for segment in context.segments:
        first = segment.sources[0].document if segment.sources else None
        if isinstance(segment, MemorySegment):
            pieces.append(Vectors(segment.n_slots, segment.vectors))
            titled |= set() if first is None else {first}  # the vectors hold it
            continue
        title = None if first is None or context.layout.title == "never" else context.documents[first].title
        new = first is not None and first not in titled
        pieces.append(f"{title}{context.layout.title_separator}{segment.text}" if title and new else segment.text)
        titled |= set() if first is None else {first}
    return pieces


def _messages(request: object) -> list[dict[str, str]]:
    """A prompt or a conversation as checked messages."""
    if isinstance(request, str):
        return [{"role": "user", "content": request}]
    if isinstance(request, Mapping) or not isinstance(request, Sequence):
        raise InputTypeError(
            f"expected a CompressedContext, a prompt or a list of messages, got {type(request).__name__}."
        )
    messages = []
    for index, message in enumerate(request):
        role = message.get("role") if isinstance(message, Mapping) else None
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(role, str) or not isinstance(content, str):
            raise InputTypeError(f"messages[{index}] must be {{'role': str, 'content': str}}, got {message!r}.")
        messages.append({"role": _ROLES.get(role, role), "content": content})
    if not messages:
        raise InputError("there are no messages.")
    return messages


def _question_of(parts: Sequence[str | Handle | Ask], messages: Sequence[Mapping[str, str]]) -> Ask | None:
    """The question, if an adapter left one, the result is whole, and nothing of a conversation would be lost."""
    asks = {part for part in parts if isinstance(part, Ask)}
    handles = [part for part in parts if isinstance(part, Handle)]
    one_turn = [message["role"] for message in messages if message["role"] != "system"].count("user") <= 1
    answered = any(message["role"] == "assistant" for message in messages)
    if len(asks) != 1 or not handles or not one_turn or answered:
        return None
    (ask,) = asks
    return ask if ask.digest == digest(handles) else None


def _native(
    question: str, pieces: Sequence[Piece], model: LatentModel, prompt: AnswerPrompt, limit: int
) -> PreparedRequest:
    text = model.decoder.text
    asked = text.harmless(question)

    # Without anything between two documents, their texts could join into a special token.
    bare = prompt.document == "{memory}"

    def write(kept: Sequence[Piece]) -> str:
        documents = "".join(
            prompt.document.format(
                index=index,
                memory=text.harmless(f"\n{each}\n" if bare else each)
                if isinstance(each, str)
                else model.placeholders(each.n_slots),
            )
            for index, each in enumerate(kept)
        )
        template = prompt.user if kept else prompt.user_without_documents
        user = template.format(documents=documents, question=asked, bos=text.bos)
        return user if prompt.system is None else render_chat(text.tokenizer, prompt.system, user)

    return _fit(write, list(pieces), range(len(pieces)), model, prompt.special_tokens, limit, "native")


def _verbatim(
    request: object, messages: Sequence[dict[str, str]], model: LatentModel, prompt: AnswerPrompt, limit: int
) -> PreparedRequest:
    text = model.decoder.text
    pieces: list[Piece] = []
    roles: list[str | None] = []  # the role that begins at a piece
    last_role = None
    for message in messages:
        content: list[Piece] = []
        for part in parse(message["content"]):
            if not isinstance(part, Ask):
                content += _places(part, model) if isinstance(part, Handle) else [part]
        content = content or [""]
        # Templates want user and assistant to take turns: neighbours of one role are one message.
        same = message["role"] == last_role
        pieces += ["\n", *content] if same else content
        roles += [None] * (len(content) + 1) if same else [message["role"], *[None] * (len(content) - 1)]
        last_role = message["role"]
    # Only vectors are dropped: text is the caller's own, and the question is somewhere in it.
    droppable = [index for index, piece in enumerate(pieces) if isinstance(piece, Vectors)]

    def write(kept: Sequence[Piece]) -> str:
        # ``kept`` has an empty text where something was dropped, so that roles keep their places.
        turns: list[dict[str, str]] = []
        run = ""  # text since the last vectors, made harmless as a whole: pieces might join into a special token
        for piece, role in zip(kept, roles, strict=True):
            if role is not None:
                if turns:
                    turns[-1]["content"] += text.harmless(run)
                turns.append({"role": role, "content": ""})
                run = ""
            if isinstance(piece, str):
                run += piece
            else:
                turns[-1]["content"] += text.harmless(run) + _in_place(piece, model, prompt.handle)
                run = ""
        turns[-1]["content"] += text.harmless(run)
        return turns[0]["content"] if isinstance(request, str) else _render(turns, model)

    plain = isinstance(request, str) or not model.decoder.text.tokenizer.chat_template
    return _fit(write, pieces, droppable, model, plain, limit, "verbatim")


def _in_place(piece: Vectors, model: LatentModel, template: str) -> str:
    return template.format(memory=model.placeholders(piece.n_slots))


def _render(turns: list[dict[str, str]], model: LatentModel) -> str:
    tokenizer = model.decoder.text.tokenizer
    if not tokenizer.chat_template:
        return "\n\n".join(turn["content"] for turn in turns)
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        if turns[0]["role"] == "system" and len(turns) > 1:
            joined = {"role": turns[1]["role"], "content": f"{turns[0]['content']}\n{turns[1]['content']}"}
            return _render([joined, *turns[2:]], model)
        raise OptionError(f"the chat template of {tokenizer.name_or_path!r} refuses the messages: {error}.") from error


def _fit(
    write: Callable[[Sequence[Piece]], str],
    pieces: list[Piece],
    droppable: Sequence[int],
    model: LatentModel,
    special_tokens: bool,
    limit: int,
    mode: Literal["native", "verbatim"],
) -> PreparedRequest:
    """Write, and write again with fewer pieces, until the ids fit."""
    text = model.decoder.text
    left = list(droppable)
    slots = sum(piece.n_slots for piece in pieces if isinstance(piece, Vectors))
    while left and slots > limit:  # by arithmetic first: nothing is tokenized that could not fit
        piece = pieces[left.pop()]
        slots -= piece.n_slots if isinstance(piece, Vectors) else 0
    slot_ids = {text.id_of(token) for token in model.slot_tokens}
    while True:
        kept = _without(pieces, droppable, left, mode)
        (found,) = text.encode([write(kept)], special_tokens=special_tokens)
        over = len(found.ids) - limit
        if over <= 0:
            vectors = [piece for piece in kept if isinstance(piece, Vectors)]
            assert sum(token in slot_ids for token in found.ids) == sum(piece.n_slots for piece in vectors)
            return PreparedRequest(found.ids, vectors, len(droppable) - len(left), mode)
        if not left:
            what = "the question alone" if mode == "native" else "the text of the prompt, without any vectors,"
            raise InputError(
                f"{what} makes {len(found.ids)} tokens; {limit} fit into the model's window beside the answer.",
                hint="Shorten it, or lower max_new_tokens.",
            )
        while left and over > 0:
            piece = pieces[left.pop()]
            over -= piece.n_slots if isinstance(piece, Vectors) else text.counter(piece)


def _without(pieces: list[Piece], droppable: Sequence[int], left: Sequence[int], mode: str) -> list[Piece]:
    gone = set(droppable) - set(left)
    if mode == "native":
        return [piece for index, piece in enumerate(pieces) if index not in gone]
    return ["" if index in gone else piece for index, piece in enumerate(pieces)]
