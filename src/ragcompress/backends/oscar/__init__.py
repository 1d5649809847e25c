"""OSCAR: documents become memory tokens for one question, and are ranked by the same pass."""

from ragcompress.backends.oscar.compressor import Oscar
from ragcompress.backends.oscar.config import OscarConfig

__all__ = ["Oscar", "OscarConfig"]
