"""The rules of one host, put together on the controller: layers of files become one folder, and its name.

Arguments: the folder of all rules, the host, its groups in order. On standard output, JSON: `version`, a digest of all
that follows; `rules` and `cases`, each a list of `name`, `source` and `sha256`; `layers`, those that were found. Files of a
folder are ordered by their names, so that the layer stands at the beginning: 1-all, 2NN-GROUP, 9-host.
"""

import hashlib
import json
import sys
from pathlib import Path

ENDINGS = (".yaml", ".yml")


def files_of(folder):
    """The YAML files of a folder by name; none where it is not there."""
    return sorted(p for p in folder.iterdir() if p.suffix in ENDINGS and p.is_file()) if folder.is_dir() else []


def taken(prefix, folder):
    """Files of a folder under the names that they have on the target."""
    return [
        {"name": f"{prefix}-{p.name}", "source": str(p), "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
        for p in files_of(folder)
    ]


root, host, groups = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
layers = [("1-all", root / "all")]
layers += [(f"2{i:02}-{group}", root / "group" / group) for i, group in enumerate(groups)]
layers += [("9-host", root / "host" / host)]
found = {"rules": [], "cases": [], "layers": [name for name, folder in layers if folder.is_dir()]}
for prefix, folder in layers:
    found["rules"] += taken(prefix, folder)
    found["cases"] += taken(prefix, folder / "cases")
lines = [f"{kind} {f['name']} {f['sha256']}\n" for kind in ("rules", "cases") for f in found[kind]]
found["version"] = hashlib.sha256("".join(lines).encode()).hexdigest()[:12] if lines else "none"
print(json.dumps(found))
