"""Values as the API writes and reads them. Strict: a text is no number and a number no text, as the schema says.

Money is dollars with six decimals as a string, never a float; times are UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import InvalidOperation
from typing import Any
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


def text_in_query(value: str, parameter: str) -> str:
    if not storable(value):
        raise Problem("invalid", "has NUL or half a surrogate pair", parameter=parameter)
    return value
