"""The Actions menus: what can be done, and why not now. Drawn by `console/_menu.html`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MenuItem:
    """One item; `how` is "page", "dialog" or "post". `refusal` is why it cannot be used now.

    The view behind `url` refuses by the function that gave `refusal`.
    """

    title: str
    icon: str
    url: str
    how: str
    refusal: str = ""
