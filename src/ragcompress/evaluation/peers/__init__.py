"""Other people's compressors, for comparison: imported when they are asked for, skipped where they cannot run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ragcompress.errors import MissingExtraError, OptionError, RagCompressError, unknown_name_message
from ragcompress.evaluation.peers.base import Completes, Peer
from ragcompress.evaluation.peers.cross_encoder import CrossEncoderRanker
from ragcompress.evaluation.peers.langchain_extractor import LangChainExtractor
from ragcompress.evaluation.peers.langchain_filter import LangChainFilter
from ragcompress.evaluation.peers.llama_index_optimizer import LlamaIndexOptimizer
from ragcompress.evaluation.peers.llmlingua2 import LLMLingua2
from ragcompress.evaluation.peers.trimming import Trimwise
from ragcompress.evaluation.readers.failures import describe
from ragcompress.options import build_config

__all__ = ["PEERS", "Peer", "build_peer", "check_peer", "find_peer"]

PEERS: Mapping[str, type[Peer]] = {
    peer.name: peer
    for peer in (LlamaIndexOptimizer, LangChainFilter, LangChainExtractor, Trimwise, LLMLingua2, CrossEncoderRanker)
}


def find_peer(name: str) -> type[Peer]:
    """Look a peer up.

    Args:
        name: as in ``PEERS``.

    Returns:
        Its class; ``missing`` says whether it can run here.

    Raises:
        OptionError: there is none of this name; lists those there are, closest first.
    """
    if not isinstance(name, str) or name not in PEERS:
        raise OptionError(unknown_name_message("peer", name, list(PEERS)))
    return PEERS[name]


def check_peer(name: str, options: Mapping[str, Any]) -> None:
    """Check the options of a peer without loading anything, and whether or not it can run here.

    Args:
        name: as in ``PEERS``.
        options: fields of its ``config_class``.

    Raises:
        OptionError: the peer or an option does not exist, is missing, or is out of range.
    """
    build_config(find_peer(name).config_class, options)


def build_peer(name: str, *, reader: Completes | None = None, **options: Any) -> Peer:
    """Build a peer.

    Args:
        name: as in ``PEERS``.
        reader: of the evaluation; for peers that ask a language model.
        **options: fields of its ``config_class``.

    Returns:
        The peer.

    Raises:
        OptionError: the peer or an option does not exist, is missing, or is out of range.
        MissingExtraError: it cannot run here; ``Peer.missing`` says so beforehand, unless its packages are broken.
        CheckpointError: its weights cannot be found or do not fit.
    """
    peer = find_peer(name)
    config = build_config(peer.config_class, options)
    if (reason := peer.missing()) is not None:
        raise MissingExtraError(reason)
    try:
        return peer.load(config, reader)
    except RagCompressError:
        raise
    except Exception as error:  # a package that is there and broken raises whatever it likes
        raise MissingExtraError(f"{name} cannot be loaded: {describe(error)}") from error
