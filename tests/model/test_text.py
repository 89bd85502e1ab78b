"""Escaping: what the result never holds, and what is never touched."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.moment import date_time, iso_time
from appliance.model.text import json_printable, json_safe, printable, why

ANY_TEXT = st.text(st.characters(codec=None, exclude_categories=()))
BIDI = {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}

CASES = [
    ("plain", "plain"),
    ("a\nb\r\tc", "a\\nb\\r\\tc"),
    ("\x1b[31mred", "\\x1b[31mred"),
    ("nul\x00del\x7f", "nul\\x00del\\x7f"),
    ("\x9b31m", "\\u009b31m"),
    ("gpj.\u202eexe", "gpj.\\u202eexe"),
    ("\u2066\u2069\u200e\u200f\u061c", "\\u2066\\u2069\\u200e\\u200f\\u061c"),
    ("a\u2028b\u2029c\x85", "a\\u2028b\\u2029c\\u0085"),
    (b"bad \x80\xff byte".decode("utf-8", "surrogateescape"), "bad \\x80\\xff byte"),
    ("\ud800", "\\ud800"),
    ("Grüße 日本語 🦅 100% \\n", "Grüße 日本語 🦅 100% \\n"),
]


@pytest.mark.parametrize(("text", "shown"), CASES)
def test_shows_what_acts_and_keeps_the_rest(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(ANY_TEXT)
def test_printable_is_one_line_of_harmless_text(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in shown)
    assert not any(unicodedata.bidirectional(c) in BIDI for c in shown)
    assert printable(shown) == shown


@given(st.binary())
def test_any_bytes_can_be_shown(data: bytes) -> None:
    printable(data.decode("utf-8", "surrogateescape")).encode()


@given(ANY_TEXT)
def test_json_safe_changes_surrogates_only(text: str) -> None:
    safe = json_safe(text)
    safe.encode()
    if not any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        assert safe == text


@given(ANY_TEXT)
def test_json_printable_keeps_the_value(text: str) -> None:
    safe = json_safe(text)
    document = json_printable(json.dumps([safe], ensure_ascii=False))
    assert json.loads(document) == [safe]
    assert printable(document) == document


def test_years_have_four_digits() -> None:
    """ISO 8601 wants them; strftime(3) does not pad."""
    assert iso_time(-62135596800_000_000_000) == "0001-01-01T00:00:00.000000000"
    assert iso_time(-62135596800_000_000_000 + 5) == "0001-01-01T00:00:00.000000005"
    assert iso_time(253402300799_999_999_999) == "9999-12-31T23:59:59.999999999"
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9}\Z", date_time(-62000000000_000_000_000))


def test_the_reason_of_an_error_made_by_hand_is_its_text() -> None:
    assert why(OSError("a text")) == "a text"
    assert why(OSError(2, "No such file or directory")) == "No such file or directory"
