"""Actions menus: what can be done, and why not. Rendered by `console/_menu.html`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MenuItem:
    """One item. `how` is "page", "dialog" or "post"; `refusal` says why it cannot be used now.

    The view behind `url` refuses with the same function that returned `refusal`.
    """

    title: str
    icon: str
    url: str
    how: str
    refusal: str = ""
