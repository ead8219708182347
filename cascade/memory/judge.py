"""Is a question nobody's own, do two ask the same, and so: may the answer to one be given to the other?

Logistic models over the questions' vectors and wording, in numpy: a verdict takes microseconds. Whether two ask the
same is first told by the likelihood ratio of two Gaussians, of what differs within an intent and between intents
(probabilistic linear discriminant analysis, Ioffe 2006). `fitting` makes the weights, `bound` says how sure one must
be; `weights/MODEL_CARD.md` says from what and how well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np

from cascade.embedder.serving import Reading
from cascade.memory import bound
from cascade.memory.wording import Buckets, buckets, overlap, words

WEIGHTS = Path(__file__).parent / "weights"
FILE = "memory.npz"
MANIFEST = "manifest.json"
ARRAYS = (
    *("meaning", "wording", "runs", "bias", "centre", "axes", "spread", "same", "fits", "known", "owned", "hit"),
    *("observed", "observed_own"),
)
COARSE = ("runs", "axes")
FINE = 127  # steps of a figure of `known` on disk
NEAREST = 20  # known questions around one
SHOWN = 8  # of the most similar stored questions that are judged
FAR = 12.0  # log odds beyond which nothing is told apart

Numbers = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Alike = Callable[[int, int], bool]  # do two stored answers say the same


class UnfitMemory(ValueError):
    """Weights that must not be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Question:
    """As the models read it."""

    text: str
    vector: Numbers  # (SIZE,), of length 1
    general: float  # log odds that the right answer is the same whoever asks
    around: Numbers  # `Judge.around`


@dataclass(frozen=True)
class Judge:
    """`meaning`, `wording`, `runs`, `bias`: of the log odds that one question is nobody's own."""

    version: str
    meaning: Numbers  # (SIZE,)
    wording: Numbers  # (SIZE,)
    runs: Numbers  # (BUCKETS,)
    bias: float
    centre: Numbers  # (SIZE,) of all meanings
    axes: Numbers  # (SIZE, AXES): along them, meanings of one intent vary by 1
    spread: Numbers  # (AXES,): the variance between intents
    same: Numbers  # (SAME + 1,), the last the bias
    fits: Numbers  # (FITS + 1,), the last the bias
    known: Numbers  # (QUESTIONS, AXES): directions of the questions that were learnt from, of length 1
    owned: Numbers  # (QUESTIONS,): is it somebody's own
    hit: Numbers  # (HIT + 1,), the last the bias
    observed: tuple[tuple[float, bool], ...]  # hits, for the bound: how sure, was it wrong
    observed_own: tuple[tuple[float, bool], ...]  # of questions of one customer: do they ask the same?

    def question(self, text: str, reading: Reading) -> Question:
        meaning, wording = np.asarray(reading.meaning, np.float64), np.asarray(reading.wording, np.float64)
        return Question(text, meaning, self.general(meaning, wording, buckets(text)), self.around(meaning[None])[0])

    def general(self, meaning: Numbers, wording: Numbers, runs: Buckets) -> float:
        """Log odds, -FAR..FAR."""
        said = self.runs[runs].sum() / max(1.0, len(runs)) ** 0.5
        return float(np.clip(meaning @ self.meaning + wording @ self.wording + said + self.bias, -FAR, FAR))

    def ask_the_same(self, one: Question, other: Question) -> float:
        """The probability that both want the same answer, if the same customer asked; 1 for the same words."""
        if words(one.text) == words(other.text):
            return 1.0
        return probability(_logit(self.same, squared(self.pair(one, other)[:3])))

    def may_serve(self, stored: Question, asked: Question) -> float:
        """The probability that the answer to `stored` is right for `asked`, whoever asks.

        Of the same words only one thing is in question: whether it matters who asks.
        """
        if words(stored.text) == words(asked.text):
            return probability(min(stored.general, asked.general))
        return probability(_logit(self.fits, squared(self.pair(stored, asked))))

    def pair(self, one: Question, other: Question) -> Numbers:
        """Likelihood ratio, cosine, words in common; the lower and the higher generality. In whichever order."""
        close, shared = float(one.vector @ other.vector), overlap(one.text, other.text)
        low, high = sorted((one.general, other.general))
        return np.array([self._likelihood(one, other) / 20, close, shared, low / 4, high / 4])

    def around(self, meanings: Numbers) -> Numbers:
        """(questions, 3): of the known questions nearest to each, the share that are somebody's own, the same with the
        nearest counting most, and how near the nearest is. Where much alike is somebody's own, doubt is due."""
        if not len(self.known):
            return np.zeros((len(meanings), 3))
        alike = self._directions(meanings) @ self.known.T
        nearest = np.argpartition(-alike, min(NEAREST, len(self.known)) - 1, axis=1)[:, :NEAREST]
        near, own = np.take_along_axis(alike, nearest, 1).astype(np.float64), self.owned[nearest]
        weights = np.exp(10 * (near - near.max(1, keepdims=True)))
        return np.stack([own.mean(1), (weights * own).sum(1) / weights.sum(1), near.max(1)], axis=1)

    def _directions(self, meanings: Numbers) -> Numbers:
        """Along the axes, each counting by how much it tells intents apart; of length 1."""
        told = (meanings - self.centre) @ self.axes * np.sqrt(self.spread / (1 + self.spread))
        found: Numbers = told / (np.linalg.norm(told, axis=1, keepdims=True) + 1e-9)
        return found.astype(np.float32)

    def surest(self, asked: Question, stored: Sequence[Question], alike: Alike) -> tuple[int, float]:
        """Which of the stored answers fits best, and the probability that it is right, whoever asks.

        `stored`: at most SHOWN, the most similar ones.
        """
        chances = [self.may_serve(each, asked) for each in stored]
        best = surest(chances, alike)[0]
        return best, probability(_logit(self.hit, squared(self.hit_features(asked, stored, chances, alike))))

    def hit_features(
        self, asked: Question, stored: Sequence[Question], chances: Sequence[float], alike: Alike
    ) -> Numbers:
        """How sure the best of the stored is, what speaks against it, and what is known around both questions."""
        best, agreed = surest(chances, alike)
        same = [chance for i, chance in enumerate(chances) if i == best or alike(best, i)]
        against = max((chance for i, chance in enumerate(chances) if i != best and not alike(best, i)), default=0.0)
        odds = [_log_odds(each) / 4 for each in (chances[best], agreed, sum(same) / len(same), against)]
        others = [float(each.vector @ asked.vector) for i, each in enumerate(stored) if i != best]
        crowd = [len(same) / SHOWN, sum(same) / SHOWN, sum(others) / max(1, len(others)), max(others, default=0.0)]
        pair = self.pair(stored[best], asked)
        return np.array([*odds, *crowd, *pair, *asked.around, stored[best].around[1]])

    def _likelihood(self, one: Question, other: Question) -> float:
        """Log of how much likelier the two meanings are if both have one intent."""
        u, v = (one.vector - self.centre) @ self.axes, (other.vector - self.centre) @ self.axes
        both, total, d = u * u + v * v, self.spread + 1, self.spread
        ratio = both / total - (total * both - 2 * d * u * v) / (total**2 - d**2)
        return float(ratio.sum() / 2)

    def threshold(self, tolerated: float) -> float:
        """Of `may_serve`, so that at most so large a share of hits is wrong."""
        return self._threshold("observed", tolerated)

    def threshold_own(self, tolerated: float) -> float:
        """Of `ask_the_same`, likewise, for a customer's own answers; the same words are always sure enough."""
        return min(1.0, self._threshold("observed_own", tolerated))

    def _threshold(self, observed: str, tolerated: float) -> float:
        known: dict[tuple[str, float], float] = self._thresholds
        if (observed, tolerated) not in known:
            known[observed, tolerated] = bound.threshold(getattr(self, observed), tolerated)
        return known[observed, tolerated]

    @cached_property
    def _thresholds(self) -> dict[tuple[str, float], float]:
        return {}


