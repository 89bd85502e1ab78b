"""Which share of the opens of ordinary work crosses from the kernel with `capture.filter: arguments`.

Run as root: `python -m bench.filter [RULES...]`; without RULES, the shipped ones. Prints a row for each kind of work:
opens made while it ran (by all processes of the machine), how many of them crossed, the share.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from appliance.catalog.events import OPENS
from appliance.engine.ruleset import Ruleset
from appliance.kernel.early import KeptOpens
from appliance.kernel.program import Buffers
from appliance.lang.load import load_rules
from appliance.model.alert import Priority
from appliance.sources.syscall import SyscallSource

SHIPPED: Final = tuple(
    Path(__file__).parents[1] / "rules" / name for name in ("tercel_rules.yaml", "tercel_attack_rules.yaml")
)
WORK: Final = {
    "C compile, 20 files": "for i in $(seq 20); do printf '#include <stdio.h>\\n#include <stdlib.h>\\n"
    "int f%s(void){return puts(\"x\");}\\n' $i >f$i.c; gcc -c f$i.c; done",
    "find + grep": "find /usr/include -name '*.h' | head -3000 | xargs grep -l stdio >/dev/null",
    "tar, packed": "tar -cf /dev/null /usr/include; tar -cf t.tar /usr/share/perl* /usr/share/misc",
    "tar, unpacked": "tar -cf u.tar /usr/include/linux 2>/dev/null && tar -xf u.tar",
    "dpkg, apt": "dpkg -l >/dev/null; dpkg -L coreutils >/dev/null; apt-cache policy bash >/dev/null",
    "python": "for i in 1 2 3 4 5; do python3 -c 'import json, ssl, http.client, asyncio'; done",
}  # fmt: skip


def table(files: list[Path]) -> KeptOpens:
    """What a daemon with these rules keeps."""
    made = Ruleset.build(load_rules(files).rules, minimum=Priority.DEBUG, matching="first", hostname="h",
                         new_id=lambda: "", early=True).early  # fmt: skip
    return KeptOpens(made.entries, made.ends, made.real)


def counted(source: SyscallSource) -> tuple[int, int]:
    """Opens made so far, and those of them that were dropped."""
    books = source.books().by_type
    some = [books[type_] for type_ in OPENS if type_ in books]
    return sum(book.produced for book in some), sum(book.filtered for book in some)


def main() -> None:
    """The table of all kinds of work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rules", nargs="*", type=Path, default=list(SHIPPED))
    kept = table(parser.parse_args().rules)
    source = SyscallSource(Buffers(16 << 20), OPENS, early=True)
    try:
        source.drop_opens(kept)
        print(f"{'work':24} {'opens':>8} {'crossed':>8} {'share':>7}")
        for name, script in WORK.items():
            with tempfile.TemporaryDirectory() as folder:
                before = counted(source)
                child = subprocess.Popen(["sh", "-c", script], cwd=folder, stderr=subprocess.DEVNULL)
                while child.poll() is None:
                    source.read(1 << 20)
                made, dropped = (now - then for now, then in zip(counted(source), before, strict=True))
            print(f"{name:24} {made:8} {made - dropped:8} {(made - dropped) / max(made, 1):7.2%}")
    finally:
        source.stop(lambda batch: None)
        source.close()


if __name__ == "__main__":
    main()
