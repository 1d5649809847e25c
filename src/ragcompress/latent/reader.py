"""The reader of every latent backend: prompts with vectors spliced in, decoded by the model that they belong to."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ragcompress.errors import InputError, InputTypeError, MemoryNotFoundError, OptionError
from ragcompress.latent.generation import (
    Cancelled,
    StopAtStrings,
    TokenQueue,
    first_stop,
    generate_arguments,
    safe_length,
    stream_ids,
)
from ragcompress.latent.memory_rows import chunk_vectors
from ragcompress.latent.requests import PreparedRequest, Vectors, prepare
from ragcompress.memories import fetch
from ragcompress.nn.batching import length_buckets
from ragcompress.nn.splice import splice
from ragcompress.reader import Answer, GenerationOptions, PromptMode, Reader, Request, generation_options
from ragcompress.types import CompressedContext, Memory

if TYPE_CHECKING:
    from ragcompress.latent.model import LatentModel
    from ragcompress.memories import MemoryStore
    from ragcompress.prompts import AnswerPrompt

logger = logging.getLogger("ragcompress")

_BATCH_TOKENS_CPU = 4096
_BATCH_TOKENS_GPU = 65_536


class LatentReader(Reader):
    """Answers with the decoder of a latent model."""

    def __init__(
        self,
        model: LatentModel,
        *,
        store: MemoryStore | None = None,
        prompt: AnswerPrompt | None = None,
        batch_tokens: int | None = None,
        **defaults: Any,
    ) -> None:
        """Take built objects.

        Args:
            model: shared with the compressor.
            store: where handles are looked up; None: contexts can be answered, prompts with handles cannot.
            prompt: None: the model's published one.
            batch_tokens: padded size of a batch; None: by device.
            **defaults: of ``GenerationOptions``, for every call.

        Raises:
            OptionError: a generation option does not exist or is out of range.
        """
        generation_options(defaults)
        self.model = model
        self.store = store
        self.prompt = prompt or model.prompt
        self.batch_tokens = batch_tokens
        self.defaults = dict(defaults)
        self.space = model.space
        self.name = model.name
        self._slot_ids = torch.tensor(sorted({model.decoder.text.id_of(token) for token in model.slot_tokens}))

    @property
    def window(self) -> int:
        """How many tokens and slots the decoder reads, the answer included."""
        return self.model.decoder.window

    def inputs(self, contexts: Sequence[CompressedContext]) -> tuple[Tensor, Tensor]:
        """Build the decoder's inputs with the published prompt; see ``Reader.inputs``."""
        for context in contexts:
            if not isinstance(context, CompressedContext):
                raise InputTypeError(f"expected CompressedContexts, got {type(context).__name__}.")
        return self._embed([self._prepare(context, self._options({})) for context in contexts])

    def count(self, request: Request, *, prompt_mode: PromptMode | None = None) -> int:
        """Length of a request in tokens and slots; see ``Reader.count``."""
        mode = self._options({} if prompt_mode is None else {"prompt_mode": prompt_mode}).prompt_mode
        return len(prepare(request, self.model, self.prompt, mode, limit=1 << 60).ids)

    def generate(self, requests: Sequence[Request], **options: Any) -> list[Answer]:
        """Answer contexts, prompts or conversations; see ``Reader.generate``."""
        if isinstance(requests, (str, CompressedContext, Mapping)) or not isinstance(requests, Sequence):
            raise InputTypeError(
                f"expected a list of contexts or prompts, got a single {type(requests).__name__}.",
                hint="Put it in a list.",
            )
        chosen = self._options(options)
        prepared = [self._prepare(request, chosen) for request in requests]
        answers: list[Answer | None] = [None] * len(prepared)
        on_cpu = self.model.decoder.device.type == "cpu"
        limit = self.batch_tokens or (_BATCH_TOKENS_CPU if on_cpu else _BATCH_TOKENS_GPU)
        for batch in length_buckets([len(each.ids) + chosen.max_new_tokens for each in prepared], limit):
            rows = [prepared[index] for index in batch]
            for index, answer in zip(batch, self._decode(rows, chosen), strict=True):
                answers[index] = answer
        return [answer for answer in answers if answer is not None]

    def stream(self, request: Request, **options: Any) -> Generator[str, None, Answer]:
        """Answer one request as the tokens come; see ``Reader.stream``."""
        chosen = self._options(options)
        # Prepared before the first piece is asked for: errors belong to the call, not to the loop over its result.
        prepared = self._prepare(request, chosen)
        embeddings, mask = self._embed([prepared])
        return self._stream(prepared, embeddings, mask, chosen)

    def _stream(
        self, prepared: PreparedRequest, embeddings: Tensor, mask: Tensor, options: GenerationOptions
    ) -> Generator[str, None, Answer]:
        def run(tokens: TokenQueue, cancelled: Cancelled) -> None:
            self._generate(embeddings, mask, options, extra=[cancelled], streamer=tokens)

        ids: list[int] = []
        sent = 0
        for newest in stream_ids(run):
            ids += newest
            text, done = self._text(ids, options.stops)
            # An unfinished character decodes as U+FFFD, and an unfinished stop string must not be shown.
            safe = len(text) if done else safe_length(text.rstrip("\N{REPLACEMENT CHARACTER}"), options.stops)
            if safe > sent:
                yield text[sent:safe]
                sent = safe
            if done:
                break
        answer = self._answer(prepared, ids, options)
        if len(answer.text) > sent:
            yield answer.text[sent:]
        return answer

    def _options(self, options: Mapping[str, Any]) -> GenerationOptions:
        return generation_options(self.defaults | dict(options))

    def _prepare(self, request: Request, options: GenerationOptions) -> PreparedRequest:
        limit = self.window - options.max_new_tokens
        if limit < 1:
            raise OptionError(
                f"max_new_tokens={options.max_new_tokens} leaves no room in the model's window of {self.window}."
            )
        prepared = prepare(request, self.model, self.prompt, options.prompt_mode, limit)
        if prepared.n_dropped:
            logger.warning(
                "%d segments at the end did not fit into the model's window of %d and were left out",
                prepared.n_dropped,
                self.window,
            )
        return prepared

    def _embed(self, prepared: Sequence[PreparedRequest]) -> tuple[Tensor, Tensor]:
        """Ids, padded on the left, embedded, with the vectors in their places."""
        decoder = self.model.decoder
        if not prepared:
            return (
                torch.zeros(0, 0, decoder.width, dtype=decoder.dtype, device=decoder.device),
                torch.zeros(0, 0, dtype=torch.long, device=decoder.device),
            )
        seq_len = max(len(each.ids) for each in prepared)
        ids = torch.full((len(prepared), seq_len), decoder.text.pad_id)
        mask = torch.zeros_like(ids)
        for row, each in enumerate(prepared):
            ids[row, seq_len - len(each.ids) :] = torch.tensor(each.ids)
            mask[row, seq_len - len(each.ids) :] = 1
        is_slot = torch.isin(ids, self._slot_ids) & mask.bool()
        vectors = self._vectors([place for each in prepared for place in each.vectors])
        with torch.no_grad():
            embeddings = decoder.embed(ids.to(decoder.device))
            if vectors is not None:
                embeddings = splice(embeddings, is_slot.to(decoder.device), vectors)
        return embeddings, mask.to(decoder.device)

    def _vectors(self, places: Sequence[Vectors]) -> Tensor | None:
        """The vectors of all places, from where they are; one look-up for all that are in the store."""
        if not places:
            return None
        handles = [place.handle for place in places if place.handle is not None]
        memories: dict[str, Memory] = {}
        if handles:
            if self.store is None:
                raise MemoryNotFoundError(
                    f"the prompt holds the handle {handles[0]}, but this reader has no store to look it up in.",
                    hint="Pass the compressor's store: reader(store=...).",
                )
            keys = list(dict.fromkeys(handle.key for handle in handles))
            memories = dict(zip(keys, fetch(self.store, keys, space=self.space), strict=True))
        rows = []
        for place in places:
            found = place.vectors
            if found is None:
                assert place.handle is not None
                found = chunk_vectors(memories[place.handle.key], place.handle.chunk)
            if found.shape != (place.n_slots, self.model.decoder.width):
                raise InputError(
                    f"{place.handle or 'a segment'} has vectors of shape {tuple(found.shape)}; expected "
                    f"{(place.n_slots, self.model.decoder.width)}."
                )
            rows.append(found.to(self.model.decoder.device, self.model.decoder.dtype))
        return torch.cat(rows)

    def _decode(self, prepared: Sequence[PreparedRequest], options: GenerationOptions) -> list[Answer]:
        embeddings, mask = self._embed(prepared)
        rows = self._generate(embeddings, mask, options).tolist()
        return [self._answer(each, row, options) for each, row in zip(prepared, rows, strict=True)]

    def _answer(self, prepared: PreparedRequest, ids: Sequence[int], options: GenerationOptions) -> Answer:
        text, done = self._text(ids, options.stops)
        return Answer(
            text=text,
            n_prompt_slots=len(prepared.ids),
            n_new_tokens=len(self._until_end(ids)),
            truncated=prepared.n_dropped > 0,
            n_dropped=prepared.n_dropped,
            finish_reason="stop" if done else "length",
            prompt_mode=prepared.mode,
        )

    def _generate(
        self,
        embeddings: Tensor,
        mask: Tensor,
        options: GenerationOptions,
        *,
        extra: Sequence[Any] = (),
        streamer: TokenQueue | None = None,
    ) -> Tensor:
        from transformers import StoppingCriteriaList

        decoder = self.model.decoder
        criteria: list[Any] = list(extra)
        if options.stops:
            criteria.append(StopAtStrings(options.stops, decoder.text.decode))
        return decoder.generate(
            embeddings,
            mask,
            stopping_criteria=StoppingCriteriaList(criteria),
            streamer=streamer,
            **generate_arguments(options, decoder),
        )

    def _until_end(self, ids: Sequence[int]) -> Sequence[int]:
        for place, token in enumerate(ids):
            if token in self.model.decoder.end_ids:
                return ids[:place]
        return ids

    def _text(self, ids: Sequence[int], stops: Sequence[str]) -> tuple[str, bool]:
        """What ids say up to their end, and whether they came to one."""
        own = self._until_end(ids)
        text = self.model.decoder.text.decode(own)
        stop = first_stop(text, stops)
        if stop is not None:
            return text[:stop], True
        return text, len(own) < len(ids)
