"""The wide and deep head: what the network read beside what the alignment counted, joined into one logit.

After Cheng et al., "Wide & deep learning for recommender systems" (2016). The network reads wording; the counts carry
what it learns slowly from few examples. The encoder is trained first and stays as it is while the head is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import Dropout, Linear, Module
from torch.nn.functional import binary_cross_entropy_with_logits, gelu
from transformers import DistilBertForSequenceClassification

from cascade.scorer import evidence
from cascade.scorer import model as network

NAME = "head.safetensors"
EPOCHS, ROWS_A_STEP, LEARNING_RATE, WEIGHT_DECAY = 30, 128, 2e-3, 0.02
Reading = tuple[Sequence[int], Sequence[float]]  # word pieces and evidence of one answer


class Head(Module):
    """`logit` (rows,): the network's own; `counted` (rows, evidence.SIZE)."""

    mean: torch.Tensor
    spread: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(evidence.SIZE))
        self.register_buffer("spread", torch.ones(evidence.SIZE))
        self.read, self.counted, self.drop = Dropout(0.3), Dropout(0.1), Dropout(0.2)
        self.first, self.second, self.last = Linear(1 + evidence.SIZE, 128), Linear(128, 64), Linear(64, 1)

    def forward(self, logit: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """One logit a row."""
        known = self.counted((counted - self.mean) / self.spread)
        joined = gelu(self.first(torch.cat([self.read(logit[:, None]), known], dim=1)))
        found: torch.Tensor = self.last(gelu(self.second(self.drop(joined))))
        return found[:, 0]


def fit(logit: torch.Tensor, counted: torch.Tensor, good: Sequence[bool], seed: int) -> Head:
    """A head for an encoder that is trained already; deterministic with its seed."""
    torch.manual_seed(seed)
    head, target = Head(), torch.tensor(good, dtype=torch.float32)
    head.mean.copy_(counted.mean(0))
    head.spread.copy_(counted.std(0).clamp(min=0.05))
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(target) // ROWS_A_STEP)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(target)).split(ROWS_A_STEP):
            loss = binary_cross_entropy_with_logits(head(logit[rows], counted[rows]), target[rows])
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            schedule.step()
    return head.eval()


def save(head: Head, folder: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in head.state_dict().items()}, folder / NAME)


def load(folder: Path) -> Head:
    head = Head()
    head.load_state_dict(load_file(folder / NAME))
    return head.eval()


@torch.inference_mode()  # type: ignore[untyped-decorator]
def logits(model: DistilBertForSequenceClassification, head: Head, readings: Sequence[Reading]) -> list[float]:
    """The scorer's logit of every reading, in the order given."""
    if not readings:
        return []
    read = torch.tensor(network.logits(model, [pieces for pieces, _ in readings]))
    found: list[float] = head(read, torch.tensor([counted for _, counted in readings])).tolist()
    return found
