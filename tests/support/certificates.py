"""Certificates for tests, made by openssl and good for two days."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:10.0.2.2"  # the last: seen from a machine of QEMU


def _openssl(folder: Path, *argv: str) -> None:
    subprocess.run(["openssl", *argv], cwd=folder, check=True, capture_output=True)


def _signed(folder: Path, name: str, hosts: str) -> None:
    """A certificate of the authority's in `folder`, and its key."""
    made = ("-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")
    told = ("-addext", hosts, "-addext", "basicConstraints=critical,CA:FALSE")
    _openssl(folder, "req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", *_KEY, *made, *told)


def make_client(folder: Path, name: str) -> None:
    """Another certificate for a client, by the authority that is in `folder`."""
    _signed(folder, name, _NAMES)


def make_certificates(folder: Path) -> Path:
    """`ca.pem`; signed by it `server.pem` and `client.pem` for this machine, `other.pem` for one of another name.

    Beside each its `.key`; `hashed/` is a folder for `ca_path`, `stranger.pem` an authority that signed none of them.
    """
    for name in ("ca", "stranger"):
        subject = f"/CN=test authority {name}"
        keys = ("-keyout", f"{name}.key", "-out", f"{name}.pem")
        _openssl(folder, "req", "-x509", *_KEY, *keys, "-days", "2", "-subj", subject)
    for name, hosts in (("server", _NAMES), ("client", _NAMES), ("other", "subjectAltName=DNS:elsewhere.example")):
        _signed(folder, name, hosts)
    (folder / "hashed").mkdir()
    (folder / "hashed" / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    _openssl(folder, "rehash", "hashed")
    return folder
