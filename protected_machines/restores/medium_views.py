"""The rescue medium in the console: its section of the Settings page, and the download."""

from typing import Any

from django.http import FileResponse, Http404, HttpRequest
from django.views.decorators.http import require_safe

from agent.version import VERSION
from protected_machines.restores.medium import (
    build_command,
    digest_of,
    find_medium,
    medium_path,
)
from rescue_medium.facts import NotAMedium


def medium_section(request: HttpRequest) -> dict[str, Any]:
    """Return what the section shows: the medium, or why there is none, and how to build it."""
    section: dict[str, Any] = {
        "path": medium_path(),
        "command": build_command(),
        "core_version": VERSION,
    }
    try:
        medium = find_medium()
        if medium is not None:
            section |= {"medium": medium, "digest": digest_of(medium.path)}
    except (NotAMedium, OSError) as error:
        section["trouble"] = str(error)
    return section


@require_safe
def medium_download(request: HttpRequest) -> FileResponse:
    """Send the ISO."""
    try:
        medium = find_medium()
        if medium is None:
            raise Http404("This core has no rescue medium.")
        # Django closes it with the response.
        file = medium.path.open("rb")
    except (NotAMedium, OSError) as error:
        raise Http404(str(error)) from error
    return FileResponse(
        file,
        as_attachment=True,
        filename=medium.file_name,
        content_type="application/x-iso9660-image",
    )
