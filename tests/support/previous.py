"""A release before this one, to upgrade from and to go back to.

    python -m tests.support.previous FOLDER [COMMIT]

leaves FOLDER/wheelhouse and FOLDER/tercel_0.0.9_ARCH.deb: what `make dist` and `make deb` make of a commit, under the
version 0.0.9 and with one rule more, by which one sees whose rules are in force. Without a commit it is the checkout as
it is now: files, unit and version change in an upgrade then, formats on the disk do not. A commit (a tag, once there
are releases) needs to have packaging/dist.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSION = "0.0.9"
RULE = """
- rule: Of the release before
  desc: Only the release before this one has it.
  condition: evt.type = execve and proc.cmdline = "true of the release before"
  output: by %proc.cmdline
  priority: NOTICE
"""


def make(folder: Path, commit: str = "", *, artifacts: Sequence[str] = ("wheelhouse", "deb")) -> None:
    """The artifacts, into a folder that is made anew. The package alone takes others' wheels from dist/wheelhouse."""
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
            (source / name).write_text(text[: found.start(1)] + VERSION + text[found.end(1) :])
        rules = source / "rules/tercel_rules.yaml"
        rules.write_text(rules.read_text() + RULE)
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
    make(Path(sys.argv[1]).resolve(), *sys.argv[2:3])
