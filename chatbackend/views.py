"""The pages of the installation itself: is it well, and what stands at its address without the demo."""

from __future__ import annotations

from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache


@never_cache
def health(request: HttpRequest) -> JsonResponse:
    """200 while the database answers, else 503: for load balancers."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Error:
        return JsonResponse({"status": "unavailable", "database": "gone"}, status=503)
    return JsonResponse({"status": "ok"})


def landing(request: HttpRequest) -> HttpResponse:
    return render(request, "landing.html")
