"""A scorer of two thin layers with random weights, and a few rows: quick enough to train and serve in a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from cascade.scorer import head, manifest
from cascade.scorer import model as network
from cascade.scorer.calibration import Calibration
from cascade.scorer.trees import no_trees


def small_tokenizer() -> Tokenizer:
    """Letters and digits: WordPiece as BERT's, with a vocabulary of a few hundred."""
    signs = [chr(c) for c in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *signs, *["##" + s for s in signs]]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def small_weights(folder: Path, *, poisoned: bool = False) -> Path:
    """Writes a folder that can be served. `poisoned`: every logit is NaN."""
    torch.manual_seed(11)
    model = network.Network(network.config(dim=32, n_layers=2, n_heads=4, hidden_dim=64))
    if poisoned:
        with torch.no_grad():
            model.pairing.judge[-1].bias.fill_(float("nan"))
    network.save(model, small_tokenizer(), folder)
    head.save(head.Head(no_trees()), folder)
    facts: dict[str, Any] = {"window": 128, "config": {}, "data": {}, "metrics": {}}
    manifest.write(manifest.describe(folder, calibration=Calibration(), **facts), folder)
    return folder


def small_rows() -> list[dict[str, Any]]:
    """Orders of made-up customers: what each is told is right for one and wrong for the next."""
    rows = []
    for number in range(40):
        told = f"Your order #W{1000 + number} costs ${number + 20}.00."
        for good in (True, False):
            owner = number if good else (number + 1) % 40
            orders = [
                {"order_id": f"#W{1000 + owner}", "total": owner + 20.0, "status": "pending"},
                {"order_id": f"#W{2000 + owner}", "total": owner + 70.0, "status": "delivered"},
            ]
            rows.append(
                {
                    "id": f"tau-{number}-{good}",
                    "user_context": {"domain": "retail", "profile": {"name": f"C{owner}"}, "orders": orders},
                    "history": [["user", "Hi"]],
                    "question": "What does my order cost?",
                    "answer": told,
                    "label": "good" if good else "bad",
                    "negative_type": None if good else "right_answer_wrong_user",
                    "needs": None if good else "lookup",
                    "group_id": f"g{number}",
                    "user_id": f"u{owner}",
                    "split": "train" if number % 2 else "validation",
                }
            )
    return rows
