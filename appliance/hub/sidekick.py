"""Falcosidekick's configuration, file and environment, as ours.

Comes in: the tree of its YAML file, the environment. Goes out: the tree of ours, and notes on what differs. Never: a
setting that is passed over without a note.

Its documentation (github.com/falcosecurity/falcosidekick, docs/) names the keys; an output is on when its key that says
where to send has a value, as there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from appliance.config.document import Node
from appliance.config.settings import Secret
from appliance.hub.options import hints, inner
from appliance.hub.outputs.table import Kind

_GLOBAL = (
    "listenaddress", "listenport", "debug", "customfields", "templatedfields", "customtags", "bracketreplacer",
    "outputfieldformat", "mutualtlsfilespath", "mutualtlsclient", "tlsclient", "tlsserver", "prometheus",
)  # fmt: skip
_COMMON = ("minimumpriority", "checkcert", "mutualtls", "customheaders", "maxconcurrentrequests")
_PRIORITY = "minimumpriority"
_GO_FIELD = re.compile(r"\{\{-?\s*(?:index\s+\.\s+\"([^\"]+)\"|\.(\w+))\s*-?\}\}")
OURS = frozenset({"data_dir", "collector", "page", "journal", "outputs", "enrichment", "fleet", "log", "shutdown_s"})


@dataclass(frozen=True, slots=True)
class Section:
    """One output of Falcosidekick's: where its keys stand, which type it is here, and keys that are called otherwise.

    `on` is the key whose value switches it on. `shared` is the section above it whose keys it has, too. `gone` says why
    there is no such output here.
    """

    path: tuple[str, ...]
    type: str
    on: str
    renames: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[str, ...] = ()
    gone: str = ""


def _row(path: str, on: str, type_: str = "", shared: tuple[str, ...] = (), **renames: str) -> Section:
    parts = tuple(path.split("."))
    return Section(parts, type_ or "".join(parts), on, renames, shared)


_AWS = ("accesskeyid", "secretaccesskey", "region", "rolearn", "externalid")
_FILES: Mapping[str, str] = {"certfile": "client_cert", "keyfile": "client_key", "cacertfile": "ca_file"}
SECTIONS: Sequence[Section] = (
    *(_row(name, "webhookurl") for name in ("slack", "rocketchat", "mattermost", "teams", "discord", "googlechat",
                                            "cliq", "webex", "grafanaoncall")),
    _row("telegram", "token"),
    _row("datadog", "apikey", host="url"),
    _row("datadoglogs", "apikey", host="url"),
    _row("influxdb", "hostport"),
    _row("statsd", "forwarder"),
    _row("dogstatsd", "forwarder"),
    _row("wavefront", "endpointhost"),
    _row("spyderbat", "orguid"),
    _row("timescaledb", "host"),
    _row("dynatrace", "apiurl"),
    _row("otlp.metrics", "endpoint"),
    _row("otlp.logs", "endpoint"),
    _row("otlp.traces", "endpoint"),
    _row("alertmanager", "hostport"),
    _row("opsgenie", "apikey"),
    _row("pagerduty", "routingkey"),
    _row("elasticsearch", "hostport", hostport="url"),
    _row("quickwit", "hostport", hostport="url"),
    _row("loki", "hostport", hostport="url"),
    _row("grafana", "hostport"),
    _row("syslog", "host"),
    _row("zincsearch", "hostport", hostport="url"),
    _row("openobserve", "hostport", hostport="url"),
    _row("sumologic", "receiverurl"),
    Section(("logstash",), "logstash", "address", _FILES),
    _row("splunk", "host", host="url"),
    _row("aws.cloudwatchlogs", "loggroup", shared=_AWS),
    _row("aws.s3", "bucket", shared=_AWS),
    _row("aws.lambda", "functionname", shared=_AWS),
    _row("aws.sqs", "url", shared=_AWS),
    _row("aws.sns", "topicarn", shared=_AWS),
    _row("aws.kinesis", "streamname", shared=_AWS),
    _row("aws.securitylake", "bucket", shared=_AWS),
    _row("gcp.storage", "bucket", shared=("credentials",)),
    _row("gcp.pubsub", "topic", shared=("credentials",)),
    _row("gcp.cloudfunctions", "name", shared=("credentials",)),
    _row("gcp.cloudrun", "endpoint"),
    _row("gcp.chronicle", "customerid", shared=("credentials",)),
    _row("azure.eventhub", "name"),
    _row("yandex.s3", "bucket", shared=("accesskeyid", "secretaccesskey", "region")),
    _row("yandex.datastreams", "streamname", shared=("accesskeyid", "secretaccesskey", "region")),
    _row("fission", "function"),
    _row("kubeless", "function"),
    _row("openfaas", "functionname"),
    _row("tekton", "eventlistener", eventlistener="url"),
    _row("cloudevents", "address"),
    _row("nats", "hostport"),
    Section(("stan",), "stan", "hostport",
            gone="NATS Streaming reached its end of life in June 2023; use `nats`, which publishes to JetStream"),
    _row("kafka", "hostport"),
    _row("kafkarest", "address"),
    _row("rabbitmq", "url"),
    _row("mqtt", "broker"),
    _row("gotify", "hostport"),
    Section(("smtp",), "smtp", "hostport", {"from": "sender"}),
    Section(("redis",), "redis", "address", _FILES),
    _row("webhook", "address", address="url"),
    _row("nodered", "address", address="url"),
    _row("n8n", "address", address="url"),
    _row("webui", "url"),
    _row("policyreport", "enabled"),
    _row("talon", "address", address="url"),
)  # fmt: skip
_ENVIRONMENT_ALIASES = {
    "INFLUXDB_ORGANISATION": "INFLUXDB_ORGANIZATION", "KAFKA_TSL": "KAFKA_TLS",
    "DOGSTASTD_FORWARDER": "DOGSTATSD_FORWARDER", "DOGSTASTD_NAMESPACE": "DOGSTATSD_NAMESPACE",
    "DOGSTASTD_TAGS": "DOGSTATSD_TAGS",
}  # fmt: skip
DIFFERENCES = (
    "the id of an alert is the same whenever it is sent (`uuid`), not random",
    "an alert without `source` is `syscall`, as Falco says, not `syscalls`",
    "alerts are stored before they are acknowledged, and sent until they are delivered",
    "nothing is cut: events beyond 4096 bytes stay whole",
    "an output that is down at the start is tried again, not switched off",
)


def is_sidekick(root: Node) -> bool:
    """Whether a file is Falcosidekick's: keys of its own, and none of ours."""
    if not isinstance(root.value, dict) or OURS & set(root.value):
        return False
    theirs = {section.path[0] for section in SECTIONS} | set(_GLOBAL)
    return bool(theirs & {str(key).lower() for key in root.value})


