"""What the frame's script and the vendored htmx do together, in a real browser."""

import threading
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client
from django.urls import path
from playwright.sync_api import Browser, Page, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from console.htmx import redirect_after, refuse, with_event, with_toast
from console.urls import handler403, handler404, handler500, urlpatterns
from tests.browser import chromium, page_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
]

PAGE = """{% extends "base.html" %}{% load console_format %}
{% block heading %}Trial{% endblock %}
{% block content %}
<div id="poller" hx-get="/trial/answer/" hx-trigger="every 60s" hx-swap="outerHTML">
  <details class="menu"><summary role="button" class="button">Actions</summary><div role="menu">
    <a role="menuitem" href="/trial/dialog/" hx-get="/trial/dialog/" hx-target="#dialog">Ask</a>
    <button role="menuitem" aria-disabled="true" title="why not">Never</button>
    <form method="post" action="/trial/refuse/" hx-post="/trial/refuse/">{% csrf_token %}
      <button role="menuitem">Refused</button></form>
  </div></details>
</div>
<form method="post" action="/trial/done/" hx-post="/trial/done/" id="done">{% csrf_token %}
  <button>Done</button></form>
<a href="/trial/over/" hx-get="/frame/" hx-target="#done">Fragment</a>
<a href="/trial/looks/" hx-get="/trial/looks/" hx-target="#dialog">Look</a>
{% endblock %}"""

DIALOG = """<form class="form" method="post" action="/trial/act/" hx-post="/trial/act/"
  hx-target="#dialog">{% csrf_token %}
  <header class="dialog-head"><h2 id="dialog-title">Ask</h2></header>
  <div class="dialog-body"><div class="refusal"></div><p>{{ text }}</p>
    <input name="word" aria-label="Word"></div>
  <footer class="dialog-foot"><a class="button" href="/trial/" data-close>Cancel</a>
    <button class="button" type="submit">Continue</button></footer></form>"""

LOOKS = """<form class="form" method="post" action="/trial/looks/" hx-post="/trial/looks/"
  hx-target="#dialog" hx-sync="this:replace">{% csrf_token %}
  <header class="dialog-head"><h2 id="dialog-title">Look</h2></header>
  <p>Seen: {{ first }} {{ second }}.</p>
  <input name="box" type="checkbox" id="box">
  <input name="first" id="first" aria-label="First" value="{{ first }}">
  <input name="second" id="second" aria-label="Second" value="{{ second }}">
  <div hidden hx-post="/trial/looks/" hx-trigger="change from:closest form" hx-target="#dialog"
    hx-sync="closest form:queue last" hx-include="closest form"></div></form>"""
_may_answer = threading.Event()


def _render(request: HttpRequest, source: str, status: int = 200, **context: str) -> HttpResponse:
    template = engines["django"].from_string(source)
    return HttpResponse(template.render(context, request), status=status)


def trial(request: HttpRequest) -> HttpResponse:
    return _render(request, PAGE)


def dialog(request: HttpRequest) -> HttpResponse:
    return _render(request, DIALOG)


def looks(request: HttpRequest) -> HttpResponse:
    """Show the form with what was sent, which takes its time."""
    if request.method == "POST":
        assert _may_answer.wait(30)
    first, second = request.POST.get("first", ""), request.POST.get("second", "")
    return _render(request, LOOKS, first=first, second=second)


def act(request: HttpRequest) -> HttpResponse:
    """Do what the word says: refuse, complain, or go on."""
    word = request.POST["word"]
    if word == "refuse":
        return refuse(request, "It is busy.")
    if word == "wrong":
        return _render(request, DIALOG, status=422, text="That word is wrong.")
    return redirect_after(request, "/settings/", toast="It was done.")


def refused(request: HttpRequest) -> HttpResponse:
    return refuse(request, "Not today.")


def done(request: HttpRequest) -> HttpResponse:
    answer = _render(request, "<button>Done again</button>")
    return with_event(with_toast(answer, "Paused <it>."), "jobs-changed")


class Urls:
    """The console's addresses and some to try its script on."""

    handler403, handler404, handler500 = handler403, handler404, handler500
    urlpatterns = [
        *urlpatterns,
        path("trial/", trial),
        path("trial/dialog/", dialog),
        path("trial/act/", act),
        path("trial/looks/", looks),
        path("trial/refuse/", refused),
        path("trial/done/", done),
    ]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(
    browser: Browser, live_server: LiveServer, admin: User, settings: Settings
) -> Iterator[Page]:
    """A page of a signed-in administrator, at the trial page."""
    settings.ROOT_URLCONF = Urls
    client = Client()
    client.force_login(admin)
    with page_of(browser, live_server, client) as page:
        page.goto("/trial/")
        yield page


