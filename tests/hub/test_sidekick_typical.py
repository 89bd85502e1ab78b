"""A typical configuration of every output of Falcosidekick's becomes a valid output of ours."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from appliance.config.settings import Secret
from appliance.hub.load import load_with_notes
from appliance.hub.outputs.table import kinds
from appliance.hub.sidekick import SECTIONS

_HOOK = "https://hooks.example.org/x"
_HTTP = {"checkcert": False, "mutualtls": False, "customheaders": {"X-A": "b"}, "maxconcurrentrequests": 1}
_CHAT = {"webhookurl": _HOOK, "outputformat": "all", "minimumpriority": "warning"}
_POSTED = {"icon": "https://example.org/i.png", "username": "Falco"}
_KUBE = {"kubeconfig": "~/.kube/config"}
_GCP = {"credentials": "eyJ0eXBlIjogInNlcnZpY2VfYWNjb3VudCJ9"}
_AWS = {"accesskeyid": "a", "secretaccesskey": "s", "region": "eu-west-1", "rolearn": "arn:aws:iam::1:role/r"}
_OTLP = {"protocol": "http/protobuf", "timeout": 10000, "headers": "a=b,c=d", "checkcert": True}

# by section: what a person writes, what becomes of it (a part), and keys of which a note says that they have no effect
TYPICAL: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], tuple[str, ...]]] = {
    "slack": (_CHAT | _POSTED | {"channel": "#s", "footer": "f"}, {"webhookurl": _HOOK, "channel": "#s"}, ()),
    "rocketchat": (_CHAT | _POSTED, {"username": "Falco"}, ()),
    "mattermost": (_CHAT | _POSTED | {"footer": "f"}, {"footer": "f"}, ()),
    "teams": (_CHAT | {"outputformat": "text", "activityimage": "https://x/i"}, {"outputformat": "text"},
              ("activityimage",)),
    "discord": (_CHAT | {"icon": "https://x/i"}, {"icon": "https://x/i"}, ()),
    "googlechat": (_CHAT | {"outputformat": "text"}, {"outputformat": "text"}, ()),
    "cliq": (_CHAT | {"useemoji": True, "icon": "i"}, {"useemoji": True}, ()),
    "webex": ({"webhookurl": _HOOK}, {}, ()),
    "grafanaoncall": ({"webhookurl": _HOOK} | _HTTP, {"headers": {"X-A": "b"}}, ()),
    "telegram": ({"token": "1:a", "chatid": -100, "minimumpriority": "error"}, {"chatid": "-100"}, ()),
    "datadog": ({"apikey": "k", "host": "https://api.datadoghq.eu"}, {"url": "https://api.datadoghq.eu"}, ()),
    "datadoglogs": ({"apikey": "k", "host": "https://http-intake.logs.datadoghq.eu", "service": "s"}, {"service": "s"},
                    ()),
    "influxdb": ({"hostport": "http://i:8086", "organization": "o", "bucket": "b", "token": "t", "precision": "ns"},
                 {"organization": "o", "bucket": "b"}, ("precision",)),
    "statsd": ({"forwarder": "s:8125", "namespace": "falcosidekick."}, {"namespace": "falcosidekick."}, ()),
    "dogstatsd": ({"forwarder": "s:8125", "tags": ["a:b"]}, {"tags": ("a:b",)}, ()),
    "wavefront": ({"endpointtype": "proxy", "endpointhost": "wf", "endpointmetricport": 2878, "batchsize": 10000},
                  {"endpointhost": "http://wf:2878"}, ("batchsize",)),
    "spyderbat": ({"orguid": "o", "apikey": "k", "apiurl": "https://api.spyderbat.com", "source": "s"}, {"orguid": "o"},
                  ()),
    "timescaledb": ({"host": "t", "port": "5432", "user": "u", "password": "p", "database": "d",
                     "hypertablename": "falcosidekick_events"}, {"port": 5432, "database": "d"}, ()),
    "dynatrace": ({"apitoken": "t", "apiurl": "https://x.live.dynatrace.com/api", "checkcert": True},
                  {"apiurl": "https://x.live.dynatrace.com/api"}, ()),
    "otlp.metrics": (_OTLP | {"endpoint": "http://o:4318/v1/metrics", "extraattributes": "a=b"},
                     {"endpoint": "http://o:4318", "headers": {"a": "b", "c": "d"}, "extraattributes": {"a": "b"}},
                     ("protocol", "timeout")),
    "otlp.logs": (_OTLP | {"endpoint": "http://o:4318"}, {"endpoint": "http://o:4318"}, ("protocol", "timeout")),
    "otlp.traces": (_OTLP | {"endpoint": "http://o:4318/v1/traces/", "synced": False, "duration": 1000},
                    {"endpoint": "http://o:4318"}, ("protocol", "timeout", "synced", "duration")),
    "alertmanager": ({"hostport": "http://a:9093,http://b:9093", "endpoint": "/api/v2/alerts", "expiresafter": 3600,
                      "extralabels": "a:1,b:2", "extraannotations": "c: see d", "customseveritymap": "notice:info",
                      "dropeventdefaultpriority": "critical"} | _HTTP,
                     {"hostport": ("http://a:9093", "http://b:9093"), "extralabels": {"a": "1", "b": "2"},
                      "extraannotations": {"c": "see d"}, "customseveritymap": {"notice": "info"}},
                     ("dropeventdefaultpriority",)),
    "opsgenie": ({"apikey": "k", "region": "eu"}, {"region": "eu"}, ()),
    "pagerduty": ({"routingKey": "k", "region": "eu"}, {"routingkey": "k"}, ()),
    "elasticsearch": ({"hostport": "http://e:9200", "index": "falco", "type": "_doc", "suffix": "daily",
                       "username": "u", "password": "p", "flattenfields": True, "createindextemplate": True,
                       "enablecompression": True} | _HTTP, {"url": "http://e:9200", "username": "u"},
                      ("type", "createindextemplate", "enablecompression")),
    "quickwit": ({"hostport": "http://q:7280", "index": "f", "apiendpoint": "/api/v1", "autocreateindex": True},
                 {"url": "http://q:7280", "index": "f"}, ("autocreateindex",)),
    "loki": ({"hostport": "http://l:3100", "user": "u", "apikey": "k", "tenant": "t", "format": "json",
              "endpoint": "/loki/api/v1/push", "extralabels": "proc.name,user.name"} | _HTTP,
             {"url": "http://l:3100", "extralabels": ("proc.name", "user.name")}, ()),
    "grafana": ({"hostport": "http://g:3000", "apikey": "k", "dashboardid": 1, "panelid": 2, "allfieldsastags": True},
                {"dashboardid": 1, "allfieldsastags": True}, ()),
    "syslog": ({"host": "s", "port": "514", "protocol": "udp", "format": "cef"}, {"port": 514, "format": "cef"}, ()),
    "zincsearch": ({"hostport": "http://z:4080", "index": "f", "username": "u", "password": "p"}, {"index": "f"}, ()),
    "openobserve": ({"hostport": "http://o:5080", "organizationname": "default", "streamname": "falco",
                     "username": "u", "password": "p"}, {"streamname": "falco"}, ()),
    "sumologic": ({"receiverURL": _HOOK, "sourcecategory": "c", "sourcehost": "h", "name": "n"},
                  {"receiverurl": _HOOK, "name": "n"}, ()),
    "logstash": ({"address": "l", "port": 5044, "tls": True, "certfile": "/c.crt", "keyfile": "/c.key",
                  "cacertfile": "/ca.crt", "tags": "a, b"},
                 {"tls": True, "tags": ("a", "b"), "ca_file": Path("/ca.crt"), "client_key": Path("/c.key")}, ()),
    "splunk": ({"host": "https://s:8088/services/collector/event", "token": "t"} | _HTTP,
               {"url": "https://s:8088/services/collector/event", "token": "t"}, ()),
    "aws.cloudwatchlogs": ({"loggroup": "g", "logstream": "s"}, {"loggroup": "g", "region": "eu-west-1"}, ()),
    "aws.s3": ({"bucket": "b", "prefix": "p", "endpoint": "https://minio:9000"}, {"bucket": "b"}, ()),
    "aws.lambda": ({"functionname": "f"}, {"rolearn": "arn:aws:iam::1:role/r"}, ()),
    "aws.sqs": ({"url": "https://sqs/q"}, {"accesskeyid": "a"}, ()),
    "aws.sns": ({"topicarn": "arn:aws:sns:x", "rawjson": True}, {"rawjson": True}, ()),
    "aws.kinesis": ({"streamname": "s"}, {"streamname": "s"}, ()),
    "aws.securitylake": ({"bucket": "b", "prefix": "ext/falco", "accountid": "123456789012", "region": "eu-west-1",
                          "interval": 5, "batchsize": 1000}, {"prefix": "ext/falco", "accountid": "123456789012"},
                         ("interval", "batchsize")),
    "gcp.storage": ({"bucket": "b", "prefix": "p"}, {"bucket": "b"} | _GCP, ()),
    "gcp.pubsub": ({"projectid": "p", "topic": "t", "customattributes": "a:b,c:d"},
                   {"topic": "t", "customattributes": {"a": "b", "c": "d"}} | _GCP, ()),
    "gcp.cloudfunctions": ({"name": "projects/p/locations/l/functions/f"}, _GCP, ()),
    "gcp.cloudrun": ({"endpoint": "https://r.run.app", "jwt": "j"}, {"jwt": "j"}, ()),
    "gcp.chronicle": ({"projectid": "p", "region": "eu", "customerid": "c", "forwarderid": "f"}, {"region": "eu"}, ()),
    "azure.eventhub": ({"namespace": "ns", "name": "falco", "key": "k"},
                       {"eventhub": "https://ns.servicebus.windows.net/falco", "key": "k"}, ()),
    "yandex.s3": ({"endpoint": "https://storage.yandexcloud.net", "bucket": "b", "prefix": "p"}, {"bucket": "b"}, ()),
    "yandex.datastreams": ({"streamname": "s", "endpoint": "https://yds.serverless.yandexcloud.net"},
                           {"streamname": "s"}, ()),
    "fission": ({"function": "f", "routerport": 80, "routerservice": "router", "routernamespace": "fission"} | _KUBE,
                {"router": "http://router.fission:80"}, ("kubeconfig",)),
    "kubeless": ({"function": "f", "namespace": "n", "port": "8080"} | _KUBE, {"port": 8080}, ("kubeconfig",)),
    "openfaas": ({"functionname": "f", "functionnamespace": "fn", "gatewayservice": "gw", "gatewaynamespace": "of",
                  "gatewayport": 8081} | _KUBE, {"gateway": "http://gw.of:8081", "functionnamespace": "fn"},
                 ("kubeconfig",)),
    "tekton": ({"eventlistener": "http://el:8080", "checkcert": True}, {"url": "http://el:8080"}, ()),
    "cloudevents": ({"address": "http://c", "extensions": {"a": "b"}}, {"extensions": {"a": "b"}}, ()),
    "nats": ({"hostport": "nats://n:4222", "subjecttemplate": "falco.<priority>.<rule>"}, {}, ()),
    "kafka": ({"hostport": "k:9092", "topic": "t", "sasl": "SCRAM_SHA256", "username": "u", "password": "p",
               "compression": "SNAPPY", "requiredacks": "ONE", "balancer": "round_robin", "clientid": "c", "tls": True},
              {"sasl": "SCRAM-SHA-256", "compression": "snappy", "requiredacks": "one", "tls": True}, ("balancer",)),
    "kafkarest": ({"address": "http://k/topics/t", "version": 2}, {}, ()),
    "rabbitmq": ({"url": "amqp://g:g@r:5672/", "queue": "q"}, {"queue": "q"}, ()),
    "mqtt": ({"broker": "tcp://m:1883", "topic": "t", "qos": 1, "retained": False, "user": "u", "password": "p"},
             {"broker": "m:1883", "tls": False}, ()),
    "gotify": ({"hostport": "http://g", "token": "t", "format": "markdown"}, {"format": "markdown"}, ()),
    "smtp": ({"hostport": "m:587", "tls": True, "authmechanism": "PLAIN", "user": "u", "password": "p",
              "from": "f@example.org", "to": "a@example.org,b@example.org", "outputformat": "html"},
             {"security": "starttls", "sender": "f@example.org", "to": ("a@example.org", "b@example.org")}, ()),
    "redis": ({"address": "r:6379", "password": "p", "database": "0", "storagetype": "hashmap", "key": "falco",
               "cacertfile": "/ca.crt"}, {"database": 0, "storagetype": "hashmap", "ca_file": Path("/ca.crt")}, ()),
    "webhook": ({"address": _HOOK, "method": "PUT"} | _HTTP, {"url": _HOOK, "method": "PUT"}, ()),
    "nodered": ({"address": "http://n:1880/falco", "user": "u", "password": "p"} | _HTTP, {"user": "u"}, ()),
    "n8n": ({"address": "http://n:5678/webhook/x", "headerauthname": "X-H", "headerauthvalue": "v"},
            {"headerauthname": "X-H"}, ()),
    "webui": ({"url": "http://w:2802"}, {"url": "http://w:2802"}, ()),
    "policyreport": ({"enabled": True, "maxevents": 500, "prunebypriority": False} | _KUBE, {"maxevents": 500},
                     ("kubeconfig", "prunebypriority")),
    "talon": ({"address": "http://t:2803", "checkcert": True}, {"url": "http://t:2803"}, ()),
}  # fmt: skip
_ABOVE: Mapping[str, Mapping[str, Any]] = {"aws": _AWS, "gcp": _GCP, "yandex": {"accesskeyid": "a", "region": "r"}}


def test_every_section_has_a_typical_configuration() -> None:
    assert set(TYPICAL) == {".".join(section.path) for section in SECTIONS if section.type in kinds()}


@pytest.mark.parametrize("name", TYPICAL)
def test_a_typical_configuration_becomes_an_output(tmp_path: Path, name: str) -> None:
    section = next(section for section in SECTIONS if ".".join(section.path) == name)
    given, wanted, without_effect = TYPICAL[name]
    tree: dict[str, Any] = {section.path[-1]: dict(given)}
    if len(section.path) > 1:
        tree = {section.path[0]: {**_ABOVE.get(section.path[0], {}), **tree}}
    file = tmp_path / "falcosidekick.yaml"
    file.write_text(yaml.safe_dump({"listenaddress": "127.0.0.1"} | tree))
    settings, notes = load_with_notes(file, environment={})
    (output,) = settings.outputs.values()
    assert output.type == section.type and output.type in kinds()
    for key, value in wanted.items():
        found = getattr(output.options, key)
        assert (str(found) if isinstance(found, Secret) else found) == value, key
    ours = [note for note in notes if f"`{name}" in note]
    assert sorted(ours) == sorted(n for n in ours if any(f"`{name}.{key}`" in n for key in without_effect)), ours
    for key in without_effect:
        assert any(f"`{name}.{key}`" in note for note in notes), key


def test_stan_is_refused_with_its_reason(tmp_path: Path) -> None:
    file = tmp_path / "falcosidekick.yaml"
    file.write_text("stan: {hostport: 'nats://n:4222', clusterid: c, clientid: i}\n")
    settings, notes = load_with_notes(file, environment={})
    assert not settings.outputs
    assert any("`stan`" in note and "end of life" in note and "`nats`" in note for note in notes)


def test_an_event_hub_without_a_key_says_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "falcosidekick.yaml"
    file.write_text("azure: {eventHub: {namespace: ns.servicebus.windows.net, name: falco}}\n")
    settings, notes = load_with_notes(file, environment={})
    assert not settings.outputs
    assert any("`azure.eventhub` is off" in note and "`key`" in note for note in notes)


def test_keys_of_several_parts_come_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "falcosidekick.yaml"
    file.write_text("listenaddress: 127.0.0.1\n")
    environment = {
        "OPENFAAS_FUNCTIONNAME": "f", "OPENFAAS_GATEWAYPORT": "81", "ALERTMANAGER_HOSTPORT": "http://a:9093",
        "ALERTMANAGER_EXTRALABELS": "a:1,b:2", "AZURE_EVENTHUB_NAME": "h", "AZURE_EVENTHUB_NAMESPACE": "n",
        "AZURE_EVENTHUB_KEY": "k",
    }  # fmt: skip
    settings, _ = load_with_notes(file, environment=environment)
    assert settings.outputs["openfaas"].options.gateway == "http://gateway.openfaas:81"
    assert settings.outputs["alertmanager"].options.extralabels == {"a": "1", "b": "2"}
    assert settings.outputs["azureeventhub"].options.eventhub == "https://n.servicebus.windows.net/h"
