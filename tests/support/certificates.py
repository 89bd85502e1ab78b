"""Certificates for tests, made by openssl and good for two days."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificates(folder: Path) -> Path:
    """`ca.pem`; signed by it `server.pem` and `client.pem` for this machine, `other.pem` for one of another name.

    Beside each its `.key`; `hashed/` is a folder for `ca_path`, `stranger.pem` an authority that signed none of them.
    """

    def openssl(*argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        subject = f"/CN=test authority {name}"
        openssl("req", "-x509", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj", subject)
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:10.0.2.2"  # the last: seen from a machine of QEMU
    for name, hosts in (("server", names), ("client", names), ("other", "subjectAltName=DNS:elsewhere.example")):
        openssl(
            "req", "-x509", "-CA", "ca.pem", "-CAkey", "ca.key", *_KEY, "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-days", "2", "-subj", f"/CN={name}", "-addext", hosts, "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip
    (folder / "hashed").mkdir()
    (folder / "hashed" / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    openssl("rehash", "hashed")
    return folder
