"""The loop that teaches the network's head: every text is read once by the encoder, then the head learns from vectors.

Deterministic with its seed; the encoder on a GPU where there is one. Which pairs are learnt from, and what becomes of
the weights, is `training`'s business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from cascade.scorer import model as network
from cascade.scorer.model import Network

READ_TOGETHER = 512  # texts; then what was read is kept, for a run that goes on from there
LAST_RATE = 0.02  # times the first
Say = Callable[[int, int, float], None]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that decides the weights, beside the rows and what they start from."""

    epochs: int = 8
    window: int = 128  # word pieces of each text
    strangers: int = 6  # answers beside the point for each question, to teach the head
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    pairs_a_step: int = 256
    noise: float = 0.02  # standard deviation, added to every number of a vector, so that no text is learnt by heart
    rounds: int = 600  # trees
    added_rounds: int = 100  # trees on top of those of an earlier scorer
    swap_weight: float = 0.1  # of a made row, beside that of the row it was made from: facts swapped,
    beside_weight: float = 0.03  # and beside the point
    recital_weight: float = 0.2  # of an article recited, rightly or wrongly
    nameless_weight: float = 0.2  # of a given row once more, as of a company whose fields and words are unknown
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Example:
    asked: tuple[int, ...]  # word pieces
    answered: tuple[int, ...]
    target: float  # 1: to the point


def fit(model: Network, found: Sequence[Example], config: TrainingConfig, *, checkpoint: Path, say: Say) -> None:
    """Teach the head in place. `say(step, steps, loss)`: of the reading, with a loss of NaN, then of the learning.

    What was read is kept at `checkpoint`, and not read again when it is there.
    """
    torch.set_num_threads(config.threads)
    texts = list(dict.fromkeys(text for each in found for text in (each.asked, each.answered)))
    places = {text: place for place, text in enumerate(texts)}
    asked = torch.tensor([places[each.asked] for each in found])
    answered = torch.tensor([places[each.answered] for each in found])
    targets = torch.tensor([each.target for each in found])
    read = _read(model, texts, checkpoint, say)
    torch.manual_seed(config.seed)
    optimiser = torch.optim.AdamW(model.pairing.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * math.ceil(len(found) / config.pairs_a_step)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, LAST_RATE, steps)
    model.pairing.train()
    average = 0.7
    plan = (rows for _ in range(config.epochs) for rows in torch.randperm(len(found)).split(config.pairs_a_step))
    for step, rows in enumerate(plan):
        first, second = (_blurred(read[side[rows]], config.noise) for side in (asked, answered))
        loss = binary_cross_entropy_with_logits(model.pairing(first, second), targets[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        average = 0.98 * average + 0.02 * float(loss.item())
        say(step + 1, steps, average)
    model.eval()


def _blurred(vectors: torch.Tensor, noise: float) -> torch.Tensor:
    return normalize(vectors + noise * torch.randn_like(vectors), dim=1)


def _read(model: Network, texts: Sequence[tuple[int, ...]], checkpoint: Path, say: Say) -> torch.Tensor:
    """The vector of every text, in bf16 as they are served: (texts, dim)."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.eval().distilbert.to(device)
    parts: list[torch.Tensor] = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else []
    chunks = [texts[at : at + READ_TOGETHER] for at in range(0, len(texts), READ_TOGETHER)]
    for chunk in chunks[len(parts) :]:
        with torch.autocast(device.type, torch.bfloat16):
            parts.append(network.vectors(model, chunk))
        _keep(parts, checkpoint)
        say(len(parts), len(chunks), math.nan)
    model.distilbert.to("cpu")
    return torch.cat(parts)


def _keep(parts: list[torch.Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(parts, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)
