"""How figures, times and states are written."""

import datetime

import pytest
from django.template import Context, Template
from django.utils import timezone

from console.templatetags.console_format import (
    TONE_ICONS,
    age,
    age_text,
    bytes_human,
    duration_human,
    fingerprint,
    icon,
    moment,
    rate_human,
    state,
    words,
)


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (None, "–"),
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 KiB"),
        (1024, "1 KiB"),
        (64 * 1024, "64 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (52_000_000, "49.6 MiB"),
        (1_770_000_000, "1.6 GiB"),
        (8 * 1024**3, "8 GiB"),
        (150.4 * 1024**3, "150 GiB"),
        (1024**4, "1 TiB"),
        (5000 * 1024**5, "5000 PiB"),
    ],
)
def test_bytes(count_bytes: float | None, text: str) -> None:
    assert bytes_human(count_bytes) == text


def test_rate() -> None:
    assert rate_human(84 * 1024**2) == "84 MiB/s"
    assert rate_human(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (0.64, "0.6 s"),
        (3, "3 s"),
        (59.6, "1 min"),
        (250, "4 min 10 s"),
        (7200, "2 h"),
        (7260, "2 h 1 min"),
        (3 * 86400 + 4 * 3600, "3 d 4 h"),
        (datetime.timedelta(minutes=90), "1 h 30 min"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration_human(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (45, "45 seconds ago"),
        (60, "1 minute ago"),
        (3 * 60 + 59, "3 minutes ago"),
        (3600, "1 hour ago"),
        (30 * 3600, "30 hours ago"),
        (40 * 3600, "1 day ago"),
        (86400 * 500, "500 days ago"),
        (-300, "in 5 minutes"),
    ],
)
def test_age_text(seconds: float, text: str) -> None:
    assert age_text(seconds) == text


def test_age_tells_the_exact_time_in_its_title() -> None:
    at = timezone.now() - datetime.timedelta(minutes=3, seconds=5)

    html = age(at)

    assert ">3 minutes ago</time>" in html
    assert f'title="{at:%Y-%m-%d %H:%M:%S} UTC"' in html


def test_missing_times_are_said_in_words() -> None:
    assert age(None) == "never"
    assert age(None, "none") == "none"
    assert moment(None) == "never"


def test_moment() -> None:
    at = datetime.datetime(2026, 3, 1, 14, 5, 9, tzinfo=datetime.UTC)

    assert ">2026-03-01 14:05</time>" in moment(at)


def test_stored_words_are_written_as_words() -> None:
    assert words("frozen_while_read") == "frozen while read"
    assert words(None) == ""


def test_fingerprint_is_grouped() -> None:
    assert fingerprint("0123456789abcdef") == (
        '<code class="fingerprint">0123 4567 89ab cdef</code>'
    )


@pytest.mark.parametrize("tone", TONE_ICONS)
def test_state_has_colour_icon_and_word(tone: str) -> None:
    html = state(tone, "Said in <words>")

    assert f"state-{tone}" in html
    assert "<svg" in html
    assert "Said in &lt;words&gt;" in html


def test_state_gives_its_reason_in_the_title() -> None:
    assert 'title="no answer since 14:05"' in state("bad", "Unreachable", "no answer since 14:05")


def test_icon_is_hidden_unless_it_has_a_label() -> None:
    assert 'aria-hidden="true"' in icon("server")
    assert 'role="img" aria-label="Machine"' in icon("server", "Machine")


def test_prose_is_one_line_and_escapes_what_is_put_into_it() -> None:
    template = Template(
        "{% load console_format %}"
        "{% prose as text %}\n  Points of {{ name }}\n  don't go there.\n{% endprose %}"
        '<p title="{{ text }}">{{ text }}</p>'
    )
    text = "Points of &lt;b&gt; don't go there."
    assert template.render(Context({"name": "<b>"})) == f'<p title="{text}">{text}</p>'
