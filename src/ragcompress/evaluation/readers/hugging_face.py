"""Readers from the Hugging Face world: causal language models, encoder-decoders, GGUF files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from ragcompress.errors import InputError, OptionError
from ragcompress.evaluation.operations import count_parameters
from ragcompress.evaluation.prompts import HEADS
from ragcompress.evaluation.readers.base import PromptReader, Reading
from ragcompress.evaluation.readers.failures import Patience, each
from ragcompress.options import check_range
from ragcompress.tokens import TokenizerCounter, encodable, private_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH_TOKENS_CPU = 4096
_BATCH_TOKENS_GPU = 65_536


class _Prompt(NamedTuple):
    """A prompt in ids; ``head``: with which of ``HEADS`` it begins, None: with none."""

    ids: list[int]
    head: int | None


class HuggingFaceReader(PromptReader):
    """Goes on with prompts greedily, in batches of similar length.

    Prompts are read as they are, without a chat template: examples show even an instructed model what is wanted.
    Special-token strings in them are plain text. What is written for a prompt of this project ends at its first line
    end behind some text, as in its examples; for others, at an end token.

    What prompts of one kind begin with (the examples) is read once, with ``share_prefix``; then ``prefill_ms`` and
    ``total_ms`` are the times of what follows, as in any server that keeps prefixes, and ``n_prompt_tokens`` still
    counts all. Models for which that would change an answer (encoder-decoders, sliding windows) read all of it.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str | None = None,
        batch_tokens: int | None = None,
        max_new_tokens: int = 32,
        share_prefix: bool = True,
        fingerprint: str | None = None,
    ) -> None:
        """Take built objects; ``from_pretrained`` reads them from a folder, the hub or a file.

        Args:
            model: a causal language model or an encoder-decoder; put into evaluation mode, otherwise left alone.
            tokenizer: its fast tokenizer.
            name: for reports; None: the last part of the tokenizer's.
            batch_tokens: padded size of a batch, answers included; None: 4096 on a CPU, 65536 elsewhere.
            max_new_tokens: longest answer, in tokens.
            share_prefix: whether examples are read once instead of with each prompt.
            fingerprint: of the weights; None: made from them.

        Raises:
            OptionError: the model does not write, the tokenizer is a slow one, or a number is out of range.
        """
        from ragcompress.checkpoints import fingerprint_tensors
        from ragcompress.evaluation.readers.decoding import GreedyDecoder

        check_range("batch_tokens", batch_tokens, at_least=1, whole=True)
        check_range("max_new_tokens", max_new_tokens, at_least=1, whole=True)
        if not model.can_generate():
            raise OptionError(
                f"{type(model).__name__} does not write; a reader needs a causal language model or an encoder-decoder.",
                hint="For example AutoModelForCausalLM.from_pretrained(...).",
            )
        self.engine = private_tokenizer(tokenizer)
        self.tokenizer = tokenizer
        short = str(getattr(tokenizer, "name_or_path", "") or type(model).__name__)
        self.name = name or short.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1]
        self.token_counter = TokenizerCounter(self.engine, self.name)
        self.n_parameters = count_parameters(model)
        self.max_new_tokens = max_new_tokens
        end_ids = _ids(model.generation_config.eos_token_id) | _ids(tokenizer.eos_token_id)
        pad_id = next(iter([*sorted(_ids(tokenizer.pad_token_id)), *sorted(end_ids)]), 0)
        self._end_ids = end_ids
        self.decoder = GreedyDecoder(model, end_ids=end_ids, pad_id=pad_id, decode=self._decode)
        on_cpu = self.decoder.device.type == "cpu"
        self.batch_tokens = batch_tokens or (_BATCH_TOKENS_CPU if on_cpu else _BATCH_TOKENS_GPU)
        self.share_prefix = share_prefix and self.decoder.shares_prefixes()
        self._heads = self._encode(HEADS)
        self.window = _window(model.config)
        self._dtype = str(model.dtype).removeprefix("torch.")
        self._fingerprint = fingerprint or fingerprint_tensors(model.state_dict())

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | Path,
        *,
        device: str | None = None,
        dtype: str | None = None,
        revision: str | None = None,
        batch_tokens: int | None = None,
        max_new_tokens: int = 32,
        gguf_file: str | None = None,
        share_prefix: bool = True,
    ) -> Self:
        """Load a language model.

        Args:
            checkpoint: a folder, a hub id, or a GGUF file.
            device: ``"cuda"``, ``"mps"``, ``"cpu"``; None: the best there is.
            dtype: ``"float32"`` (default), ``"bfloat16"`` or ``"float16"``.
            revision: of a hub id.
            batch_tokens: padded size of a batch, answers included; None: 4096 on a CPU, 65536 elsewhere.
            max_new_tokens: longest answer, in tokens.
            gguf_file: name of a GGUF file in the folder, if it holds several.
            share_prefix: whether examples are read once instead of with each prompt.

        Returns:
            The reader.

        Raises:
            CheckpointError: it cannot be found or read, or it is a model that does not write.
            MissingExtraError: a GGUF file, and no package to read it.
            OptionError: a value is out of range.
        """
        from ragcompress.devices import pick_device
        from ragcompress.evaluation.readers.loading import load, locate
        from ragcompress.pretrained import number_format

        check_range("batch_tokens", batch_tokens, at_least=1, whole=True)
        check_range("max_new_tokens", max_new_tokens, at_least=1, whole=True)
        number_format(dtype)
        device = pick_device(device)
        place = locate(checkpoint, revision=revision, gguf_file=gguf_file)
        model, tokenizer = load(place, device=device, dtype=dtype)
        return cls(
            model,
            tokenizer,
            name=place.name,
            batch_tokens=batch_tokens,
            max_new_tokens=max_new_tokens,
            share_prefix=share_prefix,
            fingerprint=place.fingerprint,
        )

    def settings(self) -> Mapping[str, Any]:
        """Say what the answers, and their times, depend on; see ``ContextReader.settings``."""
        return {
            "name": self.name,
            "fingerprint": self._fingerprint,
            "dtype": self._dtype,
            "device": self.decoder.device.type,
            "max_new_tokens": self.max_new_tokens,
            "share_prefix": self.share_prefix,
            "batch_tokens": self.batch_tokens,
        }

    def complete(self, prompts: Sequence[str], *, max_new_tokens: int) -> list[Reading]:
        """Go on with some prompts; see ``PromptReader.complete``.

        Raises:
            InputError: a prompt is too long for the model's window.
        """
        read = self._prompts(prompts)
        for prompt in read:
            self._check_length(prompt, max_new_tokens)
        return self._read(read, max_new_tokens)

    def complete_each(
        self, prompts: Sequence[str], *, max_new_tokens: int, patience: Patience | None = None
    ) -> list[Reading | Exception]:
        """Go on with those prompts that fit into the window; see ``PromptReader.complete_each``."""
        patience = Patience() if patience is None else patience
        read = self._prompts(prompts)
        refused: dict[int, Exception] = {}
        for place, prompt in enumerate(read):
            try:
                self._check_length(prompt, max_new_tokens)
            except InputError as error:
                refused[place] = error
        fitting = [prompt for place, prompt in enumerate(read) if place not in refused]
        readings = iter(each(lambda part: self._read(part, max_new_tokens), fitting, patience))
        outcomes: list[Reading | Exception] = []
        for place in range(len(read)):
            if place in refused:
                patience.note(refused[place])
            outcomes.append(refused[place] if place in refused else next(readings))
        return outcomes

    def _prompts(self, prompts: Sequence[str]) -> list[_Prompt]:
        heads = [
            next((place for place, head in enumerate(HEADS) if prompt.startswith(head)), None) for prompt in prompts
        ]
        return [_Prompt(ids, head) for ids, head in zip(self._encode(prompts), heads, strict=True)]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        rows = [found.ids for found in self.engine.encode_batch_fast([encodable(text) for text in texts])]
        if self.decoder.is_encoder_decoder:
            return rows
        # Some tokenizers close a text with an end token, behind which a model has nothing to say.
        return [row[:-1] if row and row[-1] in self._end_ids else row for row in rows]

    def _check_length(self, prompt: _Prompt, max_new_tokens: int) -> None:
        n_tokens = len(prompt.ids)
        if not n_tokens:
            raise InputError(f"an empty prompt: {self.name} has nothing to go on from.")
        # An encoder-decoder writes elsewhere than it reads.
        beside = 0 if self.decoder.is_encoder_decoder else max_new_tokens
        if self.window is not None and n_tokens + beside > self.window:
            kept = f", of which {beside} are for the answer" if beside else ""
            raise InputError(
                f"a prompt of {n_tokens} tokens does not fit into the window of {self.name}: {self.window}{kept}.",
                hint="Keep less of the documents, give fewer of them, or use a reader with a longer window.",
            )

    def _read(self, prompts: Sequence[_Prompt], max_new_tokens: int) -> list[Reading]:
        from ragcompress.nn.batching import length_buckets

        readings: dict[int, Reading] = {}
        groups: dict[int | None, list[int]] = {}
        for place, prompt in enumerate(prompts):
            groups.setdefault(prompt.head, []).append(place)
        for head, places in groups.items():
            lengths = [len(prompts[place].ids) + max_new_tokens for place in places]
            for batch in length_buckets(lengths, self.batch_tokens):
                chosen = [places[index] for index in batch]
                written = self.decoder.continue_rows(
                    [prompts[place].ids for place in chosen],
                    max_new_tokens=max_new_tokens,
                    prefix=() if head is None or not self.share_prefix else self._heads[head],
                    one_line=head is not None,
                )
                for place, one in zip(chosen, written, strict=True):
                    n_read = len(prompts[place].ids)
                    text = self._decode(one.ids)
                    readings[place] = Reading(text, n_read, len(one.ids), one.prefill_ms, one.total_ms)
        return [readings[place] for place in range(len(prompts))]

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _ids(value: int | Sequence[int] | None) -> frozenset[int]:
    if value is None:
        return frozenset()
    return frozenset(map(int, value if isinstance(value, (list, tuple)) else [value]))


def _window(config: Any) -> int | None:  # noqa: ANN401 (each family has a class of its own)
    """How many tokens a model reads; None: no number binds it, as with T5's relative positions."""
    config = config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    relative = hasattr(config, "relative_attention_num_buckets")
    return int(positions) if positions and not relative else None
