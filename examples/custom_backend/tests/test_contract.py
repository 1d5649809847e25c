"""The whole contract, from ``ragcompress.testing``."""

from ragcompress_keywords import KeywordCompressor

from ragcompress.testing import CompressorContract


class TestKeywords(CompressorContract):
    def make(self) -> KeywordCompressor:
        return KeywordCompressor(top_k=3)
