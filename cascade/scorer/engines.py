"""What computes the encoder here: torch or OpenVINO, bf16 or fp32, one text or several at once, as measured.

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
TOGETHER = 16  # turns and texts at once at most, where that is measured to be faster than one by one; bounds memory too
PROBE = (8, 9, 10, 10, 12, 14, 14, 17, 18, 20, 25, 27, 35, 49, 66, 128)  # pieces: questions and answers of eight turns
ROUNDS = 3
WORTH_WAITING = 1.1  # times faster: together, the first waits for the last
Compute = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # ids, mask (texts, pieces) -> vectors (texts, dim)


@dataclass(frozen=True)
class Engine:
    """A `network.Reader`: stands where `network.logits` wants a model."""

    name: str
    compute: Compute
    at_once: int  # turns it is given together, and texts of one length
    pairing: Pairing

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor, /) -> torch.Tensor:
        """`ids`, `mask`: (texts, pieces), the shortest first. The vectors: (texts, dim), float32."""
        return torch.cat([self.compute(*part).float() for part in _alike(ids, mask, self.at_once)])


def _alike(ids: torch.Tensor, mask: torch.Tensor, at_most: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`at_most` so many texts of one length, rounded up to a STEP: none pays for another's."""
    lengths, counts = torch.unique_consecutive(-(-mask.sum(1) // STEP) * STEP, return_counts=True)
    longer = -ids.shape[1] % STEP
    of_a_length = (pad(side, (0, longer)).split(counts.tolist()) for side in (ids, mask))
    for length, *sides in zip(lengths.tolist(), *of_a_length, strict=True):
        yield from zip(*(side[:, :length].split(at_most) for side in sides), strict=True)


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


def candidates(plain: network.Network) -> Iterator[tuple[str, Compute]]:
    """Each engine that this processor can run well, made when its turn comes; `plain` is the last one's own."""
    short = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    yield "openvino bf16" if short else "openvino fp32", by_openvino(plain, "bf16" if short else "f32")
    if short:
        plain.distilbert.to(torch.bfloat16)
    yield "torch bf16" if short else "torch fp32", by_torch(plain)


def fastest(folder: Path) -> Engine:
    """The engine that reads the probe in the least processor time; together only where a tenth is gained by it."""
    plain = network.load(folder)[0]
    measured = {
        engine: _seconds(engine) * (1.0 if engine.at_once == 1 else WORTH_WAITING)
        for name, compute in candidates(plain)
        for engine in (Engine(name, compute, 1, plain.pairing), Engine(name, compute, TOGETHER, plain.pairing))
    }
    return min(measured, key=lambda engine: measured[engine])


def _seconds(engine: Engine) -> float:
    """Of the quickest round over the probe."""
    texts = [[101, *range(2_000, 1_998 + length), 102] for length in PROBE]
    took = []
    for _ in range(ROUNDS):
        started = time.process_time()  # not the clock: others may be busy
        network.vectors(engine, texts)
        took.append(time.process_time() - started)
    return min(took)
