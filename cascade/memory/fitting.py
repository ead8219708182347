"""Learns a `judge.Judge` from labelled questions and pairs.

What a model says of what it learnt from is worth nothing to the next one. So questions and pairs are scored in parts,
each by models that saw neither them nor, for two intents in five, anything of their intent: on these scores the next
stage is learnt, and hits are observed for the bound. Deterministic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from cascade.embedder import SIZE
from cascade.embedder.serving import Reading
from cascade.memory import judge as judging
from cascade.memory.judge import SHOWN, Judge, Numbers, Question
from cascade.memory.twins import made
from cascade.memory.wording import BUCKETS, buckets

FOLDS = 5
SMALL = (4, 8, 16, 64)  # of a full memory one in so many is stored in those that are replayed beside it
UNSEEN = 2  # of five intents are scored by models that saw none of their questions
AXES = 128
SHRINK = 0.05  # of covariances, towards a ball
MEANING, WORDING, RUNS = 2.0, 3.0, 2.0  # scales, for the ridge penalty treats all features alike
GENERAL_RIDGE, PAIR_RIDGE, HIT_RIDGE = 0.3, 1.0, 5.0
MOST_STEPS = 80
AGAIN = 8  # of the questions, two in so many are also asked as ones that were asked before
NOTHING = np.zeros(0)
Readings = Mapping[str, Reading]  # of each text


@dataclass(frozen=True, slots=True)
class Asked:
    """A labelled question."""

    id: str
    text: str
    intent: str
    personal: bool


@dataclass(frozen=True, slots=True)
class Pair:
    one: str
    other: str
    same: bool  # both ask the same
    serves: bool  # the answer to one may be given to the other, whoever asks
    personal: bool  # both are somebody's own
    kind: str


def learn(questions: Sequence[Asked], pairs: Sequence[Pair], readings: Readings) -> Judge:
    """Raises ValueError where there is nothing to tell apart."""
    judge = intents_apart(general(questions, readings), questions, readings)
    honest = _honest(questions, readings)
    texts = {each.text for each in questions} | {text for pair in pairs for text in (pair.one, pair.other)}
    read = {text: _read(judge, honest, text, readings) for text in texts}
    features = np.stack([_judge_of(honest, p.one, judge).pair(read[p.one], read[p.other]) for p in pairs])
    same, serves = np.array([pair.same for pair in pairs]), np.array([pair.serves for pair in pairs])
    judge = replace(
        judge,
        same=ridge(Rows(_squared(features[:, :3])), same, PAIR_RIDGE),
        fits=ridge(Rows(_squared(features)), serves, PAIR_RIDGE),
    )
    own = [
        (judging.probability(float(judging.squared(row[:3]) @ judge.same[:-1] + judge.same[-1])), not pair.same)
        for row, pair in zip(features, pairs, strict=True)
        if pair.personal
    ]
    tried = [case for stored, asked in memories(questions) for case in cases(stored, asked, read)]
    for number, others in enumerate((memory(questions)[0], [])):  # beside much else, and alone
        repeated = [each for each in questions if hashed(each.id) // 2 % AGAIN == number]
        tried += cases(others, repeated, read, again=True)
    hit, observed = _hit(lambda text: replace(_judge_of(honest, text, judge), fits=judge.fits), tried)
    return replace(judge, hit=hit, observed=tuple(observed), observed_own=tuple(own))


# --- is it nobody's own? ----------------------------------------------------------------------------


def general(questions: Sequence[Asked], readings: Readings) -> Judge:
    """A judge that can tell general questions from personal ones, and no more. Learns from made twins, too."""
    questions = [*questions, *(Asked("", text, "", personal) for text, personal in made())]
    meaning = np.array([readings[each.text].meaning for each in questions], np.float32)
    wording = np.array([readings[each.text].wording for each in questions], np.float32)
    centre, scale = wording.mean(0), WORDING / (wording.std(0) + 1e-6) / SIZE**0.5
    rows = Rows(np.hstack([MEANING * meaning, (wording - centre) * scale]), _runs(questions))
    labels = np.array([not each.personal for each in questions])
    weights = ridge(rows, labels, GENERAL_RIDGE, balanced=True)
    of_wording = weights[SIZE : 2 * SIZE] * scale
    return Judge(
        version="",
        meaning=MEANING * weights[:SIZE],
        wording=of_wording,
        runs=RUNS * weights[2 * SIZE : -1],
        bias=float(weights[-1] - centre @ of_wording),
        **dict.fromkeys(("centre", "axes", "spread", "same", "fits", "known", "owned", "hit"), NOTHING),
        observed=(),
        observed_own=(),
    )


def _runs(questions: Sequence[Asked]) -> csr_matrix:
    found = [buckets(each.text) for each in questions]
    ends = np.cumsum([0, *map(len, found)])
    values = np.concatenate([np.full(len(each), RUNS / len(each) ** 0.5, np.float32) for each in found])
    return csr_matrix((values, np.concatenate(found), ends), shape=(len(questions), BUCKETS))


# --- do two ask the same? ---------------------------------------------------------------------------


def intents_apart(judge: Judge, questions: Sequence[Asked], readings: Readings) -> Judge:
    """With the directions in which intents differ more than the questions of one do."""
    meaning = np.array([readings[each.text].meaning for each in questions])
    names = np.array([each.intent for each in questions])
    centre = meaning.mean(0)
    groups = [meaning[names == name] - centre for name in sorted(set(names.tolist()))]
    groups = [group for group in groups if len(group) > 2]
    within = sum((group - group.mean(0)).T @ (group - group.mean(0)) for group in groups)
    within = _shrunk(within / sum(len(group) - 1 for group in groups))
    between = _shrunk(np.cov(np.array([group.mean(0) for group in groups]).T))
    spread, axes = eigh(between, within, subset_by_index=[SIZE - AXES, SIZE - 1])
    apart = replace(judge, centre=centre, axes=axes, spread=spread)
    known = apart._directions(meaning)
    return replace(apart, known=known, owned=np.array([each.personal for each in questions], np.float64))


def _shrunk(covariance: Numbers) -> Numbers:
    ball: Numbers = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return (1 - SHRINK) * covariance + SHRINK * ball


# --- by models that did not see it ------------------------------------------------------------------


def _honest(questions: Sequence[Asked], readings: Readings) -> dict[str, Judge]:
    """For each text, a judge that learnt nothing from it."""
    found: dict[str, Judge] = {}
    parts = [_part(each) for each in questions]
    for part in sorted(set(parts)):
        inside = [each for each, of in zip(questions, parts, strict=True) if of != part]
        judge = intents_apart(general(inside, readings), inside, readings)
        found |= {each.text: judge for each, of in zip(questions, parts, strict=True) if of == part}
    return found


def _part(question: Asked) -> int:
    """Of one part with its whole intent, or by itself."""
    by_intent = hashed(question.intent) % FOLDS < UNSEEN
    return hashed(("all of " + question.intent) if by_intent else question.id) % FOLDS


def _judge_of(honest: Mapping[str, Judge], text: str, judge: Judge) -> Judge:
    return honest.get(text, judge)


def _read(judge: Judge, honest: Mapping[str, Judge], text: str, readings: Readings) -> Question:
    return _judge_of(honest, text, judge).question(text, readings[text])


def hashed(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)


# --- logistic regression ----------------------------------------------------------------------------


class Rows:
    """Examples: dense features beside sparse ones."""

    def __init__(self, dense: Numbers, sparse: csr_matrix | None = None) -> None:
        self.dense, self.sparse = dense, sparse if sparse is not None else csr_matrix((len(dense), 0))
        self._turned = self.sparse.T.tocsr()
        self.count = dense.shape[1] + self.sparse.shape[1]

    def times(self, weights: Numbers) -> Numbers:
        size = self.dense.shape[1]
        found: Numbers = self.dense @ weights[:size] + self.sparse @ weights[size:]
        return found

    def turned_times(self, pulls: Numbers) -> Numbers:
        return np.concatenate([self.dense.T @ pulls, self._turned @ pulls])


def ridge(rows: Rows, labels: Numbers, penalty: float, *, balanced: bool = False) -> Numbers:
    """Logistic regression with a ridge penalty on all weights but the bias, which comes last. Raises ValueError."""
    positive = labels.astype(bool)
    if positive.all() or not positive.any():
        raise ValueError("the examples are all of one kind")
    share = positive.mean() if balanced else 0.5
    weigh, sign = np.where(positive, 0.5 / share, 0.5 / (1 - share)), np.where(positive, 1.0, -1.0)

    def loss(weights: Numbers) -> tuple[float, Numbers]:
        margin = sign * (rows.times(weights[:-1]) + weights[-1])
        pull = -sign * weigh / (1 + np.exp(np.clip(margin, -500, 500)))
        gradient = np.append(rows.turned_times(pull) + penalty * weights[:-1], pull.sum())
        return float((weigh * np.logaddexp(0, -margin)).sum() + penalty / 2 * (weights[:-1] @ weights[:-1])), gradient

    begin = np.zeros(rows.count + 1)
    weights: Numbers = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS}).x
    return weights


def _squared(features: Numbers) -> Numbers:
    return np.stack([judging.squared(row) for row in features])


# --- hits -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Case:
    """A question, and the stored ones that are most like it."""

    asked: Asked
    read: Question
    stored: tuple[Question, ...]
    intents: tuple[str, ...]  # of `stored`

    def alike(self, i: int, j: int) -> bool:
        return self.intents[i] == self.intents[j]

    def wrong(self, given: int) -> bool:
        """Right is what has the intent of the stored question and is nobody's own."""
        return self.asked.personal or self.intents[given] != self.asked.intent


