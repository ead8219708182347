"""A question as a vector: sentence encoder MiniLM-L6 where its files are at hand, else latent semantic analysis.

The encoder knows what questions are about; the analysis (Deerwester et al., 1990: the largest singular vectors of
the table of words) only which words they share. Either way vectors have length 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cascade.learning.finals import words
from cascade.learning.table import Numbers

PIECES = 64  # of a question that are read
SIZE = 384
DIRECTIONS = 24  # of the analysis


def encoded(texts: Sequence[str], folder: Path) -> Numbers:
    """(texts, 384). `folder` holds MiniLM's model.safetensors and tokenizer.json."""
    import torch

    from cascade.scorer.model import batch_of, from_minilm

    model, tokenizer = from_minilm(folder)
    tokenizer.enable_truncation(PIECES)
    pieces = [tokenizer.encode(text).ids for text in texts]
    order = sorted(range(len(texts)), key=lambda place: len(pieces[place]))
    found = np.empty((len(texts), SIZE))
    encoder = model.distilbert.eval()
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            batch = order[start : start + 64]
            ids, mask = batch_of([pieces[place] for place in batch])
            hidden = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            mean = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            found[batch] = torch.nn.functional.normalize(mean, dim=1).numpy()
    return found


class Analysis:
    """Latent semantic analysis, fitted on some texts; (texts, DIRECTIONS) of any."""

    def __init__(self, texts: Sequence[str]) -> None:
        from scipy.sparse.linalg import svds

        counts = Counter(word for text in texts for word in set(words(text)))
        kept = sorted(word for word, count in counts.items() if 4 <= count < 0.5 * len(texts))
        self.places = {word: place for place, word in enumerate(kept)}
        self.rarity = np.array([np.log(len(texts) / counts[word]) for word in kept])
        table = self._table(texts)
        size = min(DIRECTIONS, min(table.shape) - 1)
        self.directions = svds(table, k=size, v0=np.ones(min(table.shape)))[2].T if size > 0 else None

    def of(self, texts: Sequence[str]) -> Numbers:
        if self.directions is None:
            return np.zeros((len(texts), 1))
        found = np.asarray(self._table(texts) @ self.directions)
        return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9))

    def _table(self, texts: Sequence[str]):  # type: ignore[no-untyped-def]  # scipy's sparse matrices have no types
        from scipy.sparse import csr_matrix, diags

        rows = [Counter(word for word in words(text) if word in self.places) for text in texts]
        ends = np.cumsum([0, *map(len, rows)])
        columns = [self.places[word] for row in rows for word in row]
        values = np.array([1 + np.log(count) for row in rows for count in row.values()]) * self.rarity[columns]
        table = csr_matrix((values, columns, ends), shape=(len(rows), len(self.places)))
        length = np.sqrt(np.asarray(table.multiply(table).sum(axis=1)).ravel())
        return diags(1 / np.maximum(length, 1e-9)) @ table
