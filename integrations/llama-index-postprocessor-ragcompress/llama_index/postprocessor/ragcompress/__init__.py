"""Context compression for LlamaIndex: a node postprocessor for queries, a transformation for ingestion."""

from llama_index.postprocessor.ragcompress.base import RagCompressPostprocessor
from llama_index.postprocessor.ragcompress.events import CompressionEndEvent, CompressionStartEvent
from llama_index.postprocessor.ragcompress.transform import RagCompressTransform

__all__ = ["RagCompressPostprocessor", "RagCompressTransform", "CompressionStartEvent", "CompressionEndEvent"]
