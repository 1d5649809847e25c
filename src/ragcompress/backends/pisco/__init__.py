"""PISCO (and COCOM): documents become memory tokens, ahead of time and for any question."""

from ragcompress.backends.pisco.compressor import Pisco
from ragcompress.backends.pisco.config import PiscoConfig

__all__ = ["Pisco", "PiscoConfig"]
