"""The pages of the installation itself: is it well, and what stands at its address without the demo."""

from __future__ import annotations

from functools import cache

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer


@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """200 while the database answers, else 503: for load balancers."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return JsonResponse({"status": "unavailable", "database": "gone"}, status=503)
    return JsonResponse({"status": "ok"})


@require_safe
def description(request: HttpRequest) -> HttpResponse:
    """The REST API in OpenAPI's words, for everybody."""
    return HttpResponse(_described(), content_type="application/vnd.oai.openapi+json")


@cache
def _described() -> bytes:
    """Made once: it takes long, and is the same as long as the process lives."""
    told: bytes = OpenApiJsonRenderer().render(SchemaGenerator().get_schema(public=True))
    return told


def landing(request: HttpRequest) -> HttpResponse:
    return render(request, "landing.html")
