"""A target that is a tree of files: what a play does there is done by its own programs, in a chroot.

The inventory says `ansible_connection: tree` and `tree_path`. For tests of what a role does to files.
"""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

from ansible.plugins.connection import ConnectionBase  # type: ignore[import-untyped]

DOCUMENTATION = """
name: tree
short_description: runs modules in a chroot
description: runs modules in a chroot
options:
  tree_path:
    description: the tree
    type: path
    required: true
    vars: [{name: tree_path}]
  tree_kernel:
    description: whether /proc, /sys and /dev are there
    type: bool
    default: false
    vars: [{name: tree_kernel}]
  tree_prefix:
    description: a command that becomes the one that is run
    type: str
    default: ""
    vars: [{name: tree_prefix}]
"""

# In a mount namespace of its own, which ends with the command.
MOUNTED = (
    'mount --rbind /proc "$1/proc" && mount --rbind /sys "$1/sys" && mount --rbind /dev "$1/dev" &&'
    ' exec chroot "$1" /bin/sh -c "$2"'
)


class Connection(ConnectionBase):  # type: ignore[misc]
    """Runs commands below a tree, and copies files there and back."""

    transport = "tree"
    has_pipelining = True

    def _connect(self) -> Connection:
        self._connected = True
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Run a command line; its status and what it wrote."""
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        argv = ["chroot", self._path(), "/bin/sh", "-c", cmd]
        if self.get_option("tree_kernel"):
            argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", MOUNTED, "sh", self._path(), cmd]
        argv = [*str(self.get_option("tree_prefix")).split(), *argv]
        done = subprocess.run(argv, input=in_data or b"", capture_output=True, env=environment)
        return done.returncode, done.stdout, done.stderr

    def put_file(self, in_path: str, out_path: str) -> None:
        """A file of ours becomes one of the tree's."""
        shutil.copyfile(in_path, self._path() + out_path)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """A file of the tree's becomes one of ours."""
        shutil.copyfile(self._path() + in_path, out_path)

    def close(self) -> None:
        """Nothing is held."""
        self._connected = False

    def _path(self) -> str:
        path: Any = self.get_option("tree_path")
        return str(path)
