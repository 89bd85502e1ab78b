"""Falco's `plugins` and `load_plugins`: what they ask for that is built in here, the Kubernetes audit source.

Comes in: plugins as the schema let them pass. Goes out: `K8sAudit`, or ValueError that says what is wrong. Never: a
library that is loaded; `library_path` is taken for the sake of files written for Falco.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from appliance.config.settings import Plugin

K8S_AUDIT = "k8saudit"
BUILT_IN = ("container", "json", K8S_AUDIT)
_PORT = 9765
_TEXT_MAX = 4096
_KEYS = ("maxEventSize", "webhookMaxBatchSize", "sslCertificate", "sslClientCA", "clusterName", "useAsync")


@dataclass(frozen=True, slots=True)
class K8sAudit:
    """Where Kubernetes audit events come from: a webhook (`host` is not None), or a file or folder of JSON Lines.

    `client_ca`: a PEM file of authorities, one of which must have signed a client's certificate; None asks for none.
    `cluster`: the name of the cluster of events that tell none.
    """

    host: str | None = None
    port: int = _PORT
    path: str = "/k8s-audit"
    certificate: str | None = None  # a PEM file with its key, where the webhook speaks TLS
    client_ca: str | None = None
    cluster: str = ""
    logs: Path | None = None
    max_event_bytes: int = 262_144
    max_body_bytes: int = 12_582_912


def k8s_audit(plugins: tuple[Plugin, ...], load_plugins: tuple[str, ...]) -> K8sAudit | None:
    """The audit source that these plugins ask for, None if it is not to be loaded. Raises ValueError."""
    for name in load_plugins:
        if name not in BUILT_IN:
            raise ValueError(f"no plugin is called `{name}` here; built in are {', '.join(BUILT_IN)}")
    if K8S_AUDIT not in load_plugins:
        return None
    plugin = next((p for p in plugins if p.name == K8S_AUDIT), Plugin(K8S_AUDIT))
    options = _options(plugin.init_config)
    certificate = options.get("sslCertificate", "/etc/tercel/tercel.pem")
    event_bytes = _size(options.get("maxEventSize", 262_144), "maxEventSize")
    body_bytes = _size(options.get("webhookMaxBatchSize", 12_582_912), "webhookMaxBatchSize")
    client_ca, cluster = _text(options, "sslClientCA"), _text(options, "clusterName")
    where = plugin.open_params or f"http://127.0.0.1:{_PORT}/k8s-audit"
    url = urlsplit(where)
    if client_ca and url.scheme != "https":
        raise ValueError("`sslClientCA` asks clients for certificates, and `open_params` is no `https` URL")
    if url.scheme not in ("http", "https"):
        return K8sAudit(cluster=cluster, logs=Path(where), max_event_bytes=event_bytes, max_body_bytes=body_bytes)
    return K8sAudit(
        host=url.hostname or "127.0.0.1",  # Falco would listen everywhere; here one has to say so
        port=url.port if url.port is not None else _PORT,
        path=url.path or "/",
        certificate=str(certificate) if url.scheme == "https" else None,
        client_ca=client_ca or None,
        cluster=cluster,
        max_event_bytes=event_bytes,
        max_body_bytes=body_bytes,
    )


def _options(init_config: Mapping[str, object] | str | None) -> Mapping[str, object]:
    if init_config is None:
        return {}
    if isinstance(init_config, str):
        try:
            made = yaml.safe_load(init_config) if init_config.strip() else {}
        except Exception:  # PyYAML's own, and what its code runs into where a tag does not fit
            made = None
        if not isinstance(made, dict):
            raise ValueError(f"`init_config` of `{K8S_AUDIT}` is no map of keys")
        init_config = made
    for key in init_config:
        if key not in _KEYS:
            raise ValueError(f"`init_config` of `{K8S_AUDIT}` has no key `{key}`; keys: {', '.join(_KEYS)}")
    return init_config


def _text(options: Mapping[str, object], name: str) -> str:
    value = options.get(name, "")
    if not isinstance(value, str) or len(value) > _TEXT_MAX or "\0" in value:
        raise ValueError(f"`{name}` must be a text of at most {_TEXT_MAX} characters")
    return value


def _size(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1024 <= value <= 1 << 28:
        raise ValueError(f"`{name}` must be a number of bytes from 1024 to {1 << 28}")
    return value
