"""What the postprocessor tells LlamaIndex's instrumentation."""

from __future__ import annotations

from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # theirs, without __all__
from llama_index.core.instrumentation.events import BaseEvent

dispatcher = get_dispatcher("llama_index.postprocessor.ragcompress")


class CompressionStartEvent(BaseEvent):
    """Nodes are about to be compressed.

    Attributes:
        backend: name of the compressor.
        query: None: the nodes came without one.
        node_ids: of the nodes that came in, in their order.
    """

    backend: str
    query: str | None
    node_ids: list[str]

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return "CompressionStartEvent"


class CompressionEndEvent(BaseEvent):
    """Nodes were compressed, or passed through.

    Attributes:
        backend: name of the compressor.
        node_ids: of the nodes that go out, in their order.
        skipped: why nothing was compressed; None: it was.
        n_tokens: length of what came in, in the tokens of ``counter``; None together with a reason in ``skipped``.
        n_slots: length of what goes out, in the same tokens (memory tokens count one each).
        counter: name of the token counter.
        truncated: whether a part of the input was not read because of a limit of the model.
    """

    backend: str
    node_ids: list[str]
    skipped: str | None = None
    n_tokens: int | None = None
    n_slots: int | None = None
    counter: str | None = None
    truncated: bool = False

    @classmethod
    def class_name(cls) -> str:
        """Name of the event."""
        return "CompressionEndEvent"
