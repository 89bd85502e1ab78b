"""The commands of docs/reading-alerts.md, taken out of the page, with what the page promises of each.

Comes in: the page. Goes out: what a test does in a machine, as JSON. A block of code stands below a comment that says:
`shows: TEXT | TEXT; never: TEXT` what the output must and must not hold, `follows: TEXT` that the command does not end
by itself and shows that before long, `file: PATH` that the block is that file, `sends` that after the command alerts
leave. On the machine that collects there are files (`file there: PATH`), commands after which it listens (`receives`)
and questions (`shows there: TEXT | TEXT`).
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs/reading-alerts.md"
BLOCK = re.compile(r"(?:<!-- (?P<claim>[^\n]*) -->\n)?```\n(?P<code>.*?)\n```\n", re.DOTALL)
CLAIM = re.compile(
    r"(?P<kind>shows|follows|file|sends|receives)(?P<there> there)?(?:: (?P<told>.*?))?(?:; never: (?P<never>.*))?"
)
UNTIL = "exec 3< <(exec {}); timeout 200 grep -m 1 -F {} <&3; kill $!"
"""bash: what does not end by itself, until it has shown something."""


def blocks(text: str) -> Iterator[dict[str, Any]]:
    """Each block of the page, in order: `kind`, `there`, `code`, and `file` or what it `shows` and `never` shows."""
    for found in BLOCK.finditer(text):
        code, claim = found["code"], CLAIM.fullmatch(found["claim"] or "")
        assert claim is not None, f"nothing is claimed of this block:\n{code}"
        block: dict[str, Any] = {"kind": claim["kind"], "there": claim["there"] is not None, "code": code}
        if claim["kind"] == "file":
            block["file"] = claim["told"]
        elif claim["told"]:
            block |= {
                "kind": "shows",
                "shows": claim["told"].split(" | "),
                "never": [claim["never"]] if claim["never"] else [],
            }
        if claim["kind"] == "follows":
            block["code"] = UNTIL.format(code, shlex.quote(block["shows"][0]))
        yield block


if __name__ == "__main__":
    json.dump(list(blocks(PAGE.read_text())), sys.stdout)
