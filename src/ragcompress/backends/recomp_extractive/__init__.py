"""RECOMP's extractive compressor: a dual encoder ranks the sentences of all documents."""

from ragcompress.backends.recomp_extractive.compressor import RecompExtractive
from ragcompress.backends.recomp_extractive.config import RecompExtractiveConfig

__all__ = ["RecompExtractive", "RecompExtractiveConfig"]
