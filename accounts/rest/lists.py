"""Lists: pages by cursor, filters and orders that a resource names, and nothing else.

A query parameter that is not offered is refused, so that a typing error is not a list of everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError as Unfit
from django.db import DataError
from django.db.models import QuerySet
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination

from accounts.rest.fields import Text, Whole, text_in_query
from accounts.rest.problems import Problem

USUAL, MOST = 50, 100  # rows of a page
OF_PAGES = {"cursor", "limit", "ordering"}


@dataclass(frozen=True, slots=True)
class Filter:
    """`lookup` is Django's; `field` reads the parameter's text."""

    lookup: str
    field: serializers.Field


class Pages(CursorPagination):
    page_size, page_size_query_param, max_page_size = USUAL, "limit", MOST
    cursor_query_param = "cursor"

    def get_ordering(self, request: Any, queryset: QuerySet, view: Any) -> tuple[str, str]:
        wanted = request.query_params.get("ordering", view.orderings[0])
        if wanted not in view.orderings:
            raise Problem("invalid", f"one of: {', '.join(view.orderings)}", parameter="ordering")
        return wanted, "-id" if wanted.startswith("-") else "id"  # rows of one moment have an order too

    def get_page_size(self, request: Any) -> int:
        told = request.query_params.get("limit")
        if told is None:
            return USUAL
        if not (told.isascii() and told.isdigit()) or len(told) > 4 or not 1 <= int(told) <= MOST:
            raise Problem("invalid", f"a whole number from 1 to {MOST}", parameter="limit")
        return int(told)

    def paginate_queryset(self, queryset: QuerySet, request: Any, view: Any = None) -> list[Any]:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (Unfit, ValueError, TypeError, DataError):  # a cursor that we did not make
            raise NotFound("there is no such page") from None

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
