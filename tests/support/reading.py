"""The commands of docs/reading-alerts.md, taken out of the page, with what the page promises of each.

Comes in: the page. Goes out: what a test does in a machine, as JSON. A block of code stands below a comment that says:
`shows: TEXT | TEXT; never: TEXT` what the output must and must not hold, `follows` that the command does not end by
itself, `file: PATH` that the block is that file, `sends: HOST:PORT` that after the command alerts arrive there.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs/reading-alerts.md"
BLOCK = re.compile(r"(?:<!-- (?P<claim>[^\n]*) -->\n)?```\n(?P<code>.*?)\n```\n", re.DOTALL)
KINDS = ("follows, shows", "shows", "file", "sends")


def blocks(text: str) -> Iterator[dict[str, Any]]:
    """Each block of the page, in order."""
    for found in BLOCK.finditer(text):
        claim, code = found["claim"] or "", found["code"]
        kind = next((kind for kind in KINDS if claim.startswith(f"{kind}: ")), None)
        assert kind is not None, f"nothing is claimed of this block:\n{code}"
        told = claim.removeprefix(f"{kind}: ")
        if kind in ("file", "sends"):
            yield {kind: told, "code": code}
        else:
            shows, _, never = told.partition("; never: ")
            yield {
                "code": f"timeout 8 {code}; true" if kind.startswith("follows") else code,
                "shows": shows.split(" | "),
                "never": [never] if never else [],
            }


if __name__ == "__main__":
    json.dump(list(blocks(PAGE.read_text())), sys.stdout)
