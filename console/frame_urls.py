"""Addresses of the frame: pages, `/frame/` for the parts that update, and what monitors ask."""

from django.urls import path

from console import health, views

app_name = "console"
urlpatterns = [
    path("", views.home, name="home"),
    path("settings/", views.settings_page, name="settings"),
    path("frame/", views.frame, name="frame"),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
