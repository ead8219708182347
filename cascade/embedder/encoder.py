"""Texts to vectors by MiniLM on one thread: all-MiniLM-L6-v2, mean of its pieces, length 1 (arXiv 1908.10084).

In bf16 where the processor computes it natively, else in fp32; the two differ by less than 0.01 in cosine. For the
embedder's own process, commands and benches; the web process asks `serving.Embedder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.functional import normalize
from transformers import BertModel, logging

from cascade.embedder import SIZE
from cascade.scorer.engines import STEP, by_openvino, openvino

WORDING_LAYER = 4  # of 6: in the middle, how a thing is said is still told apart from what it is about
MOST_PIECES = 256  # of a text; the model was trained on no longer ones
AT_ONCE = 16  # texts
Vectors = np.ndarray[tuple[int, int], np.dtype[np.float32]]


class _MeanOfPieces(torch.nn.Module):
    def __init__(self, model: BertModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`ids`, `mask` (rows, pieces) -> meaning, of length 1, beside wording (rows, 2 SIZE)."""
        layers = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        weights = mask[:, :, None].to(layers[-1].dtype)
        meaning, wording = ((layer * weights).sum(1) / weights.sum(1) for layer in (layers[-1], layers[WORDING_LAYER]))
        return torch.cat([normalize(meaning), wording], dim=1)


class Encoder:
    """Loads once. `folder`: where `local_models.path_of(MODEL, root)` is."""

    def __init__(self, folder: Path) -> None:
        logging.set_verbosity_error()  # that the file holds a pooler, which is not used, is no news
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MOST_PIECES)
        self._tokenizer.no_padding()
        model = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager")
        self._compute = by_openvino(_MeanOfPieces(model), native_precision())

    def pieces(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def vectors(self, pieces: Sequence[list[int]]) -> Vectors:
        """(texts, 2 SIZE): the meaning of each, of length 1, and its wording. In one go: for a few texts."""
        length = -(-max(map(len, pieces)) // STEP) * STEP
        ids = torch.zeros(len(pieces), length, dtype=torch.long)
        mask = torch.zeros(len(pieces), length, dtype=torch.long)
        for row, each in enumerate(pieces):
            ids[row, : len(each)] = torch.tensor(each)
            mask[row, : len(each)] = 1
        return self._compute(ids, mask).numpy()

    def encode(self, texts: Sequence[str]) -> Vectors:
        """As `vectors`, of however many texts."""
        found = np.empty((len(texts), 2 * SIZE), np.float32)
        pieces = [self.pieces(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: len(pieces[i]))
        for at in range(0, len(order), AT_ONCE):
            rows = order[at : at + AT_ONCE]
            found[rows] = self.vectors([pieces[i] for i in rows])
        return found


def native_precision() -> str:
    return "bf16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"
