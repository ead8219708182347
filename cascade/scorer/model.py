"""The network: MiniLM's encoder carried over exactly into DistilBERT's architecture, with one logit on top.

Needs torch; imported by training, evaluation and the scorer's own process, never by the web process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from cascade.scorer.text import MARKS, read
from cascade.values import Context

ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
LONGEST = 512  # word pieces the architecture can take


class WrongBytes(ValueError):
    """A file is not the one that was measured and pinned."""


def tokenizer_of(path: Path) -> Tokenizer:
    """The tokenizer of a weights folder, or of the base encoder, with the marks kept whole."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.add_special_tokens([AddedToken(token) for token, _ in MARKS.values()])
    return tokenizer


def encode(tokenizer: Tokenizer, text: str, window: int) -> list[int]:
    """Ids of one text, cut at its end to `window` pieces."""
    ids: list[int] = tokenizer.encode(text).ids
    return ids if len(ids) <= window else [*ids[: window - 1], ids[-1]]


class Reading(NamedTuple):
    """All that the scorer goes by for one answer."""

    pieces: Sequence[int]  # for the network
    evidence: Sequence[float]  # and these for the trees
    terms: Sequence[str]


def reading(tokenizer: Tokenizer, context: Context, answer: str, budget: int, window: int) -> Reading:
    """`budget`, `window`: word pieces, of the text as estimated and as counted."""
    text, evidence, terms = read(context, answer, budget=budget)
    return Reading(encode(tokenizer, text, window), evidence, terms)


def batch_of(encoded: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, padded to the longest, each (rows, pieces)."""
    longest = max(map(len, encoded))
    ids = torch.zeros(len(encoded), longest, dtype=torch.long)
    mask = torch.zeros(len(encoded), longest, dtype=torch.long)
    for row, pieces in enumerate(encoded):
        ids[row, : len(pieces)] = torch.tensor(pieces)
        mask[row, : len(pieces)] = 1
    return ids, mask


def config(**changes: Any) -> DistilBertConfig:
    """MiniLM-L6's sizes in DistilBERT's words."""
    sizes = {"dim": 384, "hidden_dim": 1536, "n_heads": 12, "n_layers": 6, "vocab_size": 30522}
    rates = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.1}
    return DistilBertConfig(**{**sizes, **rates, "num_labels": 1, "attn_implementation": "eager", **changes})


def from_minilm(folder: Path) -> tuple[DistilBertForSequenceClassification, Tokenizer]:
    """The untrained scorer. `folder` holds MiniLM's model.safetensors and tokenizer.json.

    Raises WrongBytes unless both are the pinned ones.
    """
    for name, expected in (("model.safetensors", ENCODER_SHA256), ("tokenizer.json", TOKENIZER_SHA256)):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise WrongBytes(f"{folder / name} is not sentence-transformers/all-MiniLM-L6-v2 as pinned")
    tokenizer = tokenizer_of(folder / "tokenizer.json")
    model = DistilBertForSequenceClassification(config())
    weights = _as_distilbert(load_file(folder / "model.safetensors"))
    _start_marks(weights["embeddings.word_embeddings.weight"], tokenizer)
    missing, unexpected = model.distilbert.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise WrongBytes(f"encoder does not fit: missing {missing}, unexpected {unexpected}")
    return model, tokenizer


def _as_distilbert(bert: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """BERT's tensors under DistilBERT's names; token type 0 is added to every position, the pooler dropped."""
    positions = bert["embeddings.position_embeddings.weight"] + bert["embeddings.token_type_embeddings.weight"][0]
    found = {"embeddings.position_embeddings.weight": positions}
    renames = (
        ("attention.self.query", "attention.q_lin"),
        ("attention.self.key", "attention.k_lin"),
        ("attention.self.value", "attention.v_lin"),
        ("attention.output.dense", "attention.out_lin"),
        ("attention.output.LayerNorm", "sa_layer_norm"),
        ("intermediate.dense", "ffn.lin1"),
        ("output.dense", "ffn.lin2"),
        ("output.LayerNorm", "output_layer_norm"),
    )
    for name, tensor in bert.items():
        if name.startswith("pooler") or "position" in name or "token_type" in name:
            continue
        new = name.replace("encoder.layer", "transformer.layer")
        for old, renamed in renames:
            if f".{old}." in new:
                new = new.replace(f".{old}.", f".{renamed}.")
                break
        found[new] = tensor
    return found


def _start_marks(embeddings: torch.Tensor, tokenizer: Tokenizer) -> None:
    """Each mark starts near the word that says what it means, instead of at an unused row."""
    for token, word in MARKS.values():
        embeddings[tokenizer.token_to_id(token)] = embeddings[tokenizer.token_to_id(word)] + 0.02 * torch.randn(
            embeddings.shape[1], generator=torch.Generator().manual_seed(tokenizer.token_to_id(token))
        )


def save(model: DistilBertForSequenceClassification, tokenizer: Tokenizer, folder: Path) -> None:
    """config.json, tokenizer.json and model.safetensors (bf16, under 50 MB)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().to(torch.bfloat16).contiguous() for name, t in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    written = {**model.config.to_dict(), "architectures": ["DistilBertForSequenceClassification"], "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))


def load(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[DistilBertForSequenceClassification, Tokenizer]:
    """A saved scorer, ready to score."""
    sizes = json.loads((folder / "config.json").read_text())
    model = DistilBertForSequenceClassification(DistilBertConfig(**{**sizes, "attn_implementation": "sdpa"}))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.to(dtype).eval(), tokenizer_of(folder / "tokenizer.json")


@torch.inference_mode()  # type: ignore[untyped-decorator]
def logits(
    model: DistilBertForSequenceClassification, encoded: Sequence[Sequence[int]], pieces_a_batch: int = 4_096
) -> list[float]:
    """One logit a text, in the order given; batches are made of texts of like length."""
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    found = [0.0] * len(encoded)
    batch: list[int] = []
    for position, i in enumerate(order):
        batch.append(i)
        longer = len(encoded[order[position + 1]]) if position + 1 < len(order) else 0
        if position + 1 == len(order) or (len(batch) + 1) * longer > pieces_a_batch:
            ids, mask = batch_of([encoded[j] for j in batch])
            for j, logit in zip(
                batch, model(input_ids=ids, attention_mask=mask).logits[:, 0].float().tolist(), strict=True
            ):
                found[j] = logit
            batch = []
    return found
