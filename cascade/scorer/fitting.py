"""The loop that changes the weights: batches of like length, bf16, on a GPU where there is one, checkpoints.

Deterministic with its seed. Which rows are learnt from, and what becomes of the weights, is `training`'s business.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from transformers import DistilBertForSequenceClassification

from cascade.scorer import model as network
from cascade.scorer.text import BUDGET

CHECKPOINT_EVERY = 200  # steps


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that decides the weights, beside the rows and what they start from."""

    epochs: int = 3
    window: int = 256  # word pieces
    budget: int = BUDGET  # pieces the text may have, by estimate
    learning_rate: float = 1e-4
    head_rate: float = 5.0  # times that, for the head
    warm_up: float = 0.06  # of all steps
    weight_decay: float = 0.01
    pieces_a_step: int = 2_048
    pair_weight: float = 1.0  # of the loss over pairs of a group, beside that over single answers
    rounds: int = 600  # trees
    added_rounds: int = 100  # trees on top of those of an earlier scorer
    swap_weight: float = 0.1  # of a made row, beside that of the row it was made from: facts swapped,
    beside_weight: float = 0.03  # and beside the point
    seed: int = 7
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Example:
    pieces: Sequence[int]
    target: float  # 1: good
    group: str  # a good answer and the bad ones made from it


def batches(found: Sequence[Example], config: TrainingConfig, epoch: int) -> list[list[Example]]:
    """One epoch: shuffled by group, then groups of like length together, so that pairs share a batch."""
    chance = random.Random(config.seed * 1_000 + epoch)  # noqa: S311
    groups: dict[str, list[Example]] = {}
    for example in found:
        groups.setdefault(example.group, []).append(example)
    order = list(groups.values())
    chance.shuffle(order)
    made: list[list[Example]] = []
    for start in range(0, len(order), 400):
        made += _of_like_length(order[start : start + 400], config.pieces_a_step)
    chance.shuffle(made)
    return made


def _of_like_length(groups: list[list[Example]], pieces: int) -> Iterator[list[Example]]:
    """Batches of whole groups, of at most about `pieces` pieces when padded."""
    batch: list[Example] = []
    for group in sorted(groups, key=_longest):
        if batch and (len(batch) + len(group)) * _longest(group) > pieces:
            yield batch
            batch = []
        batch += group
    yield batch


def _longest(group: Sequence[Example]) -> int:
    return max(len(example.pieces) for example in group)


def fit(
    model: DistilBertForSequenceClassification,
    found: Sequence[Example],
    config: TrainingConfig,
    *,
    checkpoint: Path,
    say: Callable[[int, int, float], None],
) -> None:
    """Train in place. `say(step, steps, loss)`; picks up at `checkpoint` when it is there."""
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu":
        model.set_attn_implementation("eager")  # a quarter faster than the fused one when training
    model.to(device)
    plan = [batch for epoch in range(config.epochs) for batch in batches(found, config, epoch)]
    optimiser = torch.optim.AdamW(_groups(model, config), lr=config.learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, len(plan), config.warm_up))
    done = _resume(checkpoint, model, optimiser, schedule)
    model.train()
    average = 0.7
    for step, batch in enumerate(plan):
        if step < done:
            continue
        average = 0.98 * average + 0.02 * _step(model, optimiser, batch, config.pair_weight)
        schedule.step()
        say(step + 1, len(plan), average)
        if (step + 1) % CHECKPOINT_EVERY == 0:
            _keep(checkpoint, model, optimiser, schedule, step + 1)
    model.to("cpu").eval()


def _step(
    model: DistilBertForSequenceClassification,
    optimiser: torch.optim.Optimizer,
    batch: Sequence[Example],
    pair_weight: float,
) -> float:
    ids, mask = (tensor.to(model.device) for tensor in network.batch_of([e.pieces for e in batch]))
    with torch.autocast(model.device.type, torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, 0]
    logits, targets = logits.float(), torch.tensor([e.target for e in batch], device=model.device)
    loss = binary_cross_entropy_with_logits(logits, targets)
    (loss + pair_weight * _pair_loss(logits, targets, [e.group for e in batch])).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return float(loss.item())


def _pair_loss(logits: torch.Tensor, targets: torch.Tensor, groups: Sequence[str]) -> torch.Tensor:
    """Mean of -log P(good outranks bad) over each group's pairs (RankNet, Burges et al. 2005); 0 without."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    group = torch.tensor([numbers[name] for name in groups], device=logits.device)
    pairs = (group[:, None] == group[None, :]) & (targets[:, None] > targets[None, :])
    margins = logits[:, None] - logits[None, :]
    return softplus(-margins[pairs]).mean() if pairs.any() else logits.sum() * 0


def _groups(model: DistilBertForSequenceClassification, config: TrainingConfig) -> list[dict[str, object]]:
    """The new head learns faster than the encoder it stands on; biases and norms are not decayed."""
    head = [p for name, p in model.named_parameters() if "classifier" in name]
    encoder = [p for name, p in model.named_parameters() if "classifier" not in name]
    return [
        {"params": [p for p in encoder if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in encoder if p.ndim <= 1], "weight_decay": 0.0},
        {"params": head, "weight_decay": 0.0, "lr": config.learning_rate * config.head_rate},
    ]


def _rate(step: int, steps: int, warm_up: float) -> float:
    """Linear up, then a cosine down to a fiftieth."""
    rising = max(1, int(steps * warm_up))
    if step < rising:
        return (step + 1) / rising
    return 0.02 + 0.98 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising))) / 2


def _keep(path: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, schedule: object, step: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
    state["random"] = torch.get_rng_state()
    torch.save({**state, "schedule": schedule.state_dict()}, path.with_suffix(".new"))  # type: ignore[attr-defined]
    path.with_suffix(".new").replace(path)


def _resume(path: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, schedule: object) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])  # type: ignore[attr-defined]
    torch.set_rng_state(state["random"])
    return int(state["step"])
