"""Where the files lie that we ship: in a checkout beside the package, from a wheel below the interpreter's data folder,
from Debian's package, which has the code in /usr/lib/tercel, in /usr/share/tercel.

Comes in: a name. Goes out: a path that exists. Never: a search of the working directory.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

_CHECKOUT = Path(__file__).resolve().parents[2]
_INSTALLED = Path(sysconfig.get_path("data")) / "share" / "tercel"
_PACKAGED = (_CHECKOUT / "../../share/tercel").resolve()  # of a checkout right below the root, too
SYSTEM_CONFIG = Path("/etc/tercel/tercel.yaml")
SYSTEM_HUB_CONFIG = Path("/etc/tercel-hub/tercel-hub.yaml")


def schema_file(name: str) -> Path:
    """A file of `schemas/`. Raises FileNotFoundError for a broken installation."""
    return _shipped(Path("schemas") / name)


def default_config() -> Path:
    """The configuration to use where none is named: /etc/tercel/tercel.yaml, else the one we ship."""
    return SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else _shipped(Path("tercel.yaml"))


def default_hub_config() -> Path:
    """The hub's configuration where none is named: /etc/tercel-hub/tercel-hub.yaml, else the one we ship."""
    return SYSTEM_HUB_CONFIG if SYSTEM_HUB_CONFIG.exists() else _shipped(Path("tercel-hub.yaml"))


def _shipped(name: Path) -> Path:
    places = (_CHECKOUT, _INSTALLED, _PACKAGED)
    for folder in places:
        if (folder / name).exists():
            return folder / name
    looked = ", ".join(str(folder) for folder in places)
    raise FileNotFoundError(f"{name} is in none of {looked}: the installation is broken")
