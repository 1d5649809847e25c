"""RECOMP's abstractive compressor: an encoder-decoder writes what the documents say about the question, or nothing."""

from ragcompress.backends.recomp_abstractive.compressor import RecompAbstractive
from ragcompress.backends.recomp_abstractive.config import RecompAbstractiveConfig

__all__ = ["RecompAbstractive", "RecompAbstractiveConfig"]
