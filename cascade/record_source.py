"""Fresh records, asked of the tenant at the start of a turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade.values import Record


@dataclass(frozen=True, slots=True)
class RecordSource:
    """Where a tenant answers for its customers' records."""

    url: str  # https; http only where `allow_private`
    secret: bytes  # signs each request (Standard Webhooks, HMAC-SHA256)
    allow_private: bool = False  # the operator's word, never the tenant's: may name an address of the own network
    deadline_seconds: float = 1.5  # for the whole exchange
    max_bytes: int = 65_536  # of the decompressed answer


class RecordSourceError(Exception):
    """The source gave no records. `code` is one of: timeout, refused_address, http_status, too_large, malformed,
    wrong_customer, tls, unreachable."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code


async def fetch(source: RecordSource, customer_id: str, question: str) -> tuple[Record, ...]:
    """The customer's records as the tenant knows them now. Raises RecordSourceError."""
    raise NotImplementedError


def merge(known: Sequence[Record], fetched: Sequence[Record]) -> tuple[Record, ...]:
    """Both, of the same type and external id the one with the newer `as_of`."""
    raise NotImplementedError
