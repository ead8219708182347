"""How well the memory tells what may be given again, on questions and pairs that it did not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cascade.embedder.serving import Reading
from cascade.memory import fitting
from cascade.memory.fitting import Asked, Case, Readings
from cascade.memory.judge import Judge
from cascade.memory.rows import Labelled
from cascade.memory.wording import buckets
from cascade.scorer.measuring import area

TOLERATED = 0.01  # the share of hits that may be wrong
UNSEEN_PERCENT = 12  # of the intents, by hash
TWIN_FOLDS = 5
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Figures:
    """AUCs; None where there is nothing to tell apart. Shares of general questions, and of hits."""

    personal: dict[str, float | None]  # all; unseen intents; twins
    may_serve: dict[str, float | None]  # all; against pairs that ask the same but are personal
    hit_share: float
    wrong_hit_share: float
    n: dict[str, int]
    resampled: float  # of resamples of the questions asked, the share in which the share of wrong hits is tolerated

    def as_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "resampled"}

    def table(self) -> str:
        aucs = {f"personal or general, {name}": value for name, value in self.personal.items()}
        aucs |= {f"may serve, {name.replace('_', ' ')}": value for name, value in self.may_serve.items()}
        lines = [
            f"{name:<36} AUC {value:.4f}" if value is not None else f"{name:<36} –" for name, value in aucs.items()
        ]
        lines += [f"{'hits, of general questions':<36} {self.hit_share:.1%}"]
        lines += [f"{'wrong, of hits':<36} {self.wrong_hit_share:.1%}"]
        lines += [f"{f'at most {TOLERATED:.0%} wrong, of {RESAMPLES} resamples':<36} {self.resampled:.1%}"]
        return "\n".join([*lines, ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in self.n.items())])


def evaluate(train: Labelled, held: Labelled, readings: Readings) -> Figures:
    """Learns from `train` alone. Raises ValueError where that is impossible."""
    judge = fitting.learn(train.questions, train.pairs, readings)
    hits = hits_of(judge, held.questions, readings)
    threshold = judge.threshold(TOLERATED)
    given = [(case, wrong) for case, confidence, wrong in hits if confidence >= threshold]
    general = sum(not case.asked.personal for case, _, _ in hits)
    twins = twin_scores(train.questions, held.questions, readings)
    unseen = unseen_scores(train.questions, held.questions, readings)
    return Figures(
        personal={
            "all": auc(*_scores(judge, held.questions, readings)),
            "unseen": auc(*unseen),
            "twins": auc(*twins),
        },
        may_serve=_may_serve(judge, held, readings),
        hit_share=sum(not case.asked.personal for case, _ in given) / max(1, general),
        wrong_hit_share=sum(wrong for _, wrong in given) / max(1, len(given)),
        n={
            "questions": len(held.questions),
            "pairs": len(held.pairs),
            "unseen": len(unseen[0]),
            "twins": len(twins[0]),
            "hits": len(given),
            "wrong_hits": sum(wrong for _, wrong in given),
        },
        resampled=resampled([wrong if confidence >= threshold else None for _, confidence, wrong in hits]),
    )


def resampled(outcomes: Sequence[bool | None]) -> float:
    """`outcomes`: of the questions asked, was the hit wrong; None: there was none. Seeded."""
    if not outcomes:
        return 1.0
    hit, wrong = np.array([each is not None for each in outcomes]), np.array([bool(each) for each in outcomes])
    chance = np.random.default_rng(7)
    drawn = chance.integers(len(outcomes), size=(RESAMPLES, len(outcomes)))
    return float(np.mean(wrong[drawn].sum(1) <= TOLERATED * hit[drawn].sum(1)))


def hits_of(judge: Judge, questions: Sequence[Asked], readings: Readings) -> list[tuple[Case, float, bool]]:
    """Each question that is asked, how sure its best stored answer is, and whether that would be wrong."""
    read = {each.text: judge.question(each.text, readings[each.text]) for each in questions}
    found = []
    for case in fitting.cases(*fitting.memory(questions), read):
        best, confidence = judge.surest(case.read, case.stored, case.alike)
        found.append((case, confidence, case.wrong(best)))
    return found


def _may_serve(judge: Judge, held: Labelled, readings: Readings) -> dict[str, float | None]:
    read = {text: judge.question(text, readings[text]) for text in held.texts}
    scores = [judge.may_serve(read[pair.one], read[pair.other]) for pair in held.pairs]
    labels = [pair.serves for pair in held.pairs]
    told = [pair.serves or pair.kind == "same_personal" for pair in held.pairs]
    against = [(label, score) for label, score, of in zip(labels, scores, told, strict=True) if of]
    return {"all": auc(labels, scores), "same_personal": auc(*zip(*against, strict=True)) if against else None}


# --- personal or general ----------------------------------------------------------------------------

Scores = tuple[list[bool], list[float]]  # is it personal, and the log odds that it is


def _scores(judge: Judge, questions: Sequence[Asked], readings: Readings) -> Scores:
    return [q.personal for q in questions], [-_general(judge, q, readings[q.text]) for q in questions]


def _general(judge: Judge, question: Asked, reading: Reading) -> float:
    return judge.general(np.asarray(reading.meaning), np.asarray(reading.wording), buckets(question.text))


def unseen_scores(train: Sequence[Asked], held: Sequence[Asked], readings: Readings) -> Scores:
    """Of held questions whose intent no model has seen: it was left out of training."""

    def is_out(question: Asked) -> bool:
        return fitting.hashed(question.intent) % 100 < UNSEEN_PERCENT

    return _left_out(train, held, is_out, readings)


def twin_scores(train: Sequence[Asked], held: Sequence[Asked], readings: Readings) -> Scores:
    """Of families of intents that are alike but for being personal, each by a model that saw nothing of the family."""
    everything = [*train, *held]
    kinds: dict[str, set[bool]] = {}
    for each in everything:
        kinds.setdefault(family(each), set()).add(each.personal)
    twins = [each for each in everything if family(each) and len(kinds[family(each)]) == 2]
    labels, scores = [], []
    for fold in range(TWIN_FOLDS):

        def is_out(question: Asked, fold: int = fold) -> bool:
            return bool(family(question)) and fitting.hashed(family(question)) % TWIN_FOLDS == fold

        found = _left_out(train, twins, is_out, readings)
        labels += found[0]
        scores += found[1]
    return labels, scores


def family(question: Asked) -> str:
    """What a general and a personal intent have in common, or ""."""
    name, _, kind = question.intent.rpartition(".")
    return name if kind in ("general", "personal") else ""


def _left_out(
    train: Sequence[Asked], asked: Sequence[Asked], is_out: Callable[[Asked], bool], readings: Readings
) -> Scores:
    wanted = [each for each in asked if is_out(each)]
    if not wanted:
        return [], []
    return _scores(fitting.general([each for each in train if not is_out(each)], readings), wanted, readings)


def auc(labels: Sequence[bool], scores: Sequence[float]) -> float | None:
    """None: one kind is missing."""
    true = [score for label, score in zip(labels, scores, strict=True) if label]
    false = [score for label, score in zip(labels, scores, strict=True) if not label]
    return area(true, false) if true and false else None
