"""What leaves the house: the wheelhouse, and the Debian package made of it.

Comes in: a checkout, as it is now, without what git ignores. Goes out: `dist/wheelhouse/` (our wheel, the wheels that
Debian does not package, SHA256SUMS), `dist/wheelhouse-hub/` (the wheels that a hub needs beside them) and
`dist/tercel_VERSION_ARCH.deb`. The same commit gives the same bytes: times are
those of the commit (SOURCE_DATE_EPOCH wins), modes are made alike, what builds and what is bundled is pinned. Never: a
build in the checkout itself, whose leftovers would be shipped.

Run as `python packaging/dist.py wheelhouse`, `... hub [PYTHON MACHINE]` or `... deb [ARCH]`, by `make dist`, `make dist-hub`
and `make deb`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
WHEELHOUSE = DIST / "wheelhouse"
WHEELHOUSE_HUB = DIST / "wheelhouse-hub"
SUMS = "SHA256SUMS"
PYTHONS = ("311", "312", "313")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
"""As `uname -m` says it -> as Debian does."""
GLIBC = ("2_28", "2_27", "2_26", "2_17")
"""Of manylinux: not newer than Debian 11's, whatever the wheel's author chose."""
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input")


def version() -> str:
    """Of the project, as pyproject.toml has it."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def epoch() -> str:
    """Seconds since 1970: when what we build was written."""
    return os.environ.get("SOURCE_DATE_EPOCH") or _said("git", "log", "-1", "--format=%ct").strip()


def wheelhouse() -> None:
    """Make dist/wheelhouse anew. What it has of others' wheels, with the right digest, is kept and not fetched."""
    with _made_anew(WHEELHOUSE) as made:
        _gather(WHEELHOUSE, made, "wheels.txt", PYTHONS, tuple(MACHINES))
        with tempfile.TemporaryDirectory(dir=DIST, prefix=".making-") as scratch:
            source = Path(scratch) / "source"
            _copy(source)
            constraint = str(ROOT / "packaging/build.txt")
            _run(*PIP, "wheel", "--no-deps", "--wheel-dir", made, source, PIP_CONSTRAINT=constraint)


def wheelhouse_hub(pythons: tuple[str, ...] = PYTHONS, machines: tuple[str, ...] = tuple(MACHINES)) -> None:
    """Make dist/wheelhouse-hub anew, for all Pythons and machines or for some."""
    with _made_anew(WHEELHOUSE_HUB) as made:
        _gather(WHEELHOUSE_HUB, made, "wheels-hub.txt", pythons, machines)


@contextlib.contextmanager
def _made_anew(folder: Path) -> Iterator[Path]:
    """A folder to fill with wheels; in the end it has their sums, and takes the place of `folder`."""
    DIST.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DIST, prefix=".making-") as scratch:
        made = Path(scratch) / folder.name
        made.mkdir()
        yield made
        files = sorted(made.glob("*.whl"))
        (made / SUMS).write_text("".join(f"{_digest(file)}  {file.name}\n" for file in files))
        for file in made.iterdir():
            file.chmod(0o644)
        made.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    print(f"{folder.relative_to(ROOT)}: {', '.join(file.name for file in files)}")


def _gather(before: Path, made: Path, pins: str, pythons: tuple[str, ...], machines: tuple[str, ...]) -> None:
    """Others' wheels as `pins` names them: those that `before` has, and what is missing from PyPI."""
    wanted = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", (ROOT / "packaging" / pins).read_text()))
    for wheel in [wheel for wheel in before.glob("*.whl") if _digest(wheel) in wanted]:
        shutil.copy(wheel, made)
    whole = (pythons, machines) == (PYTHONS, tuple(MACHINES))
    if len(list(made.iterdir())) < len(wanted):
        _fetch(made, pins, pythons, machines)
    missing = wanted - {_digest(wheel) for wheel in made.glob("*.whl")}
    if missing and whole:
        sys.exit(f"dist: of packaging/{pins} nothing was found for {', '.join(sorted(missing))}")


def deb(architecture: str) -> None:
    """Make dist/tercel_VERSION_ARCHITECTURE.deb of the wheelhouse's other wheels and the checkout."""
    machine = next((name for name, debians in MACHINES.items() if debians == architecture), None)
    if machine is None:
        sys.exit(f"dist: no package for `{architecture}`: {' and '.join(MACHINES.values())} are built")
    with tempfile.TemporaryDirectory(dir=DIST, prefix=".making-") as scratch:
        source = Path(scratch) / f"tercel-{version()}"
        _copy(source)
        (source / "packaging/debian").rename(source / "debian")
        written = datetime.fromtimestamp(int(epoch()), UTC)
        changes = f"  * {version()}: what a user notices is in /usr/share/doc/tercel/CHANGELOG.md."
        signed = f" -- {_maintainer(source)}  {format_datetime(written)}"
        (source / "debian/changelog").write_text(
            f"tercel ({version()}) unstable; urgency=medium\n\n{changes}\n\n{signed}\n"
        )
        for wheel in sorted(WHEELHOUSE.glob(f"*_{machine}.whl")):
            with zipfile.ZipFile(wheel) as parts:
                parts.extractall(source / "bundled", [name for name in parts.namelist() if ".dist-info/" not in name])
        _run("dpkg-buildpackage", "--build=binary", "--no-sign", "--no-check-builddeps", f"--host-arch={architecture}",
             cwd=source)  # fmt: skip
        name = f"tercel_{version()}_{architecture}.deb"
        (Path(scratch) / name).replace(DIST / name)
    print(f"dist/{name}")


def _maintainer(source: Path) -> str:
    return re.findall(r"(?m)^Maintainer: (.*)$", (source / "debian/control").read_text())[0]


def _fetch(folder: Path, pins: str, pythons: tuple[str, ...], machines: tuple[str, ...]) -> None:
    for machine in machines:
        platforms = [f"--platform=manylinux_{glibc}_{machine}" for glibc in GLIBC]
        for python in pythons:
            _run(
                *PIP, "download", "--no-deps", "--only-binary=:all:", "--require-hashes", "--implementation=cp",
                f"--python-version={python}", f"--abi=cp{python}", "--abi=abi3", "--abi=none", *platforms,
                "--dest", folder, "--requirement", ROOT / "packaging" / pins,
            )  # fmt: skip


def _copy(folder: Path) -> None:
    """The checkout's files as they are now, all but what git ignores, with modes that no umask makes differ."""
    for name in filter(None, _said("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")):
        source, copy = ROOT / name, folder / name
        if source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
            copy.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _said(*argv: str) -> str:
    return subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def _run(*argv: object, cwd: Path = ROOT, **environment: str) -> None:
    env = {**os.environ, "SOURCE_DATE_EPOCH": epoch(), "LC_ALL": "C.UTF-8", **environment}
    done = subprocess.run([str(a) for a in argv], cwd=cwd, env=env, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(f"dist: {argv[0]} ended with {done.returncode}")


if __name__ == "__main__":
    os.umask(0o022)
    match sys.argv[1:]:
        case ["wheelhouse"]:
            wheelhouse()
        case ["hub"]:
            wheelhouse_hub()
        case ["hub", python, machine] if python in PYTHONS and machine in MACHINES:
            wheelhouse_hub((python,), (machine,))
        case ["deb"]:
            deb(_said("dpkg", "--print-architecture").strip())
        case ["deb", architecture]:
            deb(architecture)
        case _:
            sys.exit(__doc__)
