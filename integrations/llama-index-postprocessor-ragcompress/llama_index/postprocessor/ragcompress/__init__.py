"""Context compression for LlamaIndex: a postprocessor, a step for ingestion, an LLM that reads vectors, a retriever."""

from llama_index.postprocessor.ragcompress.base import RagCompressPostprocessor
from llama_index.postprocessor.ragcompress.counting import RagCompressPromptHelper
from llama_index.postprocessor.ragcompress.events import CompressionEndEvent, CompressionStartEvent
from llama_index.postprocessor.ragcompress.llm import RagCompressLLM, RagCompressLLMError
from llama_index.postprocessor.ragcompress.retriever import RagCompressRetriever
from llama_index.postprocessor.ragcompress.transform import RagCompressTransform

__all__ = [
    "RagCompressPostprocessor",
    "RagCompressTransform",
    "RagCompressRetriever",
    "RagCompressLLM",
    "RagCompressLLMError",
    "RagCompressPromptHelper",
    "CompressionStartEvent",
    "CompressionEndEvent",
]
