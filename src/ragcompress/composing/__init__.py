"""Compressors made of compressors: pipelines, and the small stages that refine what other stages kept."""

from ragcompress.composing.budget import TokenBudget, TokenBudgetConfig
from ragcompress.composing.deduplicating import Deduplicate, DeduplicateConfig
from ragcompress.composing.pipeline import Pipeline
from ragcompress.composing.plain import info_of
from ragcompress.composing.refining import ContextCompressor

__all__ = [
    "ContextCompressor",
    "Deduplicate",
    "DeduplicateConfig",
    "Pipeline",
    "TokenBudget",
    "TokenBudgetConfig",
    "info_of",
]