def open_dialog(page: Page) -> None:
    page.get_by_role("main").get_by_role("button", name="Actions").click()
    page.get_by_role("menuitem", name="Ask").click()
    expect(page.get_by_role("dialog", name="Ask")).to_be_visible()


def answer(page: Page, word: str) -> None:
    page.get_by_label("Word").fill(word)
    page.get_by_role("dialog").get_by_role("button", name="Continue").click()


def test_dialog_opens_from_a_menu_inside_a_poller_and_closes(page: Page) -> None:
    open_dialog(page)
    expect(page.get_by_role("menuitem", name="Ask")).to_be_hidden()

    page.get_by_role("dialog").get_by_text("Cancel").click()

    expect(page.get_by_role("dialog")).to_be_hidden()
    assert page.url.endswith("/trial/")


def test_invalid_form_stays_in_the_dialog(page: Page) -> None:
    open_dialog(page)
    answer(page, "wrong")

    expect(page.get_by_role("dialog", name="Ask")).to_contain_text("That word is wrong.")


def test_what_is_typed_while_a_form_looks_again_stays(page: Page) -> None:
    _may_answer.clear()
    page.get_by_role("link", name="Look").click()
    dialog = page.get_by_role("dialog", name="Look")
    first, second = dialog.get_by_label("First"), dialog.get_by_label("Second")
    first.fill("one")
    with page.expect_response("**/trial/looks/"):
        second.fill("two")
        _may_answer.set()
    expect(dialog).to_contain_text("Seen: .")
    expect(second).to_be_focused()
    second.press("End")
    second.type("fold")
    second.press("Tab")
    expect(dialog).to_contain_text("Seen: one twofold.")
    expect(first).to_have_value("one")
    expect(second).to_have_value("twofold")


def test_who_goes_on_to_the_next_field_while_a_form_looks_again_stays_there(page: Page) -> None:
    _may_answer.set()
    page.get_by_role("link", name="Look").click()
    dialog = page.get_by_role("dialog", name="Look")
    dialog.get_by_label("First").fill("one")
    dialog.get_by_label("First").press("Tab")
    expect(dialog).to_contain_text("Seen: one .")
    expect(dialog.get_by_label("Second")).to_be_focused()


def test_refusal_is_said_in_the_dialog_that_asked(page: Page) -> None:
    open_dialog(page)
    answer(page, "refuse")

    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("It is busy.")


def test_act_leaves_for_the_next_page_with_a_toast(page: Page) -> None:
    open_dialog(page)
    answer(page, "go")

    page.wait_for_url("**/settings/")
    expect(page.get_by_text("It was done.")).to_be_visible()


def test_refusal_outside_a_dialog_is_a_toast(page: Page) -> None:
    page.get_by_role("main").get_by_role("button", name="Actions").click()
    page.get_by_role("menuitem", name="Refused").click()

    expect(page.locator("#toasts").get_by_role("alert")).to_contain_text("Not today.")


def test_fragment_can_bring_a_toast_and_renew_the_frame(page: Page) -> None:
    with page.expect_response("**/frame/*"):
        page.get_by_role("button", name="Done").click()

    expect(page.locator("#toasts")).to_contain_text("Paused <it>.")


def test_menu_goes_by_keyboard(page: Page) -> None:
    button = page.get_by_role("main").get_by_role("button", name="Actions")
    button.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("menuitem", name="Ask")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("menuitem", name="Refused")).to_be_focused()

    page.keyboard.press("Escape")

    expect(page.get_by_role("menuitem", name="Ask")).to_be_hidden()
    expect(button).to_be_focused()


def test_theme_is_remembered(page: Page) -> None:
    body = page.locator("html")
    page.get_by_role("button", name="Theme: system").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(body).to_have_attribute("data-theme", "dark")

    page.reload()

    expect(body).to_have_attribute("data-theme", "dark")
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()


def test_fragment_without_a_session_leads_to_sign_in_and_back(page: Page) -> None:
    page.context.clear_cookies()

    page.get_by_role("link", name="Fragment").click()

    page.wait_for_url("**/account/login/?next=%2Ftrial%2F")


def test_narrow_window_hides_the_navigation_behind_a_button(page: Page) -> None:
    page.set_viewport_size({"width": 420, "height": 800})
    navigation = page.get_by_role("navigation", name="Protected Machines")
    expect(navigation).to_be_hidden()

    page.get_by_role("button", name="Machines").click()

    expect(navigation).to_be_visible()
    expect(page.get_by_role("button", name="admin")).to_be_visible()
    expect(page.get_by_role("link", name="No jobs running")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
