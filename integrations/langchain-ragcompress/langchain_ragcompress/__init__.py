"""ragcompress for LangChain: a document compressor, a runnable and a retriever.

>>> from langchain_ragcompress import RagCompressor
>>> RagCompressor("recomp-extractive", top_k=4).backend
'recomp-extractive'
"""

from langchain_ragcompress.compressor import RagCompressor
from langchain_ragcompress.retriever import RagCompressRetriever

__version__ = "0.1.0"
__all__ = ["RagCompressRetriever", "RagCompressor", "__version__"]
