"""The network: MiniLM's encoder carried over exactly into DistilBERT's architecture, and a small head on top.

The encoder is never changed: it makes one vector of what was asked and one of what was answered, each the mean of its
pieces (Reimers and Gurevych, "Sentence-BERT", 2019). The head, which is trained, tells from both whether the answer is
to the point. Needs torch; imported by training, evaluation and the scorer's own process, never by the web process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import Dropout, Linear, ReLU, Sequential
from torch.nn.functional import normalize
from transformers import DistilBertConfig, DistilBertModel

from cascade.scorer.text import read
from cascade.values import Context

ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
LONGEST = 512  # word pieces the architecture can take


class WrongBytes(ValueError):
    """A file is not the one that was measured and pinned."""


class Pairing(torch.nn.Module):
    """The head: log odds that an answer is to the point, from the vectors of question and answer, each of length 1.

    It goes by how far both point the same way, in the learnt directions one by one and in all.
    """

    def __init__(self, size: int, directions: int = 64) -> None:
        super().__init__()
        self.asked, self.answered = Linear(size, directions), Linear(size, directions)
        self.judge = Sequential(Linear(directions + 1, directions), ReLU(), Dropout(0.2), Linear(directions, 1))

    def forward(self, asked: torch.Tensor, answered: torch.Tensor) -> torch.Tensor:
        """`asked`, `answered`: (rows, size). Returns (rows,)."""
        directions = self.asked(asked) * self.answered(answered)
        cosine = (asked * answered).sum(1, keepdim=True)
        found: torch.Tensor = self.judge(torch.cat([10 * directions, 3 * cosine], 1))[:, 0]  # of like size to start
        return found


class Network(torch.nn.Module):
    """Encoder and head."""

    def __init__(self, sizes: DistilBertConfig) -> None:
        super().__init__()
        self.distilbert = DistilBertModel(sizes)
        self.pairing = Pairing(sizes.dim)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`ids`, `mask` (texts, pieces) -> vectors of length 1 (texts, dim), float32."""
        ids, mask = ids.to(self.distilbert.device), mask.to(self.distilbert.device)
        hidden = self.distilbert(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return normalize((hidden * mask[:, :, None]).sum(1), dim=1)


class Reader(Protocol):
    """What computes: the network itself, or one of `engines`."""

    @property
    def pairing(self) -> Pairing: ...

    def __call__(self, ids: torch.Tensor, mask: torch.Tensor, /) -> torch.Tensor: ...


def tokenizer_of(path: Path) -> Tokenizer:
    """The tokenizer of a weights folder, or of the base encoder."""
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def encode(tokenizer: Tokenizer, text: str, window: int) -> tuple[int, ...]:
    """Ids of one text, cut at its end to `window` pieces."""
    ids: list[int] = tokenizer.encode(text).ids
    return tuple(ids if len(ids) <= window else [*ids[: window - 1], ids[-1]])


class Reading(NamedTuple):
    """All that the scorer goes by for one answer."""

    asked: tuple[int, ...]  # word pieces, for the network; none: it is not asked
    answered: tuple[int, ...]
    evidence: Sequence[float]  # for the trees
    terms: Sequence[str]

    def begun(self) -> Reading:
        """As of the beginning of an answer: whether it is to the point shows at its end, so the trees alone judge."""
        return self._replace(asked=(), answered=())


def reading(tokenizer: Tokenizer, context: Context, answer: str, window: int) -> Reading:
    """`window`: word pieces of either text."""
    found = read(context, answer)
    asked, answered = (encode(tokenizer, text, window) for text in (found.asked, found.answered))
    return Reading(asked, answered, found.evidence, found.terms)


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
    return DistilBertConfig(**{**sizes, "attn_implementation": "sdpa", **changes})


def from_minilm(folder: Path) -> tuple[Network, Tokenizer]:
    """The network with an untrained head. `folder` holds MiniLM's model.safetensors and tokenizer.json.

    Raises WrongBytes unless both are the pinned ones.
    """
    for name, expected in (("model.safetensors", ENCODER_SHA256), ("tokenizer.json", TOKENIZER_SHA256)):
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
            raise WrongBytes(f"{folder / name} is not sentence-transformers/all-MiniLM-L6-v2 as pinned")
    model = Network(config())
    weights = _as_distilbert(load_file(folder / "model.safetensors"))
    missing, unexpected = model.distilbert.load_state_dict(weights, strict=False)
    if missing or unexpected:
        raise WrongBytes(f"encoder does not fit: missing {missing}, unexpected {unexpected}")
    return model.eval(), tokenizer_of(folder / "tokenizer.json")


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


def save(model: Network, tokenizer: Tokenizer, folder: Path) -> None:
    """config.json, tokenizer.json and model.safetensors (the encoder in bf16, the head in fp32; under 50 MB)."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: (t.to(torch.bfloat16) if name.startswith("distilbert.") else t).detach().contiguous()
        for name, t in model.state_dict().items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    written = {**model.distilbert.config.to_dict(), "architectures": ["DistilBertModel"], "dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(written, indent=1, sort_keys=True) + "\n")
    tokenizer.save(str(folder / "tokenizer.json"))


def load(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Network, Tokenizer]:
    """A saved network, ready to read. `dtype`: the encoder's; the head is always fp32."""
    sizes = json.loads((folder / "config.json").read_text())
    model = Network(DistilBertConfig(**{**sizes, "attn_implementation": "sdpa"}))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.distilbert.to(dtype)
    return model.eval(), tokenizer_of(folder / "tokenizer.json")


def logits(reader: Reader, pairs: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[float]:
    """Log odds of each (asked, answered), in the order given. A text that comes twice is read once."""
    if not pairs:
        return []
    places = {text: place for place, text in enumerate(dict.fromkeys(text for pair in pairs for text in pair))}
    found = vectors(reader, list(places))
    asked, answered = (found[[places[pair[side]] for pair in pairs]] for side in (0, 1))
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        told: list[float] = reader.pairing(asked, answered).tolist()
    return told


@torch.inference_mode()  # type: ignore[untyped-decorator]
def vectors(reader: Reader, texts: Sequence[Sequence[int]], pieces_a_batch: int = 4_096) -> torch.Tensor:
    """(texts, dim), float32, in the order given; batches are made of texts of like length."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    read, batch = list[torch.Tensor](), list[int]()
    for position, i in enumerate(order):
        batch.append(i)
        longer = len(texts[order[position + 1]]) if position + 1 < len(order) else 0
        if position + 1 == len(order) or (len(batch) + 1) * longer > pieces_a_batch:
            read.append(reader(*batch_of([texts[j] for j in batch])).float().cpu())
            batch = []
    together = torch.cat(read)
    found = torch.empty_like(together)
    found[order] = together
    return found
