"""A Debian of its own to install into: the tree of a test machine's image, with what is written to it kept in memory.

    with Tree(disk().image) as tree:
        tree.run("dpkg", "--install", "/root/tercel.deb")

No machine is started: programs run on our kernel, with the tree as their root and without a network. What is written is
gone at the end; the image is never changed.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
                "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}  # fmt: skip


class Tree:
    """The mounts of a tree; `root` is where it lies."""

    def __init__(self, image: Path) -> None:
        self._image = image
        self._folder = Path(tempfile.mkdtemp(prefix="tercel-tree-"))
        self._mounted: list[Path] = []
        self.root = self._folder / "root"

    def __enter__(self) -> Tree:
        lower, memory = self._folder / "lower", self._folder / "memory"
        try:
            self._open(lower)
            self._mount(memory, "-t", "tmpfs", "-o", "size=1g,mode=755", "none")
            for name in ("upper", "work"):
                (memory / name).mkdir()
            layers = f"lowerdir={lower},upperdir={memory / 'upper'},workdir={memory / 'work'}"
            self._mount(self.root, "-t", "overlay", "-o", layers, "none")
            self._mount(self.root / "proc", "-t", "proc", "none")
        except BaseException:
            self._unmount()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._unmount()

    def run(
        self, *argv: str | Path, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in it, as root. With `check`, a status that is not 0 is an error with all that was said."""
        done = subprocess.run(
            ["unshare", "--net", "chroot", self.root, *argv],
            env={**_ENVIRONMENT, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"{argv} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
        return done

    def files(self) -> dict[str, tuple[int, int, int]]:
        """Everything in it but what the kernel shows: path -> mode, owner, group."""
        found = self.run(
            "find", "/", "-xdev", "-path", "/proc", "-prune", "-o", "-printf", r"%p\t%m\t%U\t%G\n"
        ).stdout  # fmt: skip
        rows = (line.split("\t") for line in found.splitlines())
        return {path: (int(mode, 8), int(owner), int(group)) for path, mode, owner, group in rows}

    def _open(self, lower: Path) -> None:
        """The image's tree: mounted, or copied out of it (a gigabyte, ten seconds) where there are no loop devices."""
        try:
            self._mount(lower, "-o", "loop,ro,noload", self._image)
        except AssertionError:
            done = subprocess.run(
                ["debugfs", "-R", f"rdump / {lower}", self._image], capture_output=True, text=True, check=False
            )
            if not (lower / "etc").exists():
                raise AssertionError(f"cannot read {self._image}: {done.stderr}") from None

    def _mount(self, place: Path, *arguments: str | Path) -> None:
        place.mkdir(exist_ok=True)
        done = subprocess.run(["mount", *arguments, place], capture_output=True, text=True, check=False)
        if done.returncode:
            raise AssertionError(f"cannot mount {place}: {done.stderr}")
        self._mounted.append(place)

    def _unmount(self) -> None:
        for place in reversed(self._mounted):
            subprocess.run(["umount", "--lazy", place], check=True)
        self._mounted.clear()
        subprocess.run(["rm", "-rf", "--one-file-system", self._folder], check=True)
