"""How a test reads a page."""

from django.http import HttpResponse


def as_read(response: HttpResponse) -> str:
    """Return a page as a browser shows it: any white space, the end of a line too, is one space."""
    return " ".join(response.content.decode().split())
