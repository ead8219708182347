"""Lists: pages by cursor, filters and orders that a resource names, and nothing else.

A query parameter that is not offered is refused, so that a typing error is not a list of everything.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError as Unfit
from django.db import DataError
from django.db.models import Q, QuerySet
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.pagination import BasePagination
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from accounts.rest.fields import Text, Whole, text_in_query
from accounts.rest.problems import Problem

USUAL, MOST = 50, 100  # rows of a page
OF_PAGES = {"cursor", "limit", "ordering"}


@dataclass(frozen=True, slots=True)
class Filter:
    """`lookup` is Django's; `field` reads the parameter's text."""

    lookup: str
    field: serializers.Field


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place of a row in an order: what the page after it begins behind, or the page before it ends at."""

    backwards: bool
    value: Any  # of the column that orders, as JSON has it
    id: str  # of rows with the same value

    def __str__(self) -> str:
        return urlsafe_b64encode(json.dumps([self.backwards, self.value, self.id]).encode()).decode()

    @classmethod
    def read(cls, told: str) -> Cursor:
        """Raises ValueError, TypeError: we did not make it."""
        backwards, value, its_id = json.loads(urlsafe_b64decode(told.encode("ascii")))
        return cls(bool(backwards), value, its_id)


class Pages(BasePagination):
    """Pages behind or before a row, by one column and then by id: rows of one moment are not lost, nor told twice."""

    def paginate_queryset(self, queryset: QuerySet, request: Any, view: Any = None) -> list[Any]:
        self.address, self.size = request.build_absolute_uri(), self._size(request)
        ordering = self._ordering(request, view)
        self.column, told = ordering.lstrip("-"), request.query_params.get("cursor")
        try:
            cursor = Cursor.read(told) if told is not None else None
            return self._read(queryset, cursor, descending=ordering.startswith("-"))
        except (Unfit, ValueError, TypeError, RecursionError, DataError):  # a cursor that we did not make
            raise NotFound("there is no such page") from None

    def _read(self, queryset: QuerySet, cursor: Cursor | None, *, descending: bool) -> list[Any]:
        backwards = cursor is not None and cursor.backwards
        falls = descending != backwards  # as the rows are read
        sign, after = ("-", "lt") if falls else ("", "gt")
        if cursor:
            same = Q(**{self.column: cursor.value, f"id__{after}": cursor.id})
            queryset = queryset.filter(
                Q(**{f"{self.column}__{after}": cursor.value}) | same, **{f"{self.column}__{after}e": cursor.value}
            )
        rows = list(queryset.order_by(f"{sign}{self.column}", f"{sign}id")[: self.size + 1])
        more, rows = len(rows) > self.size, rows[: self.size]
        if backwards:
            rows.reverse()
        self.is_more = {"next": backwards or more, "previous": more if backwards else cursor is not None}
        self.ends = (rows[0], rows[-1]) if rows else None
        return rows

    def _ordering(self, request: Any, view: Any) -> str:
        wanted: str = request.query_params.get("ordering", view.orderings[0])
        if wanted not in view.orderings:
            raise Problem("invalid", f"one of: {', '.join(view.orderings)}", parameter="ordering")
        return wanted

    def _size(self, request: Any) -> int:
        told = request.query_params.get("limit")
        if told is None:
            return USUAL
        if not (told.isascii() and told.isdigit()) or len(told) > 4 or not 1 <= int(told) <= MOST:
            raise Problem("invalid", f"a whole number from 1 to {MOST}", parameter="limit")
        return int(told)

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self._link("next"), "previous": self._link("previous"), "results": data})

    def _link(self, direction: str) -> str | None:
        if not self.ends or not self.is_more[direction]:
            return None
        row = self.ends[direction == "next"]
        value, its_id = [row[name] if isinstance(row, dict) else getattr(row, name) for name in (self.column, "id")]
        cursor = Cursor(direction == "previous", value if isinstance(value, int) else str(value), str(its_id))
        return replace_query_param(self.address, "cursor", str(cursor))

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }


class Filters:
    """DRF's filter backend over a resource's `filters`."""

    def filter_queryset(self, request: Any, queryset: QuerySet, view: Any) -> QuerySet:
        wanted = chosen(request, view.filters, OF_PAGES)
        return queryset.filter(**wanted) if wanted else queryset

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return []  # told by accounts.rest.schema


def chosen(request: Any, filters: Mapping[str, Filter], others: set[str]) -> dict[str, Any]:
    """The lookups that the query asks for. Raises Problem("invalid") with the parameter's name."""
    found: dict[str, Any] = {}
    for name in request.query_params:
        value = text_in_query(request.query_params[name], name)
        if name in filters:
            found[filters[name].lookup] = _read(filters[name].field, value, name)
        elif name not in others:
            raise Problem("invalid", "there is no such parameter", parameter=text_in_query(name, "")[:64])
    return found


def _read(field: serializers.Field, value: str, name: str) -> Any:
    try:
        return field.run_validation(_unquoted(field, value))
    except serializers.ValidationError as error:
        raise Problem("invalid", str(error.detail[0]), parameter=name) from None


def _unquoted(field: serializers.Field, value: str) -> Any:
    """A query has only texts; a strict field wants what JSON would say."""
    if isinstance(field, serializers.BooleanField):
        return {"true": True, "false": False}.get(value, value)
    if isinstance(field, Whole) and value.lstrip("-").isascii() and value.lstrip("-").isdigit() and len(value) < 20:
        return int(value)
    return value


def text(lookup: str, longest: int = 200, **more: Any) -> Filter:
    return Filter(lookup, Text(max_length=longest, **more))
