"""ragcompress for LangChain: a document compressor, a runnable, a retriever, and a chat model that reads vectors.

>>> from langchain_ragcompress import RagCompressor
>>> RagCompressor("recomp-extractive", top_k=4).backend
'recomp-extractive'
"""

from langchain_ragcompress.chat_model import ChatRagCompress
from langchain_ragcompress.compressor import RagCompressor
from langchain_ragcompress.retriever import RagCompressRetriever

__version__ = "0.1.0"
__all__ = ["ChatRagCompress", "RagCompressRetriever", "RagCompressor", "__version__"]
