"""Provence: one pass of an encoder reranks a document and says which of its sentences answer the question."""

from ragcompress.backends.provence.compressor import Provence
from ragcompress.backends.provence.config import ProvenceConfig
from ragcompress.backends.provence.rounding import compression_rate
from ragcompress.backends.provence.writing import KeptSentence

__all__ = ["KeptSentence", "Provence", "ProvenceConfig", "compression_rate"]
