"""Rows as the API tells them, one by one or a page of them, and what may be sent.

How each field is told is worked out once for all: DRF's own way, anew for every request, row and field, takes most of
the time of a page. So nothing of a row may be missing, and nothing depends on the request. A page makes no object of
each row, where only columns are told of it, and passes on JSON as the database keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, NamedTuple, cast

from django.db.models import F, QuerySet, TextField
from django.db.models.functions import Cast
from orjson import Fragment
from rest_framework import serializers

from accounts.rest.fields import Flag, Id, JSONObject, Moment, Number, Ref, Seconds, Text, Whole

# Fields whose values, as the database gives them, are written as JSON by `accounts.rest.bodies.JSONAnswer` itself.
AS_THEY_ARE: set[Any] = {
    field.to_representation
    for field in (
        serializers.CharField, serializers.UUIDField, serializers.BooleanField, serializers.IntegerField, Moment, Ref,
    )
}  # fmt: skip


class Shape(serializers.Serializer):
    """What is sent or told that is no row. A field that is not known is refused, so that a typing error is noticed."""

    def to_internal_value(self, data: Any) -> Any:
        _refuse_unknown(self, data)
        return super().to_internal_value(data)


class Row(serializers.ModelSerializer):
    """A row as the API tells it, and the part of it that may be sent."""

    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {
        field: ours
        for field, theirs in serializers.ModelSerializer.serializer_field_mapping.items()
        for known, ours in {
            serializers.CharField: Text, serializers.BooleanField: Flag,
            serializers.IntegerField: Whole, serializers.FloatField: Number, serializers.UUIDField: Id,
            serializers.DateTimeField: Moment, serializers.DurationField: Seconds, serializers.JSONField: JSONObject,
        }.items()
        if theirs is known
    }  # fmt: skip

    def to_internal_value(self, data: Any) -> Any:
        _refuse_unknown(self, data)
        return super().to_internal_value(data)

    def to_representation(self, row: Any) -> dict[str, Any]:
        plan = _told_fields(cast(Any, type(self)))
        return {each.name: None if (value := each.of(row)) is None else each.told(value) for each in plan}

    def of_page(self, rows: QuerySet, *more: str) -> QuerySet:
        """The rows as dictionaries of the columns that are told, and of `more`; or, where more than columns is told of
        them, as they are."""
        query = rows.query
        if not query.where and not query.annotations and not query.distinct:
            page = _page_of_all(cast(Any, type(self)), cast(Any, rows.model), more)
        else:
            page = _page(type(self), rows, more)
        return rows if page is None else page.all()

    def tell_page(self, rows: Iterable[Any]) -> list[dict[str, Any]]:
        """Of what `of_page` gave; to be rendered by `accounts.rest.bodies.JSONAnswer`."""
        plan = _told_fields(cast(Any, type(self)))
        told = [(each.name, each.key, each.in_a_page) for each in plan]
        return [
            {name: value if (value := row[key]) is None or tell is None else tell(value) for name, key, tell in told}
            if isinstance(row, dict)
            else self.to_representation(row)
            for row in rows
        ]


@cache
def _page_of_all(told: Any, model: Any, more: tuple[str, ...]) -> QuerySet | None:
    """Of all rows; it is copied, which is quicker than to make it anew for every request, and never asked itself."""
    return _page(told, model._default_manager.all(), more)


def _page(told: Any, rows: QuerySet, more: tuple[str, ...]) -> QuerySet | None:
    """None: more than columns is told."""
    plan = _told_fields(told)
    if not _are_columns(cast(Any, rows.model), tuple(each.column for each in plan), tuple(rows.query.annotations)):
        return None
    texts = {each.key: each.text for each in plan if each.text}
    return rows.values(*more, *(each.column for each in plan if not each.text), **texts)


class Told(NamedTuple):
    """How one field of a row is told."""

    name: str
    column: str  # as a query names it
    of: Callable[[Any], Any]  # its value, of an object; of a source "*": the object
    told: Callable[[Any], Any]
    in_a_page: Callable[[Any], Any] | None  # how it is told there; None: as it is
    text: Cast | None  # of JSON, which a page passes on as it is kept; None: it is no JSON

    @property
    def key(self) -> str:
        """In a page's dictionaries."""
        return f"text_of_{self.name}" if self.text else self.column


@cache
def _told_fields(rows: Any) -> list[Told]:
    """Of a class of rows."""

    def plan(field: Any) -> Told:
        by_id = isinstance(field, Ref) and not field.source.endswith("_id")  # the row behind it is not read for that
        source = f"{field.source}_id" if by_id else field.source
        of = attrgetter(source) if source != "*" else lambda row: row
        column, tell = source.replace(".", "__"), field.to_representation
        if isinstance(field, serializers.JSONField):
            return Told(field.field_name, column, of, tell, Fragment, Cast(F(column), TextField()))
        return Told(
            field.field_name, column, of, tell, None if type(field).to_representation in AS_THEY_ARE else tell, None
        )

    return [plan(field) for field in rows()._readable_fields]


@cache
def _are_columns(model: Any, names: tuple[str, ...], worked_out: tuple[str, ...]) -> bool:
    """Each a column of the rows or of ones that they refer to, or `worked_out` in the query."""

    def is_one(of: Any, name: str) -> bool:
        step, through, rest = name.partition("__")
        if not through:
            return name in {field.attname for field in of._meta.concrete_fields}
        known = {field.name: field.related_model for field in of._meta.concrete_fields if field.is_relation}
        return step in known and is_one(known[step], rest)

    return all(name in worked_out or is_one(model, name) for name in names)


def _refuse_unknown(serializer: Any, data: Any) -> None:
    if not isinstance(data, Mapping):
        return  # said by the serializer itself
    known = {name for name, field in serializer.fields.items() if not field.read_only}
    if unknown := sorted(data.keys() - known):
        raise serializers.ValidationError({name: ["there is no such field to set"] for name in unknown[:10]})
