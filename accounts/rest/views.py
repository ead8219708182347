"""A resource: authenticated, let in by the table of rights, and answered inside its tenant's transaction.

What is the same for all stands here: a row that is another tenant's is not there (row-level security), versions by
ETag and If-Match, Idempotency-Key, limits, the request's id. What a resource does is left to its own view and, behind
it, to the module that does it for everybody.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any, ClassVar

from django.db import DatabaseError, InterfaceError
from django.db.models import QuerySet
from django.http import Http404
from django.urls import include, path
from rest_framework import mixins
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import GenericViewSet
from uuid_utils.compat import uuid7

from accounts import audit
from accounts.api_keys import note_use
from accounts.permissions import allows
from accounts.rest import idempotency
from accounts.rest.bodies import JSONAnswer
from accounts.rest.callers import ApiUser, in_tenant_of_caller
from accounts.rest.counting import count
from accounts.rest.lists import Filter, Pages
from accounts.rest.problems import Problem
from accounts.rest.rows import Row

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SAFE = ("GET", "HEAD")


class Resource(GenericViewSet):
    """`resource` is its name in `accounts.permissions.RIGHTS`; `orderings` are offered, the first is the usual one."""

    resource: ClassVar[str]
    filters: ClassVar[Mapping[str, Filter]] = {}
    orderings: tuple[str, ...] = ("-created_at", "created_at")
    fleeting: ClassVar[frozenset[str]] = frozenset()  # fields that change by themselves, and so are of no version
    rows: ClassVar[Any]  # a model
    related: ClassVar[tuple[str, ...]] = ()  # read in the same query
    pagination_class: Any = Pages
    lookup_value_converter = "uuid"
    http_method_names = ["get", "post", "patch", "delete", "head"]
    caller: ApiUser = None  # type: ignore[assignment]  # until the request has one

    # --- one request ------------------------------------------------------------------------

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """As DRF's, in the caller's tenant: whatever is raised undoes everything."""
        self.args, self.kwargs = args, kwargs
        self.headers: dict[str, str] = {}
        self.request = request = self.initialize_request(request, *args, **kwargs)
        self.request_id = _request_id(request)
        try:
            with in_tenant_of_caller(request) as self.caller:
                self._count()
                if request.method not in SAFE:
                    audit.by(self.caller.name, request.META.get("REMOTE_ADDR", ""), self.request_id)
                response = self._answer(request, *args, **kwargs)
        except Exception as error:
            response = self.handle_exception(error)
        if self.caller and self.caller.key:
            with suppress(DatabaseError, InterfaceError):  # the answer does not depend on it
                note_use(self.caller.key)
        self.response = self.finalize_response(request, response, *args, **kwargs)
        for name, value in {**self.headers, "X-Request-ID": self.request_id}.items():
            self.response[name] = value
        return self.response

    def _answer(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        self.format_kwarg = self.get_format_suffix(**kwargs)
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(request)
        work = getattr(self, request.method.lower(), None) if self.action else None
        if work is None or request.method.lower() not in self.http_method_names:
            raise Problem("method_not_allowed", headers={"Allow": ", ".join(self.allowed_methods)})
        if not self.may(writing=request.method not in SAFE):
            raise Problem("forbidden", "neither the role nor the key's scopes allow this")
        if request.method == "POST":
            return idempotency.once(request, self.caller, lambda: work(request, *args, **kwargs))
        return work(request, *args, **kwargs)

    def may(self, *, writing: bool) -> bool:
        return allows(self.resource, writing=writing, role=self.caller.role, scopes=self.caller.scopes)

    def _count(self) -> None:
        fits, self.headers = count(self.caller.tenant_id, self.caller.name)
        if not fits:
            raise Problem("rate_limited")

    # --- rows -------------------------------------------------------------------------------

    def get_queryset(self) -> QuerySet:
        return self.rows.objects.select_related(*self.related) if self.related else self.rows.objects.all()

    def get_object(self) -> Any:
        """The row that the path names; locked, and of the version that If-Match names, where it is to change."""
        rows = self.get_queryset()
        writing = self.request.method not in SAFE
        if writing:
            rows = rows.select_for_update(of=("self",))
        row = rows.filter(pk=self.kwargs["pk"]).first()
        if row is None:
            raise Http404
        if writing:
            self._check_version(row)
        return row

    def _check_version(self, row: Any) -> None:
        wanted = self.request.headers.get("If-Match")
        if wanted is None or wanted.strip() == "*":
            return
        if self.version(self.told(row)) not in {tag.strip() for tag in wanted.split(",")}:
            raise Problem("changed_meanwhile")

    def told(self, row: Any) -> Any:
        """The row as `GET` of its own address tells it."""
        return self.get_serializer(row).data

    def shown(self, row: Any, status: int = 200) -> Response:
        told = self.told(row)
        return Response(told, status=status, headers={"ETag": self.version(told)})

    def page(self, rows: QuerySet, told: Row, chosen: Callable[[QuerySet], QuerySet] = lambda rows: rows) -> Response:
        """A page of these rows, of which the request may choose some, each as `told` tells it."""
        ordered_by = sorted({"id", *(ordering.lstrip("-") for ordering in self.orderings)})
        page = self.paginate_queryset(chosen(told.of_page(rows, *ordered_by)))
        return self.get_paginated_response(told.tell_page(page))

    def version(self, told: Any) -> str:
        """Of a row that is told so."""
        return etag({name: value for name, value in told.items() if name not in self.fleeting})

    def made(self, row: Any, **once: Any) -> Response:
        """201 with the row, its address, and what is shown this once."""
        response = self.shown(row, 201)
        response.data = {**response.data, **once}
        response["Location"] = f"{self.request.path.rstrip('/')}/{row.pk}"
        return response


class Listed(mixins.ListModelMixin):
    def list(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        told = self.get_serializer_class()()  # type: ignore[attr-defined]
        return self.page(self.get_queryset(), told, self.filter_queryset)  # type: ignore[attr-defined]


class Shown:
    def retrieve(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        return self.shown(self.get_object())  # type: ignore[attr-defined]


class Changed:
    def partial_update(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        told = self.get_serializer(self.get_object(), data=request.data, partial=True)  # type: ignore[attr-defined]
        told.is_valid(raise_exception=True)
        return self.shown(told.save())  # type: ignore[attr-defined]


class Removed:
    def destroy(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        self.get_object().delete()  # type: ignore[attr-defined]
        return Response(status=204)


class Router(SimpleRouter):
    """Addresses without a slash at the end; rows by UUID."""

    def __init__(self) -> None:
        super().__init__(trailing_slash=False, use_regex_path=False)

    def get_urls(self) -> list[Any]:
        """What stands below a resource behind its name, so that an address is not compared with all of the others'."""
        urls, below = [], defaultdict[str, list[Any]](list)
        for route in super().get_urls():
            name, slash, rest = str(route.pattern).partition("/")
            if slash:
                below[name].append(path(rest, route.callback, name=route.name))
            else:
                urls.append(route)
        return [*urls, *(path(f"{name}/", include(routes)) for name, routes in below.items())]


def etag(told: Any) -> str:
    return f'"{sha256(JSONAnswer().render(told)).hexdigest()[:32]}"'


def _request_id(request: Any) -> str:
    told = request.headers.get("X-Request-ID", "")
    return told if REQUEST_ID.fullmatch(told) else str(uuid7())
