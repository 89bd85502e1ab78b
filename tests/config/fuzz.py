#!/usr/bin/env python3
"""A fuzzer over all that reads configuration: YAML, variables, further files, options, the schema, secrets.

Mutates the configuration of this checkout (and Falco's, where it lies beside it): keys and lines cut, doubled, moved
and replaced. Whatever is read gives a `Config` or diagnostics that can be printed; one that crashes or hangs is
printed with its seed.

usage: tests/config/fuzz.py [--seconds N] [--seed N]
"""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from appliance.config.load import load_config  # noqa: E402
from appliance.model.diagnostic import ConfigError  # noqa: E402
from tests.support import fuzzing  # noqa: E402

_PIECES = [
    "[", "]", "{", "}", ": ", "- ", "'", '"', "\t", "\n", "  ", "&a ", "*a", "<<: ", "|", ">", "#", "!!int ", "!!x ",
    "? ", "---\n", "${", "}", "$${X}", "${X:-", "${HOME}", "\x00", "\u202e", "é", "null", "true", "-1", "1e400",
    "9" * 30, "2001-01-01", "0x", "a" * 300, "[" * 30, "{a: " * 12, "file:/dev/null", "credential:x",
    "credential:../x", "//u:p@h:x/",
    "config_files: [.]\n", "config_files: [extra.yaml]\n", "rules_file: [/]\n", "http_output: {enabled: true, url: ",
    "program_output: {enabled: true, program: ", "append_output: [{", "engine: {modern_ebpf: {buf_size_preset: ",
    "outputs_queue: {capacity: 0}\n", "rules: [{enable: {", "container_engines: {cri: {sockets: [",
]  # fmt: skip
_OPTIONS = [
    "", "=", "a", "json_output=true", "rules[]={enable: {rule: x}}", "rules[0].enable.tag=x", "rules[9999]=1", "a.b[",
    "config_files[]=extra.yaml", "http_output.url=credential:x", "append_output[].extra_output=%x", "[]=1", "x=&a [*a]",
    "metrics.interval=${X}", "capture={ring_mib: 3}", "engine=", "rules_files=", "outputs_queue=5",
]  # fmt: skip


def seeds() -> list[str]:
    """The texts to start from: whole files without comments, and their sections."""
    texts = []
    for file in (ROOT / "tercel.yaml", ROOT.parent / "shared/falco/falco.yaml"):
        if file.exists():
            lines = [ln for ln in file.read_text().split("\n") if ln.strip() and not ln.lstrip().startswith("#")]
            texts.append("\n".join(lines))
            starts = [n for n, ln in enumerate(lines) if not ln.startswith((" ", "-"))] + [len(lines)]
            texts += ["\n".join(lines[a:b]) for a, b in itertools.pairwise(starts)]
    return texts


def mutate(text: str, rng: random.Random) -> str:
    """A few changes."""
    for _ in range(rng.randint(1, 5)):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice([0, 1, 1, 3, 10, 80]))
        match rng.randrange(6):
            case 0:
                text = text[:at] + text[end:]
            case 1:
                text = text[:end] + text[at:end] * rng.randint(1, 4) + text[end:]
            case 2:
                lines = text.split("\n")
                lines.insert(rng.randrange(len(lines)), rng.choice(lines))
                text = "\n".join(lines)
            case 3:
                text = text[:at] + rng.choice(_PIECES) + text[end:]
            case 4:
                text = f"{text}\n{rng.choice(_PIECES)}{rng.choice(_PIECES)}"
            case _:
                colon = text.find(": ", at)
                text = text if colon < 0 else text[: colon + 2] + rng.choice(_PIECES) + text[colon + 2 :]
    return text[:100_000]


def fuzz(seconds: float, seed: int, most: int = 0) -> fuzzing.Tally:
    """Raises what reading one raises."""
    texts = seeds()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def make(rng: random.Random) -> Input:
            main, extra = mutate(rng.choice(texts), rng), mutate(rng.choice(texts), rng)
            return Input(main, extra, rng.sample(_OPTIONS, rng.choice([0, 0, 1, 2])))

        return fuzzing.fuzz(seconds, seed, make, lambda made: read(folder, made), most)


@dataclass(frozen=True, slots=True)
class Input:
    """A configuration file, one that it may read, and options of the command line."""

    main: str
    extra: str
    options: list[str]


def read(folder: Path, made: Input) -> bool:
    """Whether it was accepted; where not, there are diagnostics that can be printed."""
    (folder / "main.yaml").write_text(made.main, errors="surrogatepass")
    (folder / "extra.yaml").write_text(made.extra, errors="surrogatepass")
    environment = {"HOME": "/${X}", "CREDENTIALS_DIRECTORY": str(folder)}
    try:
        config = load_config(folder / "main.yaml", overrides=made.options, environment=environment)
    except ConfigError as error:
        assert error.diagnostics
        str(error)
        return False
    repr([note.render() for note in config.notes])
    return True


if __name__ == "__main__":
    fuzzing.main(__doc__, fuzz)
