"""Addresses of the frame: `/`, `/settings/`, and `/frame/` for the parts that update."""

from django.urls import path

from console import views

app_name = "console"
urlpatterns = [
    path("", views.home, name="home"),
    path("settings/", views.settings_page, name="settings"),
    path("frame/", views.frame, name="frame"),
]