def memory(questions: Iterable[Asked], half: int = 0) -> tuple[list[Asked], list[Asked]]:
    """What is stored, one half of the general questions by hash of the id, and what is asked: all others."""
    stored, asked = list[Asked](), list[Asked]()
    for each in questions:
        (stored if not each.personal and hashed(each.id) % 2 == half else asked).append(each)
    return stored, asked


def memories(questions: Sequence[Asked]) -> list[tuple[list[Asked], list[Asked]]]:
    """Full ones, of which either half is stored, and smaller ones, down to a sixty-fourth, of which a quarter of the
    others is asked: how sure one may be must not hang on how much is remembered."""
    found = [memory(questions, half) for half in (0, 1)]
    for number, share in enumerate(SMALL):
        stored = [each for each in found[0][0] if hashed(each.id) // 2 % share == number]
        found.append((stored, [each for each in found[0][1] if hashed(each.id) // 2 % len(SMALL) == number]))
    return found


def cases(
    stored: Sequence[Asked], asked: Sequence[Asked], read: Mapping[str, Question], *, again: bool = False
) -> list[Case]:
    """`again`: somebody else has asked each of them before, in the same words, and it was taken to be nobody's own."""
    if not stored and not again:
        return []
    meanings = np.array([read[each.text].vector for each in stored]).reshape(len(stored), SIZE)
    found = []
    for each in asked:
        cosines = meanings @ read[each.text].vector
        near = [stored[i] for i in np.argsort(-cosines)[:SHOWN]]
        near = [each, *(one for one in near if one.text != each.text)][:SHOWN] if again else near
        intents = tuple(one.intent for one in near)
        found.append(Case(each, read[each.text], tuple(read[one.text] for one in near), intents))
    return found


def _hit(judge_of: Callable[[str], Judge], all_cases: Sequence[Case]) -> tuple[Numbers, list[tuple[float, bool]]]:
    """Weights that tell right hits from wrong ones; of each case the confidence by weights that did not learn from it
    or its intent's part, and whether it was wrong."""
    features, wrong = [], []
    for case in all_cases:
        judge = judge_of(case.asked.text)
        chances = [judge.may_serve(each, case.read) for each in case.stored]
        features.append(judge.hit_features(case.read, case.stored, chances, case.alike))
        wrong.append(case.wrong(int(np.argmax(chances))))
    rows, right = _squared(np.stack(features)), ~np.array(wrong)
    parts, confidences = np.array([_part(case.asked) for case in all_cases]), np.zeros(len(all_cases))
    for part in range(FOLDS):
        weights = ridge(Rows(rows[parts != part]), right[parts != part], HIT_RIDGE)
        confidences[parts == part] = rows[parts == part] @ weights[:-1] + weights[-1]
    observed = [(judging.probability(logit), was) for logit, was in zip(confidences.tolist(), wrong, strict=True)]
    return ridge(Rows(rows), right, HIT_RIDGE), observed
