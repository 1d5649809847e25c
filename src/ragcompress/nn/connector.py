"""The connector: carries the states of a separate compressor into the decoder's embedding space."""

from torch import nn


def connector(width_in: int, width_hidden: int, width_out: int) -> nn.Sequential:
    """Build linear, ReLU, linear, with biases (OSCAR, section 3; keys ``0.*`` and ``2.*``).

    Args:
        width_in: of the compressor's states.
        width_hidden: of the layer between; 8096 in the published OSCAR models (sic), 4096 in the 2026 format.
        width_out: of the decoder's embeddings.

    Returns:
        A module from (..., width_in) to (..., width_out), with random weights.
    """
    return nn.Sequential(nn.Linear(width_in, width_hidden), nn.ReLU(), nn.Linear(width_hidden, width_out))
