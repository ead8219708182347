"""Every address."""

from django.conf import settings
from django.contrib import admin
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt

from accounts import urls as of_accounts
from accounts.rest.problems import nowhere
from cascade import urls as of_cascade
from cascade import wiring
from chatbackend import openai_api, rest_api, views
from chatbackend.demo import views as demo

# One list, searched from its beginning: customers, whom programs tell of most often, stand at it.
RESOURCES = [*rest_api.urlpatterns, *of_accounts.urlpatterns, *of_cascade.urlpatterns]

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/v1/", include(RESOURCES)),
    path("api/v1/openapi.json", views.description, name="openapi"),
    re_path(r"^api/v1/", csrf_exempt(nowhere)),
    path("v1/", include(openai_api.patterns(wiring.engine))),
    path("healthz", views.health, name="health"),
]
if settings.DEMO:
    urlpatterns += [
        path("", demo.home, name="home"),
        path("demo/identity", demo.identity, name="demo_identity"),
        path("demo/records", demo.records, name="demo_records"),
        path("demo/turns/<uuid:turn_id>", demo.turn, name="demo_turn"),
    ]
else:
    urlpatterns += [path("", views.landing, name="home")]
