"""The page's foreign assets, made again: packages of npm at pinned versions, each held to its SHA-512.

    packaging/vendor.py [--check]

Comes in: the table below. Goes out: `appliance/hub/web/static/vendor/`, with the licence of each. `--check` compares instead.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "appliance/hub/web/static/vendor"

# Package, SHA-512 of its archive as the registry states it (dist.integrity), files taken and their names here.
PACKAGES = {
    "htmx.org@2.0.11": (
        "Thx/WtpeOQqSrqBCw/A1cwGJGg4UrVa3+sW0GmrM3p4gJgO89ecH4qtbnyzDDWFvBTqjnIMCgELTNt636dtamA==",
        {"dist/htmx.min.js": "htmx.js", "LICENSE": "htmx.LICENSE"},
    ),
    "uplot@1.6.32": (
        "KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {"dist/uPlot.iife.min.js": "uplot.js", "dist/uPlot.min.css": "uplot.css", "LICENSE": "uplot.LICENSE"},
    ),
}


def taken(package: str, integrity: str, files: dict[str, str], folder: Path) -> dict[str, bytes]:
    """The files of a package, by their names here."""
    done = subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True)
    archive = folder / done.stdout.strip().splitlines()[-1]
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != integrity:
        sys.exit(f"{package}: its archive has the digest {found}, not {integrity}")
    with tarfile.open(archive) as tar:
        return {name: tar.extractfile(f"package/{path}").read() for path, name in files.items()}  # type: ignore[union-attr]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        for package, (integrity, files) in PACKAGES.items():
            for name, data in taken(package, integrity, files, Path(made)).items():
                path = FOLDER / name
                if args.check and (not path.exists() or path.read_bytes() != data):
                    sys.exit(f"{path} is not what {package} has")
                if not args.check:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)


if __name__ == "__main__":
    main()
