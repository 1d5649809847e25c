"""Goldens of the latent systems, as fixtures: folders, texts and tensors."""

import json
from functools import cache
from pathlib import Path

from safetensors.torch import load_file

from ragcompress.latent.checkpoint import load_latent
from ragcompress.latent.options import LoadOptions

GOLDENS = Path(__file__).parent / "goldens"
TOLERANCE = 1e-4


@cache
def model(name):
    return load_latent(GOLDENS / name, LoadOptions(device="cpu"))


@cache
def tensors(name):
    return load_file(GOLDENS / name / "golden.safetensors")


@cache
def texts(name):
    return json.loads((GOLDENS / name / "golden.json").read_text(encoding="utf-8"))


def unpadded(ids, mask):
    """Rows without their padding."""
    return [row[keep.bool()].tolist() for row, keep in zip(ids, mask, strict=True)]
