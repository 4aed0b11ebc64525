"""What the user's role does not allow is greyed out, with the reason."""

from typing import Any
from urllib.parse import urlencode

from django import template
from django.contrib.auth.models import AnonymousUser
from django.template import Context
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from console.accounts.access import User, refusal_for, rule_of
from console.accounts.roles import Permission
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
    role: str = "button",
    **query: Any,
) -> SafeString:
    """Render a button that opens a dialog, greyed out if the role or `refusal` says no.

    A manager's view is simple: what the role does not allow is left out there.

    look: `main`, `small`, `quiet`, or several of them.
    title: what the mouse shows; the label of an icon without text.
    query: further arguments go into the query of the URL.
    """
    looks = "".join(f" button-{each}" for each in look.split())
    shown = format_html("{}{}", draw_icon(icon, "" if text else title) if icon else "", text)
    why = by_role(context, url_name) or refusal
    if why and refusal_for(_user_of(context), Permission.WATCH):
        return SafeString("")
    if why:
        return format_html(
            '<button type="button" class="button{}" aria-disabled="true" title="{}">{}</button>',
            looks.replace(" button-main", ""),
            why,
            shown,
        )
    url = reverse(url_name, args=args) + (f"?{urlencode(query)}" if query else "")
    return format_html(
        '<a class="button{}"{} href="{}" hx-get="{}" hx-target="#dialog"{}>{}</a>',
        looks,
        format_html(' role="{}"', role) if role else "",
        url,
        url,
        format_html(' title="{}"', title) if title else "",
        shown,
    )


@register.simple_block_tag(takes_context=True)
def evidence(context: Context, content: str, url: str) -> SafeString:
    """Render a link to a machine, a job or their like; only its text for who may not see those."""
    text = SafeString(content.strip())
    if refusal_for(_user_of(context), Permission.WATCH):
        return text
    return format_html('<a href="{}">{}</a>', url, text)


def by_role(context: Context, url_name: str) -> str:
    """Return why the role of the user who looks at the page does not allow the URL."""
    return refusal_for(_user_of(context), rule_of(url_name))


def _user_of(context: Context) -> User:
    return getattr(getattr(context, "request", None), "user", None) or AnonymousUser()
