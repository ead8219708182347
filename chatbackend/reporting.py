"""What went wrong, for the log: where and how, without its words, which may quote what a customer wrote."""

from __future__ import annotations

import logging
import traceback
from typing import Any

log = logging.getLogger(__name__)


def report(problem: BaseException) -> None:
    place = traceback.extract_tb(problem.__traceback__)[-1:]
    where = f"{place[0].filename}:{place[0].lineno}" if place else "nowhere"
    log.error("%s at %s", type(problem).__name__, where)


class WithoutWords(logging.Formatter):
    """A traceback by its places and its kind: an error's own text may quote a customer too."""

    def formatException(self, ei: Any) -> str:
        kind, _, places = ei
        return "".join(traceback.format_tb(places)) + (kind.__name__ if kind else "")
