"""Bodies to alerts: every form that a body may have, and everything that strangers write."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.hub.alert import HubAlert, whole_alert
from appliance.hub.ingest.check import Refused, alert_of, time_of
from appliance.hub.ingest.parse import BadBody, Event, events_in, unpack
from appliance.model.alert import Priority

MAX = 1 << 20
GOOD = {
    "output": "o", "priority": "Warning", "rule": "r", "time": "2026-01-02T03:04:05.678901234Z",
    "output_fields": {"a": 1}, "hostname": "h", "source": "syscall", "tags": ["b", "a"],
}  # fmt: skip


def body(**changes: object) -> bytes:
    return json.dumps({k: v for k, v in (GOOD | changes).items() if v is not ...}).encode()


def found(data: bytes) -> list[Event | str]:
    return list(events_in(data, MAX))


def alert(data: bytes) -> HubAlert:
    (one,) = found(data)
    if isinstance(one, str):
        raise Refused(one)
    return whole_alert(alert_of(one, 5, None))


ONE = body()


@pytest.mark.parametrize(
    "data",
    [
        ONE + b"\n" + ONE,
        ONE + b"\r\n\r\n" + ONE + b"\n\n",
        b"[" + ONE + b"," + ONE + b"]",
        ONE + ONE,
        ONE + b"  " + ONE,
        json.dumps(GOOD, indent=2).encode() + b"\n" + json.dumps(GOOD, indent=1).encode(),
        json.dumps([GOOD, GOOD], indent=2).encode(),
        b"\xef\xbb\xbf" + ONE + b"\n" + ONE + b"\x00",
        ONE + ONE + b"\n",
    ],
)
def test_forms_of_a_body(data: bytes) -> None:
    assert [one.rule for one in found(data) if isinstance(one, Event)] == ["r", "r"]
    assert len(found(data)) == 2


def test_what_is_good_beside_what_is_not_is_kept() -> None:
    assert [isinstance(one, Event) for one in found(ONE + b"\nnot\n" + ONE)] == [True, False, True]
    assert [isinstance(one, Event) for one in found(ONE + b"{")] == [True, False]
    assert [isinstance(one, Event) for one in found(b"[" + ONE + b",5," + ONE + b"]")] == [True, False, True]


def test_an_alert_has_all_of_its_event() -> None:
    made = alert(ONE)
    assert made == HubAlert(
        0, made.id, 1767323045678901234, 5, "h", "r", Priority.WARNING, "syscall", ("a", "b"), "o", {"a": 1}
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rule": ...}, "rule"), ({"rule": ""}, "rule"), ({"rule": 5}, "rule"), ({"rule": None}, "rule"),
        ({"priority": ...}, "priority"), ({"priority": "loud"}, "priority"), ({"priority": 4}, "priority"),
        ({"time": ...}, "time"), ({"time": "yesterday"}, "time"), ({"time": "2026-01-02T03:04:05"}, "time"),
        ({"time": "0001-01-01T00:00:00Z"}, "time"), ({"time": "2026-02-30T00:00:00Z"}, "time"),
        ({"time": "2026-01-01T25:00:00Z"}, "time"), ({"time": "9999-01-01T00:00:00Z"}, "time"),
        ({"time": "٢026-01-02T03:04:05Z"}, "time"),
        ({"output_fields": ...}, "output_fields"), ({"output_fields": {}}, "output_fields"),
        ({"output_fields": []}, "output_fields"), ({"tags": "a"}, "tags"), ({"tags": [1]}, "tags"),
        ({"hostname": 5}, "hostname"), ({"output": {}}, "output"),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(Refused, match=f"`{reason}`"):
        alert(body(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"output": ...}, {"output": ""}, {"output": None}, {"source": ...}, {"tags": ...}, {"tags": None},
        {"hostname": None}, {"priority": "INFO"}, {"priority": "debug"}, {"uuid": 5}, {"more": {"a": []}},
        {"output_fields": {"k8s.ns.name": 5, "k8s.pod.name": ["x"]}},
    ],
)  # fmt: skip
def test_what_is_taken(changes: dict[str, object]) -> None:
    made = alert(body(**changes))
    assert made.rule == "r"
    assert made.source == "syscall"


def test_keys_in_any_case_are_known_and_the_last_counts() -> None:
    assert alert(ONE.replace(b'"rule"', b'"Rule"').replace(b'"output_fields"', b'"Output_Fields"')).rule == "r"
    assert alert(ONE[:-1] + b', "rule": "again"}').rule == "again"


def test_the_same_event_has_the_same_id_and_another_one_another() -> None:
    assert alert(ONE).id == alert(ONE).id
    assert (
        len({alert(body(**{k: v})).id for k, v in (("rule", "s"), ("hostname", "i"), ("output", "p"), ("tags", []))})
        == 4
    )


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T01:00:01.5+01:00", 1_500_000_000),
        ("1969-12-31T23:00:01.000000001-01:00", 1_000_000_001),
        ("1970-01-01t00:00:01.1234567899z", 1_123_456_789),
        ("2024-02-29T00:00:00.000000000Z", 1_709_164_800_000_000_000),
        ("2024-02-29T00:00:00.000000007Z", 1_709_164_800_000_000_007),
    ],
)
def test_times(text: str, ns: int) -> None:
    assert time_of(text) == ns == time_of(text)


@pytest.mark.parametrize("value", [2**63, 2**64, -(2**63) - 1, 2**200, 1e308, 0.1, -0.0, 5e-324])
def test_numbers_of_any_size_arrive(value: float) -> None:
    assert alert(body(output_fields={"n": value})).fields == {"n": value}


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "01", "+1", ".5", "0x10", "9" * 5000])
def test_numbers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(Refused):
        alert(ONE.replace(b'{"a": 1}', b'{"a": ' + text.encode() + b"}"))


def test_a_number_beyond_a_double_stays_its_text() -> None:
    for line in (ONE, ONE.replace(b'"o"', b'"\xff"')):  # read by both readers
        made = alert(line.replace(b'{"a": 1}', b'{"a": -1e999999, "b": [1e400, 1.5]}'))
        assert made.fields == {"a": "-1e999999", "b": ["1e400", 1.5]}


def test_text_that_is_no_utf8_is_marked() -> None:
    assert alert(ONE.replace(b'"o"', b'"\xff\xfe"')).output == "\ufffd\ufffd"
    assert alert(ONE.replace(b'"o"', b'"\\ud800x"')).output == "\ufffdx"
    assert alert(body(output="\x00\U0001f600\u2028")).output == "\x00\U0001f600\u2028"


@pytest.mark.parametrize("depth", [65, 500, 5000, 100_000])
def test_nesting_is_bounded(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    with pytest.raises(Refused, match=r"nested|not JSON"):
        alert(ONE.replace(b'{"a": 1}', b'{"a": ' + deep + b"}"))
    assert isinstance(found(deep)[0], str)


def test_large_ones_arrive_and_too_large_ones_do_not() -> None:
    assert len(str(alert(body(output_fields={"x": "y" * 1_000_000})).fields["x"])) == 1_000_000
    assert len(alert(body(output_fields={f"f{n}": n for n in range(10_000)})).fields) == 10_000
    assert found(body(output="x" * MAX)) == [f"an alert is larger than {MAX} bytes"]
    mixed = list(events_in(b"[" + body(output="x" * MAX) + b"," + ONE + b"]", MAX))
    assert [isinstance(one, Event) for one in mixed] == [False, True]


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    for one in found(data):
        assert isinstance(one, str | Event)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.text(), JSON, min_size=1), st.text(), st.text(min_size=1))
def test_any_fields_arrive_as_they_are(fields: dict[str, object], output: str, rule: str) -> None:
    """Ten thousand such alerts go through the whole hub in the tests of outputs."""
    made = alert(json.dumps(GOOD | {"output_fields": fields, "output": output, "rule": rule}).encode())
    assert json.loads(json.dumps(made.fields)) == fields
    assert (made.output, made.rule) == (output, rule)


@pytest.mark.parametrize(
    "pack", [gzip.compress, zstandard.compress, lambda b: gzip.compress(b[:9]) + gzip.compress(b[9:])]
)
def test_packed_bodies(pack: object) -> None:
    packed = pack(ONE)  # type: ignore[operator]
    encoding = "zstd" if packed[:1] == b"\x28" else "gzip"
    assert unpack(packed, encoding, MAX) == ONE
    assert unpack(ONE, "identity", MAX) == ONE


@pytest.mark.parametrize(
    "bomb", [(gzip.compress(bytes(50 << 20)), "gzip"), (zstandard.compress(bytes(50 << 20)), "zstd")]
)
def test_a_bomb_is_not_unpacked(bomb: tuple[bytes, str]) -> None:
    with pytest.raises(BadBody, match="larger") as error:
        unpack(*bomb, MAX)
    assert error.value.status == 413


@pytest.mark.parametrize(
    ("data", "encoding", "status"),
    [(b"x", "gzip", 400), (b"x", "zstd", 400), (gzip.compress(ONE)[:-9], "gzip", 400), (b"", "br", 415),
     (zlib.compress(ONE), "gzip", 400), (ONE, "gzip, gzip", 415)],
)  # fmt: skip
def test_packed_bodies_that_are_none(data: bytes, encoding: str, status: int) -> None:
    with pytest.raises(BadBody) as error:
        unpack(data, encoding, MAX)
    assert error.value.status == status
