"""The OpenAPI description, from the views and serializers themselves; what all operations share is added here."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter

from accounts.permissions import RIGHTS
from accounts.rest.fields import NO_NUL
from accounts.rest.lists import MOST, USUAL
from accounts.rest.problems import CONTENT_TYPE, PROBLEMS

ALWAYS = {400, 401, 403, 404, 409, 413, 429, 500, 503}
ON_WRITES = {412, 415, 422}
PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `errors` names each wrong value by a JSON pointer or a query parameter.",
    "required": ["type", "title", "status", "code", "detail", "errors"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(PROBLEMS)},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "pointer": {"type": "string"},
                    "parameter": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
}


class Schema(AutoSchema):
    def get_tags(self) -> list[str]:
        return [self.view.resource]

    def get_description(self) -> str:
        right = RIGHTS[self.view.resource]
        writing = self.method not in ("GET", "HEAD")
        roles = ", ".join(sorted(right.write if writing else right.read))
        told = super().get_description()
        return f"{told}\n\nRoles: {roles}. Scope: `{right.area}:{'write' if writing else 'read'}`.".strip()

    def get_override_parameters(self) -> Any:
        given = list(super().get_override_parameters())
        if not self._is_list_view() or self.view.pagination_class is None:
            return given
        told = [
            OpenApiParameter("ordering", str, enum=list(self.view.orderings), description="A minus: the last first."),
            OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}),
            OpenApiParameter(
                "cursor", {"type": "string", "pattern": NO_NUL}, description="From `next` or `previous` of a page."
            ),
        ]
        return given + told + [_parameter(self, name, wanted.field) for name, wanted in self.view.filters.items()]

    def _get_pagination_parameters(self) -> list[Any]:
        return []

    def _get_response_bodies(self, direction: Any = "response") -> dict[str, Any]:
        found = super()._get_response_bodies(direction)
        problem = {"content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for status in sorted(ALWAYS if self.method == "GET" else ALWAYS | ON_WRITES):
            titles = [title for known, title in PROBLEMS.values() if known == status]
            found.setdefault(str(status), {"description": "; or: ".join(titles)} | problem)
        return found


def _parameter(schema: Any, name: str, field: Any) -> OpenApiParameter:
    told = schema._map_serializer_field(field, "request")
    schema._insert_field_validators(field, told)
    if told.get("type") == "string" and not told.keys() & {"format", "enum", "pattern"}:
        told = told | {"pattern": NO_NUL}
    return OpenApiParameter(name, told, description=str(field.help_text or ""))


def finish(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """What a request holds is closed: no other fields, and no text with a NUL, which PostgreSQL cannot keep."""
    schemas = result["components"]["schemas"]
    schemas["Problem"] = PROBLEM
    for name, told in schemas.items():
        if name.endswith("Request") and told.get("type") == "object":
            told["additionalProperties"] = False
            for field in told.get("properties", {}).values():
                _without_nul(field)
    _link(result["paths"])
    return result


def _link(paths: dict[str, Any]) -> None:
    """From what a POST has made, and the first that a list shows, to what can be done with it, by its id."""
    for path, operations in paths.items():
        below = [
            operation["operationId"]
            for place, told in paths.items()
            if place.startswith(f"{path}/{{id}}")
            for method, operation in told.items()
            if method in ("get", "post", "patch", "delete")
        ]
        for method, status, its_id in (
            ("post", "201", "$response.body#/id"),
            ("post", "202", "$response.body#/id"),
            ("get", "200", "$response.body#/results/0/id"),
        ):
            told = operations.get(method, {}).get("responses", {}).get(status)
            if told and below:
                told["links"] = {name: {"operationId": name, "parameters": {"id": its_id}} for name in below}


def _without_nul(field: dict[str, Any]) -> None:
    if field.get("type") == "array":
        _without_nul(field["items"])
    elif field.get("type") == "string" and not field.keys() & {"format", "pattern", "enum"}:
        field["pattern"] = NO_NUL
