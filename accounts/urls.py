"""Where the resources of accounts and money stand, below `/api/v1/`."""

from django.urls import path

from accounts import views
from accounts.rest.views import Router

router = Router()
router.register("members", views.Members, "member")
router.register("api-keys", views.ApiKeys, "api-key")
router.register("customers/<uuid:customer_pk>/records", views.Records, "record")
router.register("ledger", views.Ledger, "ledger-entry")
router.register("tariffs", views.Tariffs, "tariff")
router.register("webhooks", views.Webhooks, "webhook")
router.register("deliveries", views.Deliveries, "delivery")
router.register("audit-log", views.AuditLog, "audit-entry")

urlpatterns = [
    path("tenant", views.Tenant.as_view({"get": "retrieve", "patch": "partial_update"}), name="tenant"),
    *router.urls,
]
