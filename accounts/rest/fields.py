"""Values as the API writes and reads them. Strict: a text is no number and a number no text, as the schema says.

Money is dollars with six decimals as a string, never a float; times are UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import InvalidOperation
from functools import cache
from operator import attrgetter
from typing import Any, cast
from uuid import UUID

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.money import Money
from accounts.rest.bodies import storable
from accounts.rest.problems import Problem

NO_NUL = "^[^\\u0000]*$"
BIGGEST = 9_000_000_000  # dollars: what a bigint of micro-dollars holds
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.IGNORECASE)
ANYTHING = {"type": "object", "additionalProperties": {}}


class Text(serializers.CharField):
    """A text, kept as it was sent: nothing is trimmed."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**({"trim_whitespace": False} | more))

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class Matching(serializers.RegexField):
    """A text of a given form."""

    def __init__(self, pattern: str, **more: Any) -> None:
        super().__init__(pattern, **({"trim_whitespace": False} | more))

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return data


class Flag(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class Whole(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, float) and data.is_integer():
            data = int(data)  # JSON does not tell 1.0 from 1
        if type(data) is not int:
            self.fail("invalid")
        return data


class Number(serializers.FloatField):
    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        try:
            return float(data)
        except OverflowError:
            raise serializers.ValidationError("out of range") from None


class Id(serializers.UUIDField):
    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str) or not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", data):
            self.fail("invalid", value=data)
        return UUID(data)


class Moment(serializers.DateTimeField):
    """RFC 3339, with a time zone; told in UTC."""

    def to_internal_value(self, value: Any) -> datetime:
        if not isinstance(value, str) or not RFC3339.fullmatch(value):
            self.fail("invalid", format="RFC 3339, with a time zone")
        try:
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise serializers.ValidationError("there is no such moment") from None

    def to_representation(self, value: datetime | None) -> str | None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else None


@extend_schema_field({"type": "number", "minimum": 0, "maximum": 31_536_000, "description": "Seconds."})
class Seconds(serializers.Field):
    """A duration as a number of seconds."""

    default_error_messages = {"invalid": "a number of seconds from 0 to 31536000 is needed"}

    def to_internal_value(self, data: Any) -> timedelta:
        if isinstance(data, bool) or not isinstance(data, int | float) or not 0 <= data <= 31_536_000:
            self.fail("invalid")
        return timedelta(seconds=data)

    def to_representation(self, value: timedelta) -> float:
        return value.total_seconds()


@extend_schema_field({"type": "string", "format": "decimal", "pattern": r"^-?[0-9]{1,10}(\.[0-9]{1,6})?$"})
class Dollars(serializers.Field):
    """Whole micro-dollars, told as dollars: `"1.250000"`."""

    default_error_messages = {"invalid": "dollars as a string with at most six decimals are needed"}

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, str) or not re.fullmatch(r"-?[0-9]{1,10}(\.[0-9]{1,6})?", data):
            self.fail("invalid")
        try:
            micros = Money.from_usd(data).micros
        except (ValueError, InvalidOperation):
            self.fail("invalid")
        if abs(micros) > BIGGEST * 1_000_000:
            self.fail("invalid")
        return micros

    def to_representation(self, value: int | Money) -> str:
        return str(value if isinstance(value, Money) else Money(value))


@extend_schema_field({"type": "string", "format": "decimal", "pattern": r"^[0-9]{1,9}(\.[0-9]{1,6})?$"})
class PositiveDollars(Dollars):
    """Not negative."""

    def to_internal_value(self, data: Any) -> int:
        micros = super().to_internal_value(data)
        if micros < 0 or len(data.partition(".")[0]) > 9:
            self.fail("invalid")
        return micros


@extend_schema_field(ANYTHING)
class JSONObject(serializers.JSONField):
    """An object of the sender's own making."""

    default_error_messages = {"invalid": "an object is needed"}

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("invalid")
        return data


class Ref(Id):
    """The id of another row of the tenant, given as `rows`. One that is not there, or another's, is not found."""

    def __init__(self, rows: Any = None, **more: Any) -> None:
        super().__init__(**more)
        self._rows = rows  # a callable that gives a queryset; None: for reading

    def to_internal_value(self, data: Any) -> Any:
        wanted = super().to_internal_value(data)
        row = self._rows().filter(pk=wanted).first()
        if row is None:
            raise Problem("not_found", f"there is no such {self.field_name}", pointer=f"/{self.field_name}")
        return row

    def to_representation(self, value: Any) -> str:
        return str(getattr(value, "pk", value))


class Shape(serializers.Serializer):
    """What is sent or told that is no row. A field that is not known is refused, so that a typing error is noticed."""

    def to_internal_value(self, data: Any) -> Any:
        _refuse_unknown(self, data)
        return super().to_internal_value(data)


class Row(serializers.ModelSerializer):
    """A row as the API tells it, and the part of it that may be sent.

    How each field is told is worked out once for all: DRF's own way, anew for every request, row and field, takes most
    of the time of a page. So nothing of a row may be missing, and nothing depends on the request.
    """

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
        plan = _telling(cast(Any, type(self)))
        return {name: None if (value := get(row)) is None else told(value) for name, get, told in plan}


@cache
def _telling(rows: Any) -> list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]]:
    """Of a class of rows: each field's name, how its value is got (a source of "*": the row itself), how it is told."""

    def got(field: Any) -> Callable[[Any], Any]:
        if field.source == "*":
            return lambda row: row
        by_id = isinstance(field, Ref) and not field.source.endswith("_id")  # the row behind it is not read for that
        return attrgetter(f"{field.source}_id" if by_id else field.source)

    return [(field.field_name, got(field), field.to_representation) for field in rows()._readable_fields]


def _refuse_unknown(serializer: Any, data: Any) -> None:
    if not isinstance(data, Mapping):
        return  # said by the serializer itself
    known = {name for name, field in serializer.fields.items() if not field.read_only}
    if unknown := sorted(data.keys() - known):
        raise serializers.ValidationError({name: ["there is no such field to set"] for name in unknown[:10]})


def text_in_query(value: str, parameter: str) -> str:
    if not storable(value):
        raise Problem("invalid", "has NUL or half a surrogate pair", parameter=parameter)
    return value
