"""How good an answer is likely to be, from question and answers alone, and what another model's would add.

Four things are learnt from recorded answers, each without the questions it is asked about (five folds):

    prior   how likely each model is to be right, from the question's vector alone (kernel ridge regression)
    alone   how likely an answer is to be right, from what can be counted in question and answer (boosted trees)
    joint   how likely an answer is to be right once others are known: who says the same, who says otherwise, and how
            likely each of them was on its own (boosted trees over any set of models that were asked,
            and a line for each set: the mean of both)
    gain    how much better the answer would be that one chose after asking one more, dearest model (likewise)

Boosting after Friedman (2001), by LightGBM. A new question gets the mean of the five.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade.learning.encoding import Analysis
from cascade.learning.finals import Alikeness, final
from cascade.learning.lines import Line
from cascade.learning.records import Records
from cascade.learning.signs import asked, signs
from cascade.learning.table import Numbers

FOLDS = 5
SEED = 20230509
MICROS_AN_ANSWER = (
    0.5  # what scoring one answer costs: 30 ms of a core at 0.06 dollars an hour; it takes about a tenth of that
)
SETTINGS = {
    "objective": "cross_entropy", "learning_rate": 0.05, "bagging_freq": 1, "bagging_fraction": 0.7, "max_bin": 63,
    "deterministic": True, "force_row_wise": True, "verbose": -1, "num_threads": 1, "seed": 1,
}  # fmt: skip
ALONE = {**SETTINGS, "num_leaves": 31, "min_data_in_leaf": 30, "lambda_l2": 5.0, "feature_fraction": 0.4}
JOINT = {**SETTINGS, "num_leaves": 15, "min_data_in_leaf": 60, "lambda_l2": 20.0, "feature_fraction": 0.3}
GAIN = {**JOINT, "objective": "regression", "min_data_in_leaf": 80}
ROUNDS = {"alone": 150, "joint": 150, "gain": 120}
JOINT_ROWS = 15_000
Set = tuple[int, ...]  # places of models that were asked, cheapest first


@dataclass(frozen=True, eq=False)
class Read:
    """What is read of recorded answers; nothing in it knows a label."""

    vectors: Numbers  # (questions, size) of length 1
    about: Numbers  # (questions, ...) what can be counted in the question
    signs: Numbers  # (questions, models, ...)
    alike: Numbers  # (questions, models, models) 0..1

    @property
    def models(self) -> int:
        return int(self.signs.shape[1])


class Reader:
    """Fitted on the questions and answers to learn from, without their labels."""

    def __init__(self, records: Records, encode: Callable[[Sequence[str]], Numbers] | None) -> None:
        self.analysis = Analysis(records.questions)
        self.encode = encode or self.analysis.of
        self.alikeness = Alikeness(answer for answers in records.answers for answer in answers)

    def read(self, records: Records) -> Read:
        finals = [[final(answer) for answer in answers] for answers in records.answers]
        every = list(zip(records.questions, records.answers, finals, strict=True))
        about = np.array([asked(question) for question in records.questions])
        return Read(
            vectors=self.encode(records.questions),
            about=np.hstack([about, self.analysis.of(records.questions)]),
            signs=np.array(
                [[signs(q, a, f) for a, f in zip(answers, ends, strict=True)] for q, answers, ends in every]
            ),
            alike=np.stack([self.alikeness.of(*each) for each in every]),
        )


class AnswerScorer:
    """Fitted once; then `prior`, `alone`, `joint` and `gain` of the questions it was fitted on, or of new ones."""

    def __init__(self, read: Read, quality: Numbers) -> None:
        self.quality = quality
        self.fold = np.random.default_rng(SEED).permutation(len(quality)) % FOLDS
        self.known = Known(read, *self._of_own(read))

    def _of_own(self, read: Read) -> tuple[Numbers, Numbers]:
        """Prior and logit of each fold, by what the others taught."""
        self.vectors, self.weights, prior = read.vectors, [], np.empty_like(self.quality)
        self.mean = self.quality.mean(axis=0)
        for fold in range(FOLDS):
            weights = _kernel_ridge(read.vectors[self.fold != fold], self.quality[self.fold != fold] - self.mean)
            self.weights.append(weights)
            prior[self.fold == fold] = self._prior(read.vectors[self.fold == fold], fold)
        rows, count = _alone_rows(read, prior), read.models
        self.alone_trees = []
        alone = np.empty_like(prior)
        for fold in range(FOLDS):
            kept = np.repeat(self.fold != fold, count)
            trees = _boosted(ALONE, rows[kept], self.quality.ravel()[kept], ROUNDS["alone"])
            alone[self.fold == fold] = trees.predict(rows[~kept], raw_score=True).reshape(-1, count)
            self.alone_trees.append(trees)
        return prior, alone

    def _prior(self, vectors: Numbers, fold: int) -> Numbers:
        return np.asarray(_kernel(vectors, self.vectors[self.fold != fold]) @ self.weights[fold] + self.mean)

    def of_new(self, read: Read) -> Known:
        prior = np.mean([self._prior(read.vectors, fold) for fold in range(FOLDS)], axis=0)
        rows = _alone_rows(read, prior)
        alone = np.mean([trees.predict(rows, raw_score=True) for trees in self.alone_trees], axis=0)
        return Known(read, prior, alone.reshape(prior.shape))

    def learn_joint(self, sets: Sequence[Set]) -> None:
        """From answers of these sets of models, each on some of the questions."""
        self.joint_lines: dict[Set, Line] = {}
        chance, each = np.random.default_rng(SEED), max(60, JOINT_ROWS // sum(map(len, sets)))
        rows, right, fold = [], [], []
        for members in sets:
            some = chance.choice(len(self.fold), min(each, len(self.fold)), replace=False)
            for member in members:
                rows.append(self.known.joint_rows(members, member, some))
                right.append(self.quality[some, member])
                fold.append(self.fold[some])
        self.joint_trees = self._folds(JOINT, rows, right, fold, ROUNDS["joint"])

    def joint(self, members: Set, known: Known | None = None) -> Numbers:
        """(questions, members): the probability that each answer is right, given all of them."""
        of = known or self.known
        trees = [self._predicted(self.joint_trees, of.joint_rows(members, m, None), known) for m in members]
        rows = np.vstack([of.joint_few(members, member) for member in members])
        if members not in self.joint_lines:
            own = np.vstack([self.known.joint_few(members, member) for member in members])
            right, fold = self.quality[:, list(members)].T.ravel(), np.tile(self.fold, len(members))
            self.joint_lines[members] = Line(own, right, fold, logistic=True)
        line = self.joint_lines[members]
        told = line.own if known is None else line.of(rows)
        return np.asarray((np.column_stack(trees) + told.reshape(len(members), -1).T) / 2)

    def learn_gain(self, beginnings: Sequence[Set], last: int, joint: dict[Set, Numbers]) -> Gain:
        """What is won by asking `last` after each of these beginnings; `joint` holds both's probabilities."""
        chance, each = np.random.default_rng(SEED), max(60, JOINT_ROWS // len(beginnings))
        rows, won, fold, lines = [], [], [], {}
        everyone = np.arange(len(self.fold))
        for members in beginnings:
            some = chance.choice(len(self.fold), min(each, len(self.fold)), replace=False)
            after, before = (chosen(asked, joint[asked]) for asked in ((*members, last), members))
            more = self.quality[everyone, after] - self.quality[everyone, before]
            rows.append(self.known.gain_rows(members, last, joint[members], some))
            won.append(more[some])
            fold.append(self.fold[some])
            lines[members] = Line(self.known.gain_few(members, last, joint[members]), more, self.fold)
        return Gain(last, self._folds(GAIN, rows, won, fold, ROUNDS["gain"]), lines)

    def gain(self, learnt: Gain, members: Set, joint: Numbers, known: Known | None = None) -> Numbers:
        """(questions,): expected quality won by asking the last model too, -1..1."""
        of, line = known or self.known, learnt.lines[members]
        trees = self._predicted(learnt.trees, of.gain_rows(members, learnt.last, joint, None), known)
        told = line.own if known is None else line.of(of.gain_few(members, learnt.last, joint))
        return np.asarray((trees + told) / 2)

    def learn_price(self, first: int, last: int, cost_micros: Numbers) -> Line:
        """What `last` will cost, from the question and the first answer. (questions,) logarithm of micro-dollars."""
        return Line(self.known.length_rows(first), np.log1p(cost_micros[:, last]), self.fold)

    def _folds(
        self, settings: dict[str, Any], rows: list[Numbers], y: list[Numbers], fold: list[Any], rounds: int
    ) -> list[Any]:
        every, label, of = np.vstack(rows), np.concatenate(y), np.concatenate(fold)
        return [_boosted(settings, every[of != f], label[of != f], rounds) for f in range(FOLDS)]

    def _predicted(self, trees: list[Any], rows: Numbers, known: Known | None) -> Numbers:
        if known is not None:
            return np.asarray(np.mean([each.predict(rows) for each in trees], axis=0))
        found = np.empty(len(rows))
        for fold, each in enumerate(trees):
            found[self.fold == fold] = each.predict(rows[self.fold == fold])
        return found


@dataclass(frozen=True, eq=False)
class Gain:
    """What was learnt of asking `last`: trees for all beginnings, a line for each."""

    last: int
    trees: list[Any]
    lines: dict[Set, Line]


@dataclass(frozen=True, eq=False)
class Known:
    """What is read of some questions, and what it says of each answer alone."""

    read: Read
    prior: Numbers  # (questions, models) probability of a right answer, before asking
    alone: Numbers  # (questions, models) logit of a right answer, from that answer

    @property
    def score(self) -> Numbers:
        """(questions, models): the probability that an answer is right, from that answer alone."""
        return np.asarray(1 / (1 + np.exp(-self.alone)))

    def joint_rows(self, members: Set, member: int, some: npt.NDArray[np.int_] | None) -> Numbers:
        at = np.arange(len(self.prior)) if some is None else some
        asked = list(members)
        alike, alone = self.read.alike[at], self.alone[at]
        same, likely = alike[:, member][:, asked], self.score[at][:, asked]
        support = (same * likely).sum(axis=1)
        against = ((1 - same) * likely).sum(axis=1)
        others = [(alike[:, other][:, asked] * likely).sum(axis=1) * (alike[:, member, other] < 1) for other in asked]
        rival = np.max(others, axis=0)
        odds = (same * alone[:, asked]).sum(axis=1)
        of_set = [support, against, rival, support - rival, odds, same.sum(axis=1), alone[:, member]]
        shape = (len(at), self.read.models)
        said, each = np.full(shape, np.nan), np.full(shape, np.nan)
        said[:, asked], each[:, asked] = same, alone[:, asked]
        fixed = [np.full(len(at), member), np.full(len(at), len(asked))]
        rest = [self.prior[at], self.read.signs[at, member], self.read.about[at]]
        return np.column_stack([*fixed, *of_set, said, each, *rest])

    def joint_few(self, members: Set, member: int) -> Numbers:
        """The few numbers that tell most of what `joint_rows` does, for a line."""
        asked, alike, likely = list(members), self.read.alike, self.score
        same, logit = alike[:, member][:, asked], self.alone[:, asked]
        others = [(alike[:, o][:, asked] * likely[:, asked]).sum(axis=1) * (alike[:, member, o] < 1) for o in asked]
        support, rival = (same * likely[:, asked]).sum(axis=1), np.max(others, axis=0)
        own = np.column_stack([self.alone[:, member], support, rival, support - rival])
        each = np.column_stack([np.full(len(same), float(member == other)) for other in asked])
        of_set = [(same * logit).sum(axis=1), same.sum(axis=1), (same == 1).all(axis=1), _logit(self.prior[:, member])]
        by_member = [own * each[:, [place]] for place in range(len(asked))]
        return np.column_stack([own, *of_set, same, logit, same * logit, each, *by_member])

    def gain_few(self, members: Set, last: int, joint: Numbers) -> Numbers:
        asked, best, everyone = list(members), chosen(members, joint), np.arange(len(joint))
        top, prior = joint.max(axis=1), self.prior[:, last]
        second = np.sort(joint, axis=1)[:, -2] if len(asked) > 1 else np.zeros(len(joint))
        of_set = [top, _logit(top), top**2, prior, prior - self.prior[everyone, best], (1 - top) * prior]
        shown = best[:, None] == asked
        pairs = [self.read.alike[:, a, b] for place, a in enumerate(asked) for b in asked[:place]]
        return np.column_stack([*of_set, joint.mean(axis=1), second, shown, self.alone[:, asked], *pairs])

    def length_rows(self, first: int) -> Numbers:
        """How long question and first answer are, and what the question is about."""
        lengths = np.log1p(np.maximum(self.read.signs[:, first, :4], 0))
        return np.column_stack([lengths, np.log1p(np.abs(self.read.about)), self.read.about, self.prior])

    def gain_rows(self, members: Set, last: int, joint: Numbers, some: npt.NDArray[np.int_] | None) -> Numbers:
        at = np.arange(len(self.prior)) if some is None else some
        best = chosen(members, joint)[at]
        found = np.empty((len(at), self.joint_rows(members, members[0], at[:1]).shape[1]))
        for member in members:
            where = np.flatnonzero(best == member)
            found[where] = self.joint_rows(members, member, at[where])
        top = joint[at].max(axis=1)
        prior = self.prior[at]
        more = prior[:, last] - prior[np.arange(len(at)), best]
        return np.column_stack([top, prior[:, last], more, found])


def chosen(members: Set, joint: Numbers) -> npt.NDArray[np.int_]:
    """(questions,): the place of the model whose answer is the likeliest to be right; the cheapest of equals."""
    return np.asarray(np.array(members)[joint.argmax(axis=1)])


def _logit(likely: Numbers) -> Numbers:
    kept = np.clip(likely, 0.01, 0.99)
    return np.asarray(np.log(kept / (1 - kept)))


def _alone_rows(read: Read, prior: Numbers) -> Numbers:
    questions, models = prior.shape
    place = np.tile(np.arange(models), questions)
    of_question = np.repeat(np.hstack([read.about, prior]), models, axis=0)
    return np.column_stack([place, prior.ravel(), of_question, read.signs.reshape(questions * models, -1)])


def _boosted(settings: dict[str, Any], rows: Numbers, y: Numbers, rounds: int) -> Any:
    import torch  # noqa: F401  (brings the OpenMP library that LightGBM looks for)
    import lightgbm  # isort: skip

    return lightgbm.train(settings, lightgbm.Dataset(rows, y), rounds)


def _kernel(a: Numbers, b: Numbers) -> Numbers:
    return np.asarray(np.exp(4 * (a @ b.T - 1)))


def _kernel_ridge(vectors: Numbers, labels: Numbers, ridge: float = 30.0) -> Numbers:
    """(questions, models) dual weights; Saunders et al., 1998."""
    return np.asarray(np.linalg.solve(_kernel(vectors, vectors) + ridge * np.eye(len(vectors)), labels))
