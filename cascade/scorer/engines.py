"""What computes the encoder here: torch or OpenVINO, bf16 or fp32, alone or several texts at once, as measured.

`fastest` tries each when the scorer's process starts and keeps one. All compute the same vectors, in their number
format; none is int8, which moves scores too far. Used by the scorer's own process; training stays with torch.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import pad

from cascade.scorer import model as network
from cascade.scorer.model import Network, Pairing

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would report each import to its maker
import openvino  # noqa: E402

STEP = 16  # pieces: lengths are rounded up, or OpenVINO would keep kernels for each of 512 lengths
TOGETHER = 4  # texts at once at most, where that is measured to be faster than one by one; bounds memory too
PROBE = (12, 16, 24, 32, 40, 56, 80, 128)  # pieces: the lengths that questions and answers have
ROUNDS = 3
WORTH_WAITING = 1.1  # times faster: together, the first waits for the last
Compute = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # ids, mask (texts, pieces) -> vectors (texts, dim)


@dataclass(frozen=True)
class Engine:
    """A `network.Reader`: stands where `network.logits` wants a model."""

    name: str
    compute: Compute
    at_once: int  # texts it is given together
    pairing: Pairing

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor, /) -> torch.Tensor:
        """`ids`, `mask`: (texts, pieces). The vectors: (texts, dim), float32."""
        parts = zip(ids.split(self.at_once), mask.split(self.at_once), strict=True)
        return torch.cat([self.compute(*_trimmed(*part)).float() for part in parts])


def _trimmed(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """As long as the longest of them, rounded up to a STEP."""
    longest = int(mask.sum(1).max())
    extra = -longest % STEP
    return pad(ids[:, :longest], (0, extra)), pad(mask[:, :longest], (0, extra))


def by_torch(model: Network) -> Compute:
    return torch.inference_mode()(model.eval())  # type: ignore[no-any-return, no-untyped-call]


def by_openvino(module: torch.nn.Module, precision: str) -> Compute:
    """`precision`: "bf16" or "f32". Converted in memory; the module is not needed any more."""
    example = torch.ones(2, STEP, dtype=torch.long)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # what is taken for constant is: tests compare
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
    yield "openvino bf16" if short else "openvino fp32", by_openvino(plain, "bf16" if short else "f32")
    if short:
        plain.distilbert.to(torch.bfloat16)
    yield "torch bf16" if short else "torch fp32", by_torch(plain)


def fastest(folder: Path) -> Engine:
    """The engine that reads the probe in the least processor time; together only where a tenth is gained by it."""
    pairing = network.load(folder)[0].pairing
    measured = {
        engine: _seconds(engine) * (1.0 if engine.at_once == 1 else WORTH_WAITING)
        for name, compute in candidates(folder)
        for engine in (Engine(name, compute, 1, pairing), Engine(name, compute, TOGETHER, pairing))
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
            network.vectors(engine, chunk)
        took.append(time.process_time() - started)
    return min(took)
