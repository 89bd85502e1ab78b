"""Other releases than this one, to upgrade from, to go back to and to fail with.

    python -m tests.support.previous FOLDER [--kind KIND] [--commit COMMIT] [--only wheelhouse|deb]

leaves FOLDER/wheelhouse and FOLDER/tercel_VERSION_ARCH.deb: what `make dist` and `make deb` make of a commit, changed
as its kind says. `before` is version 0.0.9 with one rule more, by which one sees whose rules are in force; `rebuilt` is
this version with another rule more; `broken` is version 0.1.99, in which all works but `tercel run`. Without a commit
they are made of the checkout as it is now: files, unit and version change in an upgrade then, formats on disk do not.
A commit (a tag, once there are releases) needs to have packaging/dist.py.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import appliance

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.0.9"
RULE = """
- rule: Of the release {name}
  desc: No other release has it.
  condition: evt.type = execve and proc.cmdline = "true of the release {name}"
  output: by %proc.cmdline
  priority: NOTICE
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is changed: the version, text that a file has at its end, by the file's name."""

    version: str
    appended: tuple[tuple[str, str], ...]


KINDS = {
    "before": Kind(VERSION, (("rules/tercel_rules.yaml", RULE.format(name="before")),)),
    "rebuilt": Kind(appliance.__version__, (("rules/tercel_rules.yaml", RULE.format(name="rebuilt")),)),
    "broken": Kind(
        "0.1.99",
        (
            (
                "appliance/daemon/loop.py",
                '\nif "run" in __import__("sys").argv:\n    raise SystemExit("this release is broken")\n',
            ),
        ),
    ),
}


def make(
    folder: Path, commit: str = "", *, kind: str = "before", artifacts: Sequence[str] = ("wheelhouse", "deb")
) -> None:
    """The artifacts, into a folder that is made anew. The package alone takes others' wheels from dist/wheelhouse."""
    version = KINDS[kind].version
    with tempfile.TemporaryDirectory(prefix="tercel-previous-") as scratch:
        source = Path(scratch) / "source"
        source.mkdir()
        if commit:
            tree = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
            subprocess.run(["tar", "-x"], cwd=source, check=True, input=tree)
        else:
            argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
            names = subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
            for name in (name for name in names if name and (ROOT / name).is_file()):
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, source / name)
        for name, pattern in (
            ("pyproject.toml", r'(?m)^version = "(.*)"$'), ("appliance/__init__.py", r'(?m)^__version__ = "(.*)"$')
        ):  # fmt: skip
            text = (source / name).read_text()
            found = re.search(pattern, text)
            assert found is not None, f"{name} tells no version"
            (source / name).write_text(text[: found.start(1)] + version + text[found.end(1) :])
        for name, text in KINDS[kind].appended:
            (source / name).write_text((source / name).read_text() + text)
        if (ROOT / "dist/wheelhouse").exists():  # others' wheels need not be fetched again
            shutil.copytree(ROOT / "dist/wheelhouse", source / "dist/wheelhouse")
        subprocess.run(["git", "init", "--quiet"], cwd=source, check=True)  # it asks git for the names of its files
        time = subprocess.run(
            ["git", "log", "-1", "--format=%ct", commit or "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        for what in artifacts:
            env = {**os.environ, "SOURCE_DATE_EPOCH": time.strip()}
            subprocess.run([sys.executable, "packaging/dist.py", what], cwd=source, check=True, env=env, stdout=2)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source / "dist", folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.support.previous")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=KINDS, default="before")
    parser.add_argument("--commit", default="")
    parser.add_argument("--only", choices=("wheelhouse", "deb"), default=None)
    told = parser.parse_args()
    parts = (told.only,) if told.only else ("wheelhouse", "deb")
    make(told.folder.resolve(), told.commit, kind=told.kind, artifacts=parts)
