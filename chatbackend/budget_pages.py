"""Budgets on the admin pages."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from unfold.decorators import display
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from accounts.models import Budget
from accounts.money import Money
from accounts.staff_pages import BOOKS, LEAD, TenantAdmin
from accounts.templatetags.money import dollars
from chatbackend.budget_subject import budget_subject


class BudgetForm(forms.ModelForm):
    """A limit in dollars. What it is for is chosen once; the limit and what happens at it can be changed."""

    limit = forms.DecimalField(
        label="Limit in US dollars", min_value=0, max_digits=18, decimal_places=6, widget=UnfoldAdminDecimalFieldWidget
    )

    class Meta:
        model = Budget
        fields = ("scope", "subject", "period", "hard", "limit", "shares", "cheapest_tiers", "refusal")
        widgets = {"shares": UnfoldAdminTextInputWidget, "refusal": UnfoldAdminTextareaWidget({"rows": 2})}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance._state.adding:
            self.initial["limit"] = Money(self.instance.limit_micros).usd

    def clean(self) -> dict[str, Any]:
        told = super().clean() or {}
        if self.errors:
            return told
        self.instance.limit_micros = Money.from_usd(told["limit"]).micros
        if self.instance._state.adding:
            try:
                told["subject"] = budget_subject(told["scope"], told["subject"])
            except ValueError as problem:
                raise ValidationError({"subject": str(problem)}) from None
            same = {name: told[name] for name in ("scope", "subject", "period", "hard")}
            if Budget.objects.filter(**same).exists():
                raise ValidationError("There is a budget for this already: change its limit.")
        return told


@admin.register(Budget)
class BudgetPage(TenantAdmin):
    """What turns may cost; how full each is stands on the page of costs."""

    seen_by = BOOKS
    added_by = changed_by = LEAD
    bounded = True
    form = BudgetForm
    list_display = ("__str__", "whom", "limit_dollars", "hard", "shares")
    list_filter = ("scope", "period", "hard")
    ordering = ("scope", "period", "created_at")

    def get_readonly_fields(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        return ("scope", "subject", "period", "hard") if obj else ()

    def get_fields(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        if obj and not self.has_change_permission(request, obj):
            return ("scope", "subject", "period", "hard", "limit_dollars", "shares", "cheapest_tiers", "refusal")
        return BudgetForm.Meta.fields

    def get_form(self, request: HttpRequest, obj: Budget | None = None, **kwargs: Any) -> Any:
        if obj and not self.has_change_permission(request, obj):
            kwargs["form"] = forms.ModelForm
        return super().get_form(request, obj, **kwargs)

    @display(description="for", ordering="subject")
    def whom(self, budget: Budget) -> str:
        return budget.subject or ("everything" if budget.scope == Budget.Scope.TENANT else "each")

    @display(description="limit", ordering="limit_micros")
    def limit_dollars(self, budget: Budget) -> str:
        return dollars(budget.limit_micros)
