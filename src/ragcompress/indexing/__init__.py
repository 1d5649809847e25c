"""Encode a corpus of any size ahead of time: resumable, duplicates once, on this machine or on a Ray cluster."""

from ragcompress.indexing.run import index

__all__ = ["index"]
