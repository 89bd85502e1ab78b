"""Escaping: what the result never holds, and what is never touched."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.model.text import json_printable, json_safe, printable

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
