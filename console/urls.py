"""All addresses of the console, by room."""

from django.urls import include, path

handler403 = "console.errors.permission_denied"
handler404 = "console.errors.page_not_found"
handler500 = "console.errors.server_error"

urlpatterns = [
    path("", include("console.frame_urls")),
    path("settings/users/", include("console.accounts.user_urls")),
    path("account/", include("console.accounts.urls")),
    path("audit/", include("console.audit.urls")),
    path("jobs/", include("console.jobs.urls")),
    path("", include("protected_machines.urls")),
    path("replication/", include("replication.urls")),
    path("status/", include("replication.status.urls")),
    # Each room includes its own urls.py here, in one line.
]
