"""What a member may see and do on the admin pages: `TenantAdmin`, the base of all, denies what no role was given.

Which tenant's rows there are is not decided here: the site enters the member's tenant before a page runs and leaves the
membership on the request (`request.member`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import Model, URLField
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline

from accounts.bounds import TooMany, make_room
from accounts.permissions import BOOKS as BOOKS
from accounts.permissions import DESK as DESK
from accounts.permissions import EVERYBODY, NOBODY
from accounts.permissions import LEAD as LEAD


class TenantAdmin(ModelAdmin):
    """Rows of the member's tenant, as far as the member's role allows."""

    seen_by = EVERYBODY
    added_by = changed_by = deleted_by = NOBODY
    bounded = False  # a tenant may have `MOST` of the model in all
    actions: Sequence[Any] = ()
    change_list_template = "admin/rows.html"
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    compressed_fields = True
    warn_unsaved_form = True
    formfield_overrides = {URLField: {"assume_scheme": "https"}}

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _role(request) in self.seen_by

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _role(request) in self.added_by

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _role(request) in self.changed_by

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _role(request) in self.deleted_by

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def is_moving(self, request: HttpRequest) -> bool:
        """Whether what the list tells changes by itself just now: then it asks again every few seconds.

        Above the list, so does what has the id `told`.
        """
        return False

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """No form for one too many."""
        try:
            if self.bounded and self.has_add_permission(request):
                make_room(self.model._default_manager.all())
        except TooMany as problem:
            self.message_user(request, f"Nothing can be added: {problem}.", messages.ERROR)
            return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))
        return super().add_view(request, form_url, extra_context)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"moving": self.is_moving(request)} | (extra_context or {}))

    def get_exclude(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return [*(super().get_exclude(request, obj) or ()), "tenant"]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.tenant_id = request.member.tenant_id  # type: ignore[attr-defined]
        super().save_model(request, obj, form, change)

    def log_addition(self, *args: Any) -> None:
        """Nothing: Django's log knows no tenants, so what it quotes would be seen by others."""

    log_change = log_deletions = log_addition


class TenantInline(TabularInline):
    """Rows that are read with the row they belong to."""

    extra = 0
    can_delete = False
    exclude = ("tenant",)
    hide_title = True

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return _role(request) is not None

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """The head of a column is no label of the fields under it."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None:
            field.widget.attrs["aria-label"] = db_field.verbose_name.capitalize()
        return field


def _role(request: HttpRequest) -> str | None:
    member = getattr(request, "member", None)
    return member.role if member else None


def decimals(score: float | None) -> str:
    """Three places, as scores are told everywhere."""
    return "–" if score is None else f"{score:.3f}"


def links(pages: dict[str, str]) -> SafeString:
    """What is at each address, to be clicked."""
    return format_html_join(" · ", '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', pages.items())
