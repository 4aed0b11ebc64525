"""Addresses of the audit log."""

from django.urls import path

from console.audit import views

app_name = "audit"
urlpatterns = [
    # Prefix /audit/
    path("", views.log, name="log"),
    path("export/", views.export, name="export"),
    path("<int:number>/", views.entry, name="entry"),
]
