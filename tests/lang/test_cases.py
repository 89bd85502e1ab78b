"""What people read when a rules file is wrong: `cases/*.case`, rules and the diagnostics they get.

A case is one or more files (`-- rules --`, or `-- NAME.yaml --`), then `-- told --`. `pytest --accept` rewrites
what is told; the difference is the review.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.lang.load import load_rules

CASES = sorted(Path(__file__).with_name("cases").glob("*.case"))
_HEAD = re.compile(r"^-- (\S+) --\n", re.MULTILINE)


def told(files: list[tuple[str, str]], folder: Path) -> str:
    paths = []
    for name, text in files:
        path = folder / (f"{name}.yaml" if name == "rules" else name)
        path.write_bytes(text.replace("<TAB>", "\t").encode())
        paths.append(path)
    loaded = load_rules(paths)
    said = "\n".join(d.render() for d in loaded.diagnostics).replace(f"{folder}/", "")
    rules = ", ".join(rule.name for rule in loaded.rules) or "none"
    return f"{said}\nrules: {rules}\n".lstrip("\n")


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.stem)
def test_case(case: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    text = case.read_text()
    heads = list(_HEAD.finditer(text))
    ends = [m.start() for m in heads[1:]] + [len(text)]
    parts = [(m[1], text[m.end() : end]) for m, end in zip(heads, ends, strict=True)]
    intro = text[: heads[0].start()]
    assert intro.strip(), "a case begins by what it claims"
    files = [(name, body) for name, body in parts if name != "told"]
    expected = dict(parts).get("told", "")
    found = told(files, tmp_path)
    if request.config.getoption("--accept"):
        bodies = "".join(f"-- {name} --\n{body}" for name, body in files)
        case.write_text(f"{intro}{bodies}-- told --\n{found}")
        expected = found
    assert found == expected