def translate(root: Node, environment: Mapping[str, str], kinds: Mapping[str, Kind]) -> tuple[Node, list[str]]:
    """Our tree of theirs, and notes."""
    given = _lower(root)
    notes: list[str] = list(_put_environment(given, environment, kinds))
    made: dict[str, Any] = {"collector": {}, "enrichment": {}, "outputs": {}}
    _globals(given, made, notes)
    tls = _client_tls(given)
    known = set(_GLOBAL)
    for section in SECTIONS:
        known.add(section.path[0])
        node = given.find(section.path)
        if node is None or not isinstance(node.value, dict):
            continue
        above = given.find(section.path[:-1]) if len(section.path) > 1 else None
        output = _output(section, node, above, kinds.get(section.type), tls, notes)
        if output is not None:
            made["outputs"]["".join(section.path)] = output
    for key in given.value:
        if key not in known:
            notes.append(f"`{key}` has no effect: no such key or output is known")
    return _node(made), [*notes, *DIFFERENCES]


def _node(value: Any) -> Node:
    if isinstance(value, Node):
        return value
    if isinstance(value, dict):
        return Node({key: _node(item) for key, item in value.items()})
    if isinstance(value, list):
        return Node([_node(item) for item in value])
    return Node(value)


def _lower(node: Node, depth: int = 0) -> Node:
    """Keys of sections in small letters, as viper has them; those of maps that are values stay."""
    if not isinstance(node.value, dict):
        return node
    made = Node({}, node.place, node.key)
    for key, below in node.value.items():
        small = str(key).lower()
        as_is = small in ("customfields", "templatedfields", "customheaders") or depth > 2
        made.value[small] = below if as_is else _lower(below, depth + 1)
    return made


