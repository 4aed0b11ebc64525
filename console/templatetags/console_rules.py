"""What the user's role does not allow is greyed out, with the reason."""

from typing import Any
from urllib.parse import urlencode

from django import template
from django.contrib.auth.models import AnonymousUser
from django.template import Context
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from console.accounts.access import refusal_for, rule_of
from console.templatetags.console_format import icon as draw_icon

register = template.Library()


@register.simple_tag(takes_context=True)
def refused(context: Context, url_name: str, refusal: str = "") -> str:
    """Return why the user cannot use the URL: their role, or else the `refusal` given."""
    return by_role(context, url_name) or refusal


@register.simple_tag(takes_context=True)
def dialog_link(
    context: Context,
    url_name: str,
    *args: Any,
    text: str,
    icon: str = "",
    look: str = "",
    title: str = "",
    refusal: str = "",
    **query: Any,
) -> SafeString:
    """Render a button that opens a dialog, greyed out if the role or `refusal` says no.

    look: `main`, `small`, `quiet`, or several of them.
    title: what the mouse shows; the label of an icon without text.
    query: further arguments go into the query of the URL.
    """
    looks = "".join(f" button-{each}" for each in look.split())
    shown = format_html("{}{}", draw_icon(icon, "" if text else title) if icon else "", text)
    why = by_role(context, url_name) or refusal
    if why:
        return format_html(
            '<button type="button" class="button{}" aria-disabled="true" title="{}">{}</button>',
            looks.replace(" button-main", ""),
            why,
            shown,
        )
    url = reverse(url_name, args=args) + (f"?{urlencode(query)}" if query else "")
    return format_html(
        '<a class="button{}" role="button" href="{}" hx-get="{}" hx-target="#dialog"{}>{}</a>',
        looks,
        url,
        url,
        format_html(' title="{}"', title) if title else "",
        shown,
    )


def by_role(context: Context, url_name: str) -> str:
    """Return why the role of the user who looks at the page does not allow the URL."""
    request = getattr(context, "request", None)
    user = getattr(request, "user", None) or AnonymousUser()
    return refusal_for(user, rule_of(url_name))