def probability(logit: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(logit, -500, 500))))


def _log_odds(chance: float) -> float:
    return float(np.log((chance + 1e-5) / (1 - chance + 1e-5)))


def surest(chances: Sequence[float], alike: Alike) -> tuple[int, float]:
    """Which of the stored answers fits best, and how sure that is.

    `chances`: that each fits. `alike(i, j)`: whether two answers say the same; those that say something else speak
    against the best, by their odds.
    """
    best = max(range(len(chances)), key=lambda i: chances[i])
    odds = [chance / (1.0 - chance + 1e-6) for chance in chances]
    agreed = sum(odds[i] for i in range(len(chances)) if i == best or alike(best, i))
    return best, chances[best] * agreed / (sum(odds) + 1e-12)


def squared(features: Numbers) -> Numbers:
    """They and their products."""
    rows, columns = np.triu_indices(len(features))
    return np.concatenate([features, (features[:, None] * features)[rows, columns]])


def _logit(weights: Numbers, features: Numbers) -> float:
    return float(features @ weights[:-1] + weights[-1])


# --- on disk ----------------------------------------------------------------------------------------


def save(judge: Judge, folder: Path, **facts: object) -> None:
    """`facts`: of data and figures, for the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = BytesIO()
    arrays = {name: np.asarray(getattr(judge, name), np.float32) for name in ARRAYS}
    arrays |= {name: arrays[name].astype(np.float16) for name in COARSE}
    arrays["known"] = np.round(FINE * arrays["known"]).astype(np.int8)
    np.savez_compressed(opened, **arrays)  # type: ignore[arg-type]  # its names are ours
    (folder / FILE).write_bytes(opened.getvalue())
    told = {"sha256": hashlib.sha256(opened.getvalue()).hexdigest(), **facts}
    (folder / MANIFEST).write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")


def load(folder: Path = WEIGHTS) -> Judge:
    """Raises UnfitMemory where the weights are not those that their manifest describes."""
    try:
        content, wanted = (folder / FILE).read_bytes(), json.loads((folder / MANIFEST).read_text())["sha256"]
    except (OSError, ValueError, KeyError) as problem:
        raise UnfitMemory(f"{folder} holds no weights of the memory: {problem}") from problem
    if (found := hashlib.sha256(content).hexdigest()) != wanted:
        raise UnfitMemory(f"{folder / FILE} is not the file that {MANIFEST} describes")
    with np.load(BytesIO(content)) as arrays:
        kept = {name: arrays[name].astype(np.float64) for name in arrays.files}
    kept["known"] = (kept["known"] / FINE).astype(np.float32)
    pairs = {name: _observed(kept.pop(name)) for name in ("observed", "observed_own")}
    return Judge(version=found[:12], bias=float(kept.pop("bias")), **kept, **pairs)  # type: ignore[arg-type]


def _observed(rows: Numbers) -> tuple[tuple[float, bool], ...]:
    return tuple((float(confidence), bool(wrong)) for confidence, wrong in rows)
