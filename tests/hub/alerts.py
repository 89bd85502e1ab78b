"""Alerts for tests of the hub: by hand, and drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from appliance.hub.alert import HubAlert, JsonValue
from appliance.model.alert import Priority

DAY_NS = 86_400 * 1_000_000_000
START_NS = 1_790_000_000 * 1_000_000_000


XSS = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror=window.pwned=1>',
    "'><svg onload=window.pwned=1>",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "javascript:window.pwned=1",
    "</td></tr></table><iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<a href=javascript:window.pwned=1 autofocus onfocus=window.pwned=1>x</a>",
    "\u202e<b>\x1b[31m\x00\u2028",
    '=HYPERLINK("http://evil.example")',
    "[x](javascript:window.pwned=1) ![x](http://evil.example/p.png) `<u>`",
)
"""Texts that do something where they are taken for markup, a template, a link or a formula."""


def hub_alert(
    seq: int = 1,
    *,
    ts_ns: int = START_NS,
    hostname: str = "web1",
    rule: str = "Read sensitive file untrusted",
    priority: Priority = Priority.WARNING,
    source: str = "syscall",
    tags: Sequence[str] = ("filesystem", "mitre_credential_access"),
    output: str | None = None,
    fields: Mapping[str, JsonValue] | None = None,
) -> HubAlert:
    """One alert, as ingest makes it."""
    values: Mapping[str, JsonValue] = (
        {"proc.name": "cat", "proc.pid": 4242, "user.name": "root", "fd.name": "/etc/shadow"}
        if fields is None
        else fields
    )
    text = (
        output
        if output is not None
        else f"Sensitive file opened (file={values.get('fd.name')} by {values.get('proc.name')})"
    )
    unique = f"{hostname}:boot:{seq}"
    return HubAlert(seq, unique, ts_ns, ts_ns + 1_000_000, hostname, rule, priority, source, tuple(tags), text, values)


def xss_alerts(ts_ns: int = START_NS) -> list[HubAlert]:
    """An alert for each text of `XSS`, which stands in every field of it."""
    made = []
    for n, text in enumerate(XSS):
        fields = dict.fromkeys(("proc.name", "proc.cmdline", "user.name", "container.name", "fd.name", text), text)
        alert = hub_alert(
            n, ts_ns=ts_ns, hostname=text, rule=text, source=text, tags=(text, "T1059"), output=text, fields=fields
        )
        made.append(replace(alert, id=f"xss-{n}-{text}"))
    return made


WORDS = [
    "cat",
    "sshd",
    "cron",
    "nginx",
    "/etc/shadow",
    "/var/lib/x y",
    "Failed",
    "ünï",
    "a_b",
    "10.0.0.7",
    "",
    "-",
    "100",
]

texts = st.one_of(st.sampled_from(WORDS), st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join))
values: st.SearchStrategy[JsonValue] = st.one_of(
    texts, st.integers(-5, 500), st.booleans(), st.none(), st.floats(0, 10)
)


@st.composite
def alerts(draw: st.DrawFn, seq: int = 1) -> HubAlert:
    """Any alert; few distinct values, so that searches hit."""
    fields = draw(
        st.dictionaries(
            st.sampled_from(
                ["proc.name", "proc.pid", "user.name", "fd.name", "container.id", "proc.cmdline", "custom"]
            ),
            values,
            max_size=5,
        )
    )
    return HubAlert(
        seq,
        f"id-{seq}",
        START_NS + draw(st.integers(0, 3 * DAY_NS)),
        START_NS,
        draw(st.sampled_from(["", "web1", "web2", "db-10"])),
        draw(st.sampled_from(["Read sensitive file untrusted", "Terminal shell in container", "Ünïcode rule"])),
        draw(st.sampled_from(list(Priority))),
        draw(st.sampled_from(["syscall", "k8s_audit"])),
        tuple(draw(st.lists(st.sampled_from(["container", "network", "T1552.001"]), max_size=2, unique=True))),
        draw(texts),
        fields,
    )


_names = st.sampled_from(
    ["rule", "hostname", "source", "output", "tags", "proc.name", "proc.pid", "user.name", "fd.name", "container.id"]
)
_quoted = texts.map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
_checks = st.one_of(
    st.tuples(
        _names, st.sampled_from(["=", "!=", "contains", "icontains", "startswith", "endswith", "glob"]), _quoted
    ).map(" ".join),
    st.tuples(_names, st.lists(_quoted, max_size=3)).map(lambda t: f"{t[0]} in ({', '.join(t[1])})"),
    st.tuples(
        st.sampled_from(["<", "<=", ">", ">=", "=", "!="]), st.sampled_from(["debug", "info", "warning", "critical"])
    ).map(lambda t: f"priority {t[0]} {t[1]}"),
    st.tuples(st.sampled_from(["<", ">="]), st.integers(0, 3)).map(lambda t: f"time {t[0]} {START_NS + t[1] * DAY_NS}"),
    st.tuples(st.sampled_from(["proc.pid", "custom"]), st.sampled_from(["<", ">="]), st.integers(0, 300)).map(
        lambda t: f"{t[0]} {t[1]} {t[2]}"
    ),
    _names.map(lambda name: f"{name} exists"),
    st.sampled_from(["cat", "sshd", "/etc/shadow", '"cat sshd"', "fai*", "ünï", "web1", "sensitive"]),
    st.sampled_from(["proc.name in (cat, sshd, cron)", "tags = container", "tags != network", 'rule = "Ünïcode rule"']),
)


def searches() -> st.SearchStrategy[str]:
    """Texts that a person could write into the search box."""
    return st.recursive(
        _checks,
        lambda inner: st.one_of(
            inner.map(lambda s: f"not ({s})"),
            inner.map(lambda s: f"-({s})"),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: " and ".join(f"({p})" for p in parts)),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: " or ".join(f"({p})" for p in parts)),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: " ".join(f"({p})" for p in parts)),
        ),
        max_leaves=5,
    )
