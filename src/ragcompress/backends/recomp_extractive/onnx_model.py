"""An encoder that runs in ONNX Runtime, with the few members of a transformers model that ``SentenceEncoder`` uses."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ragcompress.checkpoints import logger

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


class OnnxModel:
    """The graph of an encoder: ids and mask in, last hidden state out; float32 on the CPU."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, graph: Path, config: PretrainedConfig) -> None:
        """Open a session.

        Args:
            graph: an ``.onnx`` file.
            config: of the model that it was exported from.
        """
        self.graph = graph
        self.config = config
        self._open()

    def _open(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        self._session = onnxruntime.InferenceSession(str(self.graph), options, providers=["CPUExecutionProvider"])
        self._inputs = {node.name for node in self._session.get_inputs()}

    def state_dict(self) -> dict[str, Tensor]:
        """The weights are in the graph."""
        return {}

    def eval(self) -> OnnxModel:
        """It never trains."""
        return self

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        """Run the graph.

        Args:
            input_ids: (batch, seq_len).
            attention_mask: (batch, seq_len).

        Returns:
            ``last_hidden_state``: (batch, seq_len, width).
        """
        given = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": torch.zeros_like(input_ids),
        }
        feed = {name: tensor.numpy() for name, tensor in given.items() if name in self._inputs}
        return SimpleNamespace(last_hidden_state=torch.from_numpy(self._session.run(None, feed)[0]))

    def __getstate__(self) -> dict[str, Any]:
        """Where the graph is; a session cannot be pickled."""
        return {"graph": self.graph, "config": self.config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open a new session."""
        self.__dict__.update(state)
        self._open()


def exported(model: PreTrainedModel, fingerprint: str) -> Path:
    """Export an encoder, once; the graph is kept in the user's cache folder under the weights' fingerprint.

    Args:
        model: of transformers, on the CPU.
        fingerprint: of its weights.

    Returns:
        An ``.onnx`` file.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ragcompress" / "onnx"
    graph = cache / f"{fingerprint}.onnx"
    if graph.is_file():
        return graph
    logger.warning("exporting the encoder to %s, once", graph)
    cache.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(suffix=".onnx", dir=cache)
    os.close(handle)
    ids = torch.ones(2, 8, dtype=torch.long)
    axes = {0: "batch", 1: "seq_len"}
    try:
        torch.onnx.export(
            _LastState(model),
            (ids, ids),
            draft,
            input_names=["input_ids", "attention_mask"],
            output_names=["last_hidden_state"],
            dynamic_axes={"input_ids": axes, "attention_mask": axes, "last_hidden_state": axes},
            dynamo=False,
        )
        Path(draft).replace(graph)
    finally:
        Path(draft).unlink(missing_ok=True)
    return graph


class _LastState(torch.nn.Module):
    """Only the output that is used, so that the graph has one."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states
