"""TLS of the page: its own certificate, and browsers' certificates where the settings name their authority."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from appliance.hub.load import settings_of
from appliance.model.diagnostic import ConfigError
from tests.hub.web.conftest import ROOT, free_port, wait_for
from tests.support.certificates import make_certificates

RUN = """
from pathlib import Path
from appliance.hub.load import load_settings
from appliance.hub.web.serve import main
if __name__ == "__main__":
    raise SystemExit(main(load_settings(Path("hub.yaml").absolute())))
"""


def test_only_browsers_with_a_certificate_come_in(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    port = free_port()
    tls = f"cert: {made / 'server.pem'}, key: {made / 'server.key'}, client_ca: {made / 'ca.pem'}"
    (tmp_path / "hub.yaml").write_text(f"data_dir: {tmp_path / 'data'}\npage: {{port: {port}, tls: {{{tls}}}}}\n")
    (tmp_path / "run.py").write_text(RUN)
    process = subprocess.Popen(
        [sys.executable, "run.py"], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    )

    def ask(client: str = "") -> httpx.Response | None:
        trust = ssl.create_default_context(cafile=str(made / "ca.pem"))
        if client:
            trust.load_cert_chain(made / f"{client}.pem", made / f"{client}.key")
        try:
            return httpx.get(f"https://localhost:{port}/login", verify=trust, timeout=5)
        except httpx.HTTPError:
            return None

    try:
        wait_for(lambda: ask("client") is not None)
        said = ask("client")
        assert said is not None
        assert said.status_code == 200
        assert ask() is None
        assert ask("stranger") is None
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("{address: 0.0.0.0}", "insecure-listener"),
        ("{tls: {cert: /x.pem}}", "missing-key"),
        ("{proxy_user_header: Remote-User}", "missing-key"),
        ("{oidc: {roles: {soc: emperor}}}", "wrong-value"),
        ("{hide: [{role: admin, fields: [a]}]}", "wrong-value"),
    ],
)
def test_what_makes_no_sense_is_refused_at_its_place(page: str, name: str) -> None:
    with pytest.raises(ConfigError) as raised:
        settings_of(f"page: {page}\n")
    assert name in {d.name for d in raised.value.diagnostics}
    assert all(d.span is not None and d.span.line == 1 for d in raised.value.diagnostics)
