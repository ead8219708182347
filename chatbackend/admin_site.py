"""The admin pages of one tenant: every request runs, and is drawn, inside the member's tenant.

A user without a membership is refused. Which rows there are is the database's word (row-level security), what a role
may do with them `accounts.staff_pages.TenantAdmin`'s; other models are not shown at all.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.forms import AuthenticationForm as AnyUserForm
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import SimpleTemplateResponse, TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.forms import AuthenticationForm
from unfold.sites import UnfoldAdminSite

from accounts import audit
from accounts.members import CHOSEN, chosen, memberships
from accounts.staff_pages import BOOKS, EVERYBODY, LEAD, TenantAdmin
from accounts.tenancy import in_tenant
from chatbackend import dashboard, money_page
from chatbackend.empty_lists import EMPTY
from chatbackend.months import month_of

# Group, then model and icon. What a role may not see is left out.
SIDEBAR = {
    "": {"conversation": "forum", "turn": "alt_route", "modelcall": "smart_toy", "feedback": "thumbs_up_down"},
    "People": {"customer": "person", "member": "badge"},
    "Money": {
        **{"budget": "speed", "statement": "request_quote", "export": "download", "ledgerentry": "receipt_long"},
        **{"hold": "lock_clock", "tariff": "handshake", "price": "sell"},
    },
    "Chatbot": {"chatbot": "chat_bubble", "widget": "widgets"},
    "Knowledge": {
        **{"article": "article", "upload": "upload_file", "lookup": "help", "savedreply": "quickreply"},
        "rememberedanswer": "psychology",
    },
    "Strategy": {
        "cascadestrategy": "stairs",
        "proposal": "lightbulb",
        "shadowtrial": "theater_comedy",
        "strategychange": "history",
        "driftreading": "trending_down",
    },
    "Scorer": {"scorerversion": "balance", "shadowscore": "contrast", "scorercalibration": "tune"},
    "Records": {"languagemodel": "dns", "message": "sms", "event": "stream", "apikey": "key", "tenant": "store"},
    "Programs": {"auditentry": "manage_search", "webhook": "webhook", "delivery": "outbox"},
}


class LoginForm(AuthenticationForm):
    """Anybody may log in who has a password; what they see is up to their memberships."""

    def confirm_login_allowed(self, user: Any) -> None:
        AnyUserForm.confirm_login_allowed(self, user)


class TenantAdminSite(UnfoldAdminSite):
    login_form = LoginForm
    index_template = "admin/dashboard.html"
    index_title = "Overview"
    enable_nav_sidebar = True

    def register(self, model_or_iterable: Any, admin_class: Any = None, **options: Any) -> None:
        """Only pages that know of tenants and roles."""
        if admin_class is not None and issubclass(admin_class, TenantAdmin):
            super().register(model_or_iterable, admin_class, **options)

    def has_permission(self, request: HttpRequest) -> bool:
        return getattr(request, "member", None) is not None

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        guarded = super().admin_view(view, cacheable)

        def enter(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return guarded(request, *args, **kwargs)  # to the login page
            if view == self.logout:
                return view(request)  # with or without a tenant
            request.memberships = memberships(request.user)  # type: ignore[attr-defined]
            member = chosen(request, request.memberships)  # type: ignore[attr-defined]
            if member is None:
                return TemplateResponse(request, "admin/no_tenant.html", self.each_context(request), status=403)
            with in_tenant(member.tenant_id):
                request.member = member  # type: ignore[attr-defined]
                audit.by(f"user:{request.user.pk}", request.META.get("REMOTE_ADDR", ""))
                response = guarded(request, *args, **kwargs)
                if isinstance(response, SimpleTemplateResponse):
                    response.render()  # while the tenant's rows can be read
                return response

        return enter

    def extra_urls(self) -> list[URLPattern]:
        return [
            path("tenant/", self.admin_view(require_POST(self.choose)), name="choose_tenant"),
            path("money/", self.admin_view(self.money), name="money"),
        ]

    def choose(self, request: HttpRequest) -> HttpResponse:
        """Another of the user's tenants from now on."""
        wanted = request.POST.get("tenant")
        if wanted not in {str(member.tenant_id) for member in request.memberships}:  # type: ignore[attr-defined]
            raise Http404("no such tenant")
        request.session[CHOSEN] = wanted
        return HttpResponseRedirect(reverse("admin:index"))

    def money(self, request: HttpRequest) -> HttpResponse:
        """`?first=2026-10&last=2026-11`: what these months cost."""
        member = request.member  # type: ignore[attr-defined]
        if member.role not in BOOKS:
            raise PermissionDenied
        first, last = (month_of(request.GET[name]) if request.GET.get(name) else None for name in ("first", "last"))
        told = money_page.context(member.tenant, first, last) | {"title": "Costs", "may_change": member.role in LEAD}
        return TemplateResponse(request, "admin/money.html", self.each_context(request) | told)

    def extra_context(self, context: dict[str, Any], request: HttpRequest) -> dict[str, Any]:
        member = getattr(request, "member", None)
        if member:
            context |= {
                "member": member,
                "memberships": request.memberships,  # type: ignore[attr-defined]
                "site_subheader": f"{member.tenant.name} · {member.role}",
                "empty": self.empty_list(request),
            }
        return context

    def empty_list(self, request: HttpRequest) -> dict[str, Any] | None:
        """What this page says if its list is empty; a way on is shown to who may go it."""
        page = getattr(request.resolver_match, "url_name", "").removesuffix("_changelist").rpartition("_")[2]
        if (told := EMPTY.get(page)) is None:
            return None
        url = ""
        for target in self._registry.values():
            if target.opts.model_name == told.page and target.has_view_permission(request):
                url = f"admin:{target.opts.app_label}_{told.page}_changelist"
        return {"told": told, "url": url}

    def get_sidebar_list(self, request: HttpRequest) -> list[dict[str, Any]]:
        pages = {model._meta.model_name: page for model, page in self._registry.items()}

        def item(name: str, icon: str) -> dict[str, Any]:
            meta = pages[name].model._meta
            link = reverse(f"admin:{meta.app_label}_{name}_changelist")
            return {
                "title": "API keys" if name == "apikey" else meta.verbose_name_plural.capitalize(),
                "icon": icon,
                "link": link,
                "active": request.path.startswith(link),
                "has_permission": pages[name].has_view_permission(request),
            }

        def page(title: str, icon: str, name: str, roles: frozenset[str]) -> dict[str, Any]:
            told = {"title": title, "icon": icon, "link": reverse(f"admin:{name}")}
            allowed = getattr(getattr(request, "member", None), "role", None) in roles
            return told | {"active": request.path == told["link"], "has_permission": allowed}

        groups = [(title, [item(*page) for page in listed.items()]) for title, listed in SIDEBAR.items()]
        groups[0][1].insert(0, page("Overview", "monitoring", "index", EVERYBODY))
        next(items for title, items in groups if title == "Money").insert(0, page("Costs", "bar_chart", "money", BOOKS))
        return [
            {"title": title, "items": items} for title, items in groups if any(it["has_permission"] for it in items)
        ]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        member, waiting = request.member, dashboard.waiting()  # type: ignore[attr-defined]
        told = {"waiting": waiting[: dashboard.SHOWN_WAITING], "waiting_count": waiting.count()}
        if member.role in BOOKS:
            told |= dashboard.context(member.tenant)
        return super().index(request, told | (extra_context or {}))