def _put_environment(root: Node, environment: Mapping[str, str], kinds: Mapping[str, Kind]) -> Iterator[str]:
    """Variables win over the file: `SLACK_WEBHOOKURL` is `slack.webhookurl`."""
    variables = {_ENVIRONMENT_ALIASES.get(name, name): value for name, value in environment.items()}
    for name, right in _ENVIRONMENT_ALIASES.items():
        if name in environment:
            yield f"the variable `{name}` is read as `{right}`"
    for path in _paths(kinds):
        name = "_".join(path).upper()
        if name not in variables:
            continue
        node = root
        for step in path[:-1]:
            node = node.value.setdefault(step, Node({}))
        last, text = path[-1], variables[name]
        if last in ("customfields", "templatedfields", "customheaders", "customattributes", "extraattributes"):
            pairs = (pair.partition(":") for pair in text.split(",") if ":" in pair)
            node.value[last] = _node({key.strip(): value.strip() for key, _, value in pairs})
        elif last == "customtags":
            node.value[last] = _node([part.strip() for part in text.split(",") if part.strip()])
        else:
            node.value[last] = Node(_typed(text))


def _typed(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else text


def _paths(kinds: Mapping[str, Kind]) -> Iterator[tuple[str, ...]]:
    """Every key of theirs that has a meaning here."""
    for name in _GLOBAL:
        yield (name,)
    for name in ("deploy", "certfile", "keyfile", "cacertfile", "mutualtls"):
        yield ("tlsserver", name)
    for name in ("certfile", "keyfile", "cacertfile"):
        yield ("mutualtlsclient", name)
    yield ("tlsclient", "cacertfile")
    for section in SECTIONS:
        kind = kinds.get(section.type)
        own = [f.name for f in fields(kind.options)] if kind is not None else []
        for name in dict.fromkeys([*own, *section.renames, section.on, *_SPENT.get(section.type, ()), *_COMMON]):
            yield (*section.path, name)
        for name in section.shared:
            yield (section.path[0], name)


def _globals(given: Node, made: dict[str, Any], notes: list[str]) -> None:
    def plain(*at: str) -> Any:
        node = given.find(at)
        return None if node is None else node.plain()

    address = plain("listenaddress") or "0.0.0.0"  # noqa: S104  (its default)
    made["collector"]["address"] = address
    made["collector"]["port"] = given.value.get("listenport", Node(2801))
    if plain("tlsserver", "deploy"):
        tls = {
            "cert": plain("tlsserver", "certfile") or "/etc/certs/server/server.crt",
            "key": plain("tlsserver", "keyfile") or "/etc/certs/server/server.key",
        }
        if plain("tlsserver", "mutualtls"):
            tls["client_ca"] = plain("tlsserver", "cacertfile") or "/etc/certs/server/ca.crt"
        made["collector"]["tls"] = tls
    if not address.startswith("127.") and "client_ca" not in made["collector"].get("tls", {}):
        made["collector"]["insecure"] = True
        notes.append(f"the collector listens at {address} and asks nobody who they are: `collector.tokens` mends that")
    if plain("debug"):
        made["log"] = {"level": "debug"}
    for name in ("customfields", "customtags", "bracketreplacer"):
        if plain(name):
            made["enrichment"][name] = _texts(given.value[name])
    templates = plain("templatedfields")
    for name, text in templates.items() if isinstance(templates, dict) else ():
        rendered, count = _GO_FIELD.subn(lambda m: "{{ fields['" + (m[1] or m[2]) + "'] }}", str(text))
        if "{{" in _GO_FIELD.sub("", str(text)):
            notes.append(f"`templatedfields.{name}` has no effect: write the Go template `{text}` in Jinja")
        elif count or "{{" not in str(text):
            made["enrichment"].setdefault("templatedfields", {})[name] = rendered
    for name, why in (
        ("outputfieldformat", "`template` of an output does that"),
        ("prometheus", "labels of metrics are fixed, so that no field makes series without bound"),
    ):
        if plain(name):
            notes.append(f"`{name}` has no effect: {why}")
    for name in ("notlsport", "notlspaths"):
        if plain("tlsserver", name):
            notes.append(f"`tlsserver.{name}` has no effect: there is one listener")


def _texts(node: Node) -> Node:
    """Plain values as texts, as the fields that we add are texts."""
    if isinstance(node.value, dict):
        return Node({key: _texts(item) for key, item in node.value.items()}, node.place, node.key)
    if isinstance(node.value, list):
        return Node([_texts(item) for item in node.value], node.place, node.key)
    return Node("" if node.value is None else str(node.value), node.place, node.key)


def _client_tls(given: Node) -> Mapping[str, str]:
    """Files for outputs with `mutualtls`."""

    def plain(*at: str) -> Any:
        node = given.find(at)
        return None if node is None else node.plain()

    folder = plain("mutualtlsfilespath") or "/etc/certs"
    found = {
        "client_cert": plain("mutualtlsclient", "certfile") or f"{folder}/client.crt",
        "client_key": plain("mutualtlsclient", "keyfile") or f"{folder}/client.key",
        "ca_file": plain("mutualtlsclient", "cacertfile") or f"{folder}/ca.crt",
    }
    if plain("tlsclient", "cacertfile"):
        found["ca_always"] = plain("tlsclient", "cacertfile")
    return found


def _output(
    section: Section, node: Node, above: Node | None, kind: Kind | None, tls: Mapping[str, str], notes: list[str]
) -> dict[str, Any] | None:
    """One output in our keys; None where it is not switched on."""
    name = ".".join(section.path)
    on = node.value.get(section.on)
    if on is None or on.plain() in (None, "", False):
        return None
    if kind is None:
        notes.append(f"`{name}` has no effect: {section.gone or 'there is no such output here'}")
        return None
    described = hints(kind.options)
    choices = {f.name: f.metadata["choices"] for f in fields(kind.options) if f.metadata}
    made: dict[str, Any] = {"type": kind.name}
    entries = dict(node.value)
    if above is not None:
        entries = {key: above.value[key] for key in section.shared if key in above.value} | entries
    if section.type in _REWRITES:
        entries = _REWRITES[section.type](entries)
    for key, below in entries.items():
        value = below.plain()
        if value in (None, "", {}, []):
            continue
        match key:
            case "minimumpriority":
                made[_PRIORITY] = below
            case "maxconcurrentrequests":
                made["concurrency"] = min(64, value) if isinstance(value, int) and value > 0 else 16
            case "mutualtls":
                if value:
                    made |= {one: tls[one] for one in ("client_cert", "client_key", "ca_file") if one in described}
            case "customheaders" | "headers" if "headers" in described:
                made["headers"] = _fitting(Mapping[str, str], below)
            case "batching" if isinstance(value, dict):
                _batching(value, made, notes, name)
            case _:
                ours = section.renames.get(key, key)
                if ours in described:
                    made[ours] = _chosen(choices[ours], _fitting(described[ours], below))
                elif key not in ("enabled", "checkcert", section.on, *_SPENT.get(section.type, ())):
                    notes.append(f"`{name}.{key}` has no effect here")
    if "ca_always" in tls and "ca_file" in described:
        made.setdefault("ca_file", tls["ca_always"])
    if kind.name == "elasticsearch" and "flattenfields" not in made:
        made["flattenfields"] = True
    missing = [f.name for f in fields(kind.options)
               if f.default is MISSING and f.default_factory is MISSING and f.name not in made]  # fmt: skip
    if missing:
        notes.append(f"`{name}` is off: it has no `{missing[0]}`")
        return None
    return made


def _chosen(choices: Sequence[str], node: Node) -> Node:
    """A value in the spelling of our choices: theirs are in capitals, or have `_` for `-`."""
    if not choices or not isinstance(node.value, str) or node.value in choices:
        return node
    plain = {re.sub(r"[^a-z0-9]", "", choice.lower()): choice for choice in choices}
    found = plain.get(re.sub(r"[^a-z0-9]", "", node.value.lower()))
    return node if found is None else Node(found, node.place, node.key)


_Entries = dict[str, Node]


def _given(entries: _Entries, key: str, default: object) -> str:
    value = entries[key].plain() if key in entries else None
    return str(default if value in (None, "") else value)


def _with(entries: _Entries, key: str, value: object, like: str) -> _Entries:
    """`key` beside the others, at the place in the file of the key `like`."""
    node = entries.get(like, Node(None))
    return entries | {key: Node(value, node.place, node.key)}


def _eventhub(entries: _Entries) -> _Entries:
    """Its namespace is the server's name, in full or without Azure's domain."""
    server = _given(entries, "namespace", "")
    if server and "." not in server:
        server += ".servicebus.windows.net"
    if not server:
        return entries
    return _with(entries, "eventhub", f"https://{server}/{_given(entries, 'name', '')}", "namespace")


def _openfaas(entries: _Entries) -> _Entries:
    host = f"{_given(entries, 'gatewayservice', 'gateway')}.{_given(entries, 'gatewaynamespace', 'openfaas')}"
    return _with(entries, "gateway", f"http://{host}:{_given(entries, 'gatewayport', 8080)}", "gatewayservice")


def _fission(entries: _Entries) -> _Entries:
    host = f"{_given(entries, 'routerservice', 'router')}.{_given(entries, 'routernamespace', 'fission')}"
    return _with(entries, "router", f"http://{host}:{_given(entries, 'routerport', 80)}", "routerservice")


def _wavefront(entries: _Entries) -> _Entries:
    """`direct` is HTTPS to the service, `proxy` HTTP to a proxy's port."""
    host = _given(entries, "endpointhost", "")
    if "://" in host:
        return entries
    proxy = _given(entries, "endpointtype", "direct").lower() == "proxy"
    url = f"http://{host}:{_given(entries, 'endpointmetricport', 2878)}" if proxy else f"https://{host}"
    return _with(entries, "endpointhost", url, "endpointhost")


def _smtp(entries: _Entries) -> _Entries:
    """Its `tls` is STARTTLS, on by default."""
    off = _given(entries, "tls", True).lower() in ("false", "0", "no")
    rest = {key: node for key, node in entries.items() if key != "tls"}
    return _with(rest, "security", "none" if off else "starttls", "hostport")


def _mqtt(entries: _Entries) -> _Entries:
    scheme, mark, rest = _given(entries, "broker", "").partition("://")
    if not mark:
        return entries
    made = _with(entries, "broker", rest.rstrip("/"), "broker")
    return _with(made, "tls", True, "broker") if scheme in ("ssl", "tls", "mqtts", "tcps") else made


def _otlp(entries: _Entries) -> _Entries:
    """The path of the signal belongs to its endpoint, not to ours."""
    base = re.sub(r"/v1/(metrics|logs|traces)/?$", "", _given(entries, "endpoint", ""))
    return _with(entries, "endpoint", base, "endpoint")


_REWRITES: Mapping[str, Callable[[_Entries], _Entries]] = {
    "azureeventhub": _eventhub, "openfaas": _openfaas, "fission": _fission, "wavefront": _wavefront, "smtp": _smtp,
    "mqtt": _mqtt, "otlpmetrics": _otlp, "otlplogs": _otlp, "otlptraces": _otlp,
}  # fmt: skip
_SPENT: Mapping[str, tuple[str, ...]] = {
    "azureeventhub": ("namespace",), "openfaas": ("gatewayservice", "gatewaynamespace", "gatewayport"),
    "fission": ("routerservice", "routernamespace", "routerport"),
    "wavefront": ("endpointtype", "endpointmetricport"),
}  # fmt: skip


def _batching(value: Mapping[str, Any], made: dict[str, Any], notes: list[str], name: str) -> None:
    """Theirs is by bytes, ours by alerts; the pause is the same."""
    if not value.get("enabled"):
        made["batch"] = 1
        return
    interval = str(value.get("flushinterval", ""))
    if (match := re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)?", interval)) is not None:
        factor = {"ms": 1, "s": 1000, "m": 60_000, None: 1000}[match[2]]
        made["pause_ms"] = min(60_000, int(float(match[1]) * factor))
    if value.get("batchsize"):
        notes.append(f"`{name}.batching.batchsize` has no effect: `batch` counts alerts, not bytes")


def _fitting(kind: Any, node: Node) -> Node:
    """The value in the type that the option has: viper takes a number for a text, and a text of commas for a list."""
    origin, held = inner(kind)
    value = node.value
    make: Callable[[Any], Any] | None = None
    if origin is tuple and isinstance(value, str):
        return Node([Node(part.strip()) for part in value.split(",") if part.strip()], node.place, node.key)
    if origin is Mapping and isinstance(value, str):  # `a:b,c:d` or `a=b,c=d`
        pairs = (re.match(r"\s*([^:=]+?)\s*[:=]\s*(.*?)\s*$", part) for part in value.split(","))
        return Node({pair[1]: Node(pair[2]) for pair in pairs if pair is not None}, node.place, node.key)
    if origin is Mapping:
        return _texts(node)
    if origin is None and held in (str, Secret) and isinstance(value, int | float):
        make = str
    elif origin is None and held is int and isinstance(value, str) and value.isdecimal():
        make = int
    elif origin is None and held is bool and isinstance(value, str):
        make = _is_true
    elif origin is None and held in (str, Secret) and isinstance(value, list):
        return Node(",".join(str(item.plain()) for item in value), node.place, node.key)
    return Node(make(value), node.place, node.key) if make is not None else node


def _is_true(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")
