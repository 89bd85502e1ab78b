"""Servers that Debian does not package, brought by their own package managers into one cache: `make setup-test` calls
it.

Comes in: names of servers, or none for all. Goes out: what is missing, in the cache folder. What the machine has no
package manager for (mvn, go, npm) is left out and named; the tests that need it say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.vm import CACHE

SERVERS = CACHE / "servers"
OPENSEARCH, KAFKA, ELASTICSEARCH = "2.19.6", "4.1.2", "7.10.2"
_QUIET = ("-q", "-B")


def _run(*argv: str | Path, cwd: Path | None = None, **environment: str) -> None:
    done = subprocess.run(
        [str(part) for part in argv],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=900,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {done.stdout[-2000:]}")


def _pom(folder: Path, *artifacts: str) -> None:
    """Copy artifacts and all that they depend on into `folder/lib`."""
    parts = "".join(
        f"<dependency><groupId>{g}</groupId><artifactId>{a}</artifactId><version>{v}</version></dependency>"
        for g, a, v in (artifact.split(":") for artifact in artifacts)
    )
    (folder / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>t</groupId>'
        f"<artifactId>t</artifactId><version>1</version><dependencies>{parts}</dependencies></project>"
    )
    _run("mvn", *_QUIET, "dependency:copy-dependencies", f"-DoutputDirectory={folder}/lib", cwd=folder)


def _opensearch(folder: Path) -> None:
    artifact = f"org.opensearch.distribution.integ-test-zip:opensearch:{OPENSEARCH}:zip"
    _run("mvn", *_QUIET, "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}")
    (archive,) = folder.glob("*.zip")
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            where = Path(opened.extract(entry, folder))
            if entry.external_attr >> 16 & 0o111 and where.is_file():
                where.chmod(0o755)
    archive.unlink()
    (made,) = folder.glob("opensearch-*")
    made.rename(folder / "opensearch")


def _kafka(folder: Path) -> None:
    _pom(folder, f"org.apache.kafka:kafka_2.13:{KAFKA}", "org.slf4j:slf4j-nop:1.7.36")


_ES_MAIN = """
import java.util.*; import org.elasticsearch.common.settings.Settings; import org.elasticsearch.env.Environment;
import org.elasticsearch.node.*; import org.elasticsearch.transport.Netty4Plugin;
public class Search extends Node {
  Search(Environment e) { super(e, List.of(Netty4Plugin.class), false); }
  public static void main(String[] a) throws Exception {
    Settings s = Settings.builder().put("path.home", a[0]).put("http.port", a[1]).put("transport.port", a[2])
      .put("network.host", "127.0.0.1").put("discovery.type", "single-node").put("node.name", "t")
      .put("cluster.routing.allocation.disk.threshold_enabled", false).build();
    new Search(InternalSettingsPreparer.prepareEnvironment(s, Map.of(), null, () -> "t")).start();
    Thread.currentThread().join();
  }
}
"""


def _elasticsearch(folder: Path) -> None:
    _pom(
        folder,
        f"org.elasticsearch:elasticsearch:{ELASTICSEARCH}",
        f"org.elasticsearch.plugin:transport-netty4-client:{ELASTICSEARCH}",
        "org.apache.logging.log4j:log4j-core:2.11.1",
    )
    (folder / "Search.java").write_text(_ES_MAIN)


def _go(package: str) -> Callable[[Path], None]:
    def fetch(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=CACHE) as modules:
            _run(
                "go",
                "install",
                package,
                GOBIN=str(folder),
                GOMODCACHE=modules,
                GOFLAGS="-modcacherw",
                GOCACHE=f"{modules}/build",
                GOTOOLCHAIN="local",
            )

    return fetch


def _azurite(folder: Path) -> None:
    _run("npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", folder, "azurite@3")


FETCH: Mapping[str, tuple[str, Callable[[Path], None]]] = {
    "opensearch": ("mvn", _opensearch),
    "elasticsearch": ("mvn", _elasticsearch),
    "kafka": ("mvn", _kafka),
    "victoria-logs": ("go", _go("github.com/VictoriaMetrics/VictoriaLogs/app/victoria-logs@v1.52.1")),
    "victoria-metrics": ("go", _go("github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics@v1.151.0")),
    "statsd_exporter": ("go", _go("github.com/prometheus/statsd_exporter@v0.28.0")),
    "azurite": ("npm", _azurite),
}


def place(name: str) -> Path | None:
    """The folder of a server, None where it could not be brought."""
    folder = SERVERS / name
    return folder if (folder / ".whole").exists() else None


def fetch(name: str) -> None:
    """Bring one, unless it is there. Raises RuntimeError."""
    tool, how = FETCH[name]
    if place(name) is not None:
        return
    if shutil.which(tool) is None:
        print(f"{name}: left out, as this machine has no {tool}", file=sys.stderr)
        return
    SERVERS.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=SERVERS))
    made.chmod(0o755)  # some of them run as another user
    try:
        how(made)
        (made / ".whole").touch()
        shutil.rmtree(SERVERS / name, ignore_errors=True)
        made.rename(SERVERS / name)
    finally:
        shutil.rmtree(made, ignore_errors=True)


if __name__ == "__main__":
    for each in sys.argv[1:] or FETCH:
        fetch(each)
