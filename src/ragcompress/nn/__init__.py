"""Bricks: pure tensor maths that knows no files and no tokenizers."""
