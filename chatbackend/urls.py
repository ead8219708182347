"""Every address."""

from django.conf import settings
from django.contrib import admin
from django.urls import path

from chatbackend import views
from chatbackend.demo import views as demo

urlpatterns = [
    path("admin/", admin.site.urls),
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
