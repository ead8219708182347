"""What computes the network here: torch or OpenVINO, bf16 or fp32, alone or several texts at once, as measured.

`fastest` tries each when the scorer's process starts and keeps one. All compute the same logit, in their number
format; none is int8, which moves scores too far. Used by the scorer's own process; training stays with torch.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import DistilBertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from cascade.scorer import model as network

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would report each import to its maker
import openvino  # noqa: E402

STEP = 16  # pieces: lengths are rounded up, or OpenVINO would keep kernels for each of 512 lengths
TOGETHER = 4  # texts at once at most, where that is measured to be faster than one by one; bounds memory too
PROBE = (96, 144, 176, 192, 208, 224, 240, 256)  # pieces: the lengths that answers have
ROUNDS = 3
WORTH_WAITING = 1.1  # times faster: together, the first waits for the last
Compute = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # ids, mask (rows, pieces) -> logits (rows,)


@dataclass(frozen=True)
class Engine:
    """Stands where `network.logits` wants a model: takes ids and mask, gives logits."""

    name: str
    compute: Compute
    at_once: int  # texts it is given together

    def __call__(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SequenceClassifierOutput:
        """`input_ids`, `attention_mask`: (rows, pieces). The output's `logits`: (rows, 1), float32."""
        extra = -input_ids.shape[1] % STEP
        found = self.compute(pad(input_ids, (0, extra)), pad(attention_mask, (0, extra)))
        return SequenceClassifierOutput(logits=found.float()[:, None])


class FirstPiece(torch.nn.Module):
    """The same logit with a seventh less work: of the last layer, only what becomes of the first piece is computed.

    The classifier reads no other. Attention and order of operations are DistilBERT's.
    """

    def __init__(self, model: DistilBertForSequenceClassification) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`ids`, `mask` (rows, pieces) -> logits (rows,)."""
        hidden = self.model.distilbert.embeddings(ids)
        closed = (1 - mask[:, None, None, :]).to(hidden.dtype) * -1e9
        *layers, last = self.model.distilbert.transformer.layer
        for layer in layers:
            hidden = _layer(layer, hidden, hidden, closed)
        first = _layer(last, hidden[:, :1], hidden, closed)[:, 0]
        found: torch.Tensor = self.model.classifier(self.model.pre_classifier(first).relu())[:, 0]
        return found


def _layer(layer: torch.nn.Module, asking: torch.Tensor, hidden: torch.Tensor, closed: torch.Tensor) -> torch.Tensor:
    """What one transformer layer makes of the pieces `asking`, which may look at all of `hidden`."""
    attention = layer.attention
    rows, _, size = hidden.shape

    def heads(pieces: torch.Tensor) -> torch.Tensor:
        return pieces.view(rows, -1, attention.n_heads, size // attention.n_heads).transpose(1, 2)

    query, key, value = heads(attention.q_lin(asking)), heads(attention.k_lin(hidden)), heads(attention.v_lin(hidden))
    seen = scaled_dot_product_attention(query, key, value, attn_mask=closed)
    joined = layer.sa_layer_norm(attention.out_lin(seen.transpose(1, 2).reshape(rows, -1, size)) + asking)
    thought = layer.ffn.lin2(layer.ffn.activation(layer.ffn.lin1(joined)))
    made: torch.Tensor = layer.output_layer_norm(thought + joined)
    return made


def by_torch(model: DistilBertForSequenceClassification) -> Compute:
    module = FirstPiece(model).eval()

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def compute(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = module(ids, mask)
        return found

    return compute


def by_openvino(module: torch.nn.Module, precision: str) -> Compute:
    """`precision`: "bf16" or "f32". Converted in memory; the module is not needed any more."""
    example = torch.ones(2, STEP, dtype=torch.long)
    with torch.no_grad():
        converted = openvino.convert_model(module.eval(), example_input=(example, example), share_weights=False)
    limits = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}
    settings = {**limits, "INFERENCE_PRECISION_HINT": precision}
    request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()

    def compute(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(request.infer([ids.numpy(), mask.numpy()])[0].copy())

    return compute


def candidates(folder: Path) -> Iterator[tuple[str, Compute]]:
    """Each engine that this processor can run well, loaded when its turn comes."""
    short = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    plain = network.load(folder)[0]
    yield "openvino bf16" if short else "openvino fp32", by_openvino(FirstPiece(plain), "bf16" if short else "f32")
    yield "torch bf16" if short else "torch fp32", by_torch(plain.to(torch.bfloat16) if short else plain)


def fastest(folder: Path) -> Engine:
    """The engine that scores the probe in the least processor time; together only where a tenth is gained by it."""
    measured = {
        engine: _seconds(engine) * (1.0 if engine.at_once == 1 else WORTH_WAITING)
        for name, compute in candidates(folder)
        for engine in (Engine(name, compute, 1), Engine(name, compute, TOGETHER))
    }
    return min(measured, key=lambda engine: measured[engine])


def _seconds(engine: Engine) -> float:
    """Of the quickest round over the probe."""
    texts = [[101, *range(2_000, 1_998 + length), 102] for length in PROBE]
    chunks = [texts[at : at + engine.at_once] for at in range(0, len(texts), engine.at_once)]
    took = []
    for _ in range(ROUNDS):
        started = time.process_time()  # not the clock: others may be busy
        for chunk in chunks:
            network.logits(engine, chunk)  # type: ignore[arg-type]
        took.append(time.process_time() - started)
    return min(took)
