"""Actions menus: what can be done, and why not. Rendered by `console/_menu.html`."""

from dataclasses import dataclass
from typing import Any

from django.urls import reverse


@dataclass(frozen=True)
class MenuItem:
    """One item. `how` is "page", "dialog" or "post"; `refusal` says why it cannot be used now.

    The view behind `url_name`, with `key` as its argument, refuses with the same function that
    returned `refusal`. Whether the user's role allows it is asked when the menu is rendered.
    """

    title: str
    icon: str
    url_name: str
    key: Any
    how: str
    refusal: str = ""
    is_danger: bool = False

    @property
    def url(self) -> str:
        return reverse(self.url_name, args=[self.key])
