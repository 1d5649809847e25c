"""The built-in compressors, one folder each; no backend imports another."""
