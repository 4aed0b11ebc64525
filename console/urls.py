"""Every address of the console, by room."""

from django.urls import include, path

urlpatterns = [
    path("account/", include("allauth.urls")),
    # Rooms include their own urls.py here, one line each.
]
