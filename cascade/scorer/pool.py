"""Which weights judge a turn: the shipped ones, or the tenant's own, a bounded number of which have a process here.

A turn keeps the weights it began with, so that what is on record of it is true. A tenant's own weights that are not
warm, that cannot be loaded, or for which there is no room are stood in for by the shipped ones: they are never waited
for, and nothing that is wrong with them stops an answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakSet

from cascade.scorer.calibration import Calibration
from cascade.scorer.manifest import UnfitWeights
from cascade.scorer.serving import Scorer
from cascade.values import Context

MOST_OWN = 2  # processes with tenants' own weights, beside that of the shipped ones; up to 700 MB each
RETRY_SECONDS = 60.0  # weights that did not come up are not begun with again before
KEPT_SECONDS = 60.0  # after its last turn a process makes room for another tenant's

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scoring:
    """How one tenant's answers are to be judged."""

    folder: Path | None = None  # of the tenant's own live weights; None: the shipped ones
    maps: Mapping[str, Calibration] = field(default_factory=dict)  # by version of the weights; none: as they come


@dataclass(eq=False, slots=True, weakref_slot=True)
class Judge:
    """The scorer of one turn (`cascade.runner.Scorer`)."""

    scorer: Scorer
    calibration: Calibration

    @property
    def version(self) -> str:
        return self.scorer.version

    async def score(self, context: Context, answer: str, *, deadline_seconds: float = 2.0) -> float | None:
        """The probability that the answer is good for this customer of this tenant; None: not scored."""
        found = await self.scorer.score(context, answer, deadline_seconds=deadline_seconds)
        return None if found is None else self.calibration.lowered(found)

    async def early(self, context: Context, draft: str, threshold: float) -> float | None:
        """See `cascade.early_verdicts.EarlyScorer`. A map only lowers scores, so what it accepts the weights would."""
        found = await self.scorer.early(context, draft, threshold)
        return None if found is None else self.calibration.lowered(found)


class Pool:
    """Raises UnfitWeights when the shipped folder must not be served."""

    def __init__(self, shipped: Path, *, most_own: int = MOST_OWN, kept_seconds: float = KEPT_SECONDS) -> None:
        self._shipped = Scorer(shipped)
        self._most_own, self._kept_seconds = most_own, kept_seconds
        self._own: OrderedDict[Path, Scorer] = OrderedDict()  # started, the least recently used first
        self._used_at: dict[Path, float] = {}
        self._warming: dict[Path, asyncio.Task[None]] = {}
        self._unfit: set[Path] = set()  # tried and not to be tried again
        self._not_before: dict[Path, float] = {}  # those that did not come up
        self._judges: WeakSet[Judge] = WeakSet()  # of turns that are not over

    @property
    def version(self) -> str:
        """Of the shipped weights."""
        return self._shipped.version

    @property
    def counts(self) -> Counter[str]:
        """What `serving.Scorer` counts, of all processes that are running."""
        return sum((scorer.counts for scorer in (self._shipped, *self._own.values())), Counter())

    async def start(self) -> None:
        """Warm the shipped weights. Raises TimeoutError if they never get there."""
        await self._shipped.start()

    async def close(self) -> None:
        warming = list(self._warming.values())
        for task in warming:
            task.cancel()
        await asyncio.gather(*warming, return_exceptions=True)
        await asyncio.gather(*(scorer.close() for scorer in (self._shipped, *self._own.values())))

    async def score(self, context: Context, answer: str, *, deadline_seconds: float = 2.0) -> float | None:
        """By the shipped weights as they come; turns have a `judge`."""
        return await self._shipped.score(context, answer, deadline_seconds=deadline_seconds)

    def judge(self, scoring: Scoring) -> Judge:
        """Who judges a turn that begins now. Never waits; needs a running loop."""
        scorer = self._warm(scoring.folder) or self._shipped
        judge = Judge(scorer, scoring.maps.get(scorer.version, Calibration()))
        self._judges.add(judge)
        return judge

    def _warm(self, folder: Path | None) -> Scorer | None:
        """The tenant's own weights, if they are ready; else they are begun with, if there is room."""
        if folder is None or folder in self._warming or folder in self._unfit:
            return None
        if scorer := self._own.get(folder):
            self._own.move_to_end(folder)
            self._used_at[folder] = time.monotonic()
            return scorer if scorer.ready else None
        if time.monotonic() < self._not_before.get(folder, 0.0):
            return None
        idle = self._idle()
        if len(self._own) + len(self._warming) < self._most_own or idle:
            leaving = self._own.pop(idle) if idle and len(self._own) + len(self._warming) >= self._most_own else None
            bringing = self._bring_up(folder, leaving)
            self._warming[folder] = asyncio.create_task(bringing, name=f"scorer of {folder.name}")
        return None

    def _idle(self) -> Path | None:
        """Of those that no turn has used for a while, the one that was used least recently."""
        used, since = {judge.scorer for judge in self._judges}, time.monotonic() - self._kept_seconds
        return next((f for f, scorer in self._own.items() if scorer not in used and self._used_at[f] <= since), None)

    async def _bring_up(self, folder: Path, leaving: Scorer | None) -> None:
        scorer: Scorer | None = None
        try:
            if leaving:
                await leaving.close()
            scorer = await asyncio.to_thread(Scorer, folder)
            await scorer.start()
        except UnfitWeights as problem:
            self._unfit.add(folder)
            log.error("the weights in %s cannot be served, the shipped ones stand in: %s", folder.name, problem)
        except (OSError, TimeoutError) as problem:
            self._not_before[folder] = time.monotonic() + RETRY_SECONDS
            log.error("the weights in %s did not come up: %s", folder.name, type(problem).__name__)
        finally:
            del self._warming[folder]
            if scorer and scorer.ready:
                self._own[folder], self._used_at[folder] = scorer, time.monotonic()
            elif scorer:
                await scorer.close()
