"""How many documents another retriever is asked for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.vectorstores import VectorStoreRetriever


def asked_for(retriever: RetrieverLike, number: int | None, method: str) -> dict[str, Any]:
    """Put a number of documents into words that a retriever understands.

    Args:
        retriever: any.
        number: how many documents; None: as many as it returns.
        method: that will be called, ``"_get_relevant_documents"`` or its asynchronous twin.

    Returns:
        Keyword arguments for its ``invoke``; empty if it knows no ``k``, so that what it returns has to be cut.
    """
    return {"k": number} if number is not None and _understands_k(retriever, method) else {}


def _understands_k(retriever: RetrieverLike, method: str) -> bool:
    """Whether a retriever can be asked for a number of documents.

    One that merely takes any keyword may hand them to a service that knows no ``k``; the result is cut instead.
    """
    inner: object = retriever
    while isinstance(inner, RunnableBindingBase):  # what with_config and with_retry make
        inner = inner.bound
    if not isinstance(inner, BaseRetriever):
        return False
    return isinstance(inner, VectorStoreRetriever) or "k" in _signature(getattr(inner, method)).parameters


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    """From Python 3.14 on, annotations that only a type checker can resolve would be evaluated, and fail."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)
