"""Who asks and who pays: tenants, their members, keys, widgets and customers, and the books.

Every row but `User` belongs to one tenant and is hidden from all others by row-level security
(`accounts.tenancy`). Money is written by `accounts.ledger` alone.
"""

from accounts.models.books import Account, Allowance, Export, Hold, LedgerEntry, Statement, Tariff
from accounts.models.budgets import Budget, BudgetEvent, BudgetSpending, eighty_and_all
from accounts.models.customers import Customer, CustomerRecord, Widget, WidgetSecret, check_origins
from accounts.models.doors import AuditEntry, Delivery, KeptAnswer, Webhook
from accounts.models.tenants import ApiKey, Member, Tenant, TenantRow, User, check_time_zone

__all__ = [
    "Account",
    "Allowance",
    "ApiKey",
    "AuditEntry",
    "Budget",
    "BudgetEvent",
    "BudgetSpending",
    "Customer",
    "CustomerRecord",
    "Delivery",
    "Export",
    "Hold",
    "KeptAnswer",
    "LedgerEntry",
    "Member",
    "Statement",
    "Tariff",
    "Tenant",
    "TenantRow",
    "User",
    "Webhook",
    "Widget",
    "WidgetSecret",
    "check_origins",
    "check_time_zone",
    "eighty_and_all",
]
