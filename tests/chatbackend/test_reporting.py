"""Logs say where something went wrong, never in whose words."""

from __future__ import annotations

import logging

from chatbackend.reporting import WithoutWords


def test_a_traceback_in_the_log_keeps_its_places_and_loses_its_words():
    try:
        raise ValueError("my card is 4111 1111 1111 1111")
    except ValueError as problem:
        record = logging.LogRecord(
            "x", logging.ERROR, __file__, 1, "a request failed", None, (type(problem), problem, problem.__traceback__)
        )
    told = WithoutWords("%(message)s").format(record)
    assert "ValueError" in told
    assert "test_reporting.py" in told
    assert "4111 1111 1111 1111" not in told.replace('raise ValueError("my card is 4111 1111 1111 1111")', "")
