"""CLaRa: memory tokens that are retrieved and answered from in one latent space."""

from ragcompress.backends.clara.compressor import Clara
from ragcompress.backends.clara.config import ClaraConfig

__all__ = ["Clara", "ClaraConfig"]
