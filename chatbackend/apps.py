from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class ChatbackendConfig(AppConfig):
    name = "chatbackend"
    verbose_name = "How people reach us"


class TenantAdminConfig(AdminConfig):
    """Django's admin pages, on a site that enters the member's tenant first."""

    default_site = "chatbackend.admin_site.TenantAdminSite"
