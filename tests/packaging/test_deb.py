"""`make deb`: what is in the package, what lintian says of it, and a Debian that gets it, changes it and purges it."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import appliance
from tests.packaging.conftest import ROOT, build, command_works
from tests.support.tree import Tree

VERSION = appliance.__version__
PAGE = (ROOT / "docs/installing.md").read_text()
OURS = Path(__file__).parent / "contents.txt"
BOOKKEEPING = re.compile(
    r"/var/(lib|cache|log)/(dpkg|man|ldconfig|systemd|apt)\b|/etc/(passwd|group|shadow|gshadow)-?$|/root/"
    r"|/run/systemd\b|/etc/systemd/system/[^/]*[.]wants$"
)
"""What other programs remember of an installation: packages, accounts with their backups, logs, empty folders."""


def said(*argv: str | Path) -> str:
    return subprocess.run([*argv], check=True, capture_output=True, text=True).stdout


def digest(deb: Path) -> str:
    return hashlib.sha256(deb.read_bytes()).hexdigest()


def contents(deb: Path) -> list[str]:
    """Mode, owner and path of each file and folder."""
    rows = (line.split(maxsplit=5) for line in said("dpkg-deb", "--contents", deb).splitlines())
    return sorted(f"{mode} {owner} {path.removeprefix('.')}" for mode, owner, _, _, _, path in rows)


def test_lintian_has_nothing_against_it(debs: dict[str, Path]) -> None:
    for deb in debs.values():
        done = subprocess.run(
            ["lintian", "--allow-root", "--no-cfg", "--show-overrides", deb],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_what_is_in_it(debs: dict[str, Path], request: pytest.FixtureRequest) -> None:
    """Code, schemas and documents are those of the checkout; all else stands in contents.txt."""
    found = contents(debs["amd64"])
    tracked = said("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    wanted = []
    for pattern, place, ending in (
        (r"(appliance/.*)", "/usr/lib/tercel", ""),
        (r"(schemas/.*)", "/usr/share/tercel", ""),
        (r"docs/([^/]*[.]md)", "/usr/share/doc/tercel", ""),
        (r"docs/man/(.*[.]5)", "/usr/share/man/man5", ".gz"),
        (r"docs/man/(.*[.]8)", "/usr/share/man/man8", ".gz"),
    ):
        names = (
            match[1] for match in (re.fullmatch(pattern, name) for name in tracked if (ROOT / name).exists()) if match
        )
        wanted += [f"-rw-r--r-- root/root {place}/{name}{ending}" for name in names]
    assert [line for line in wanted if line not in found] == []
    rest = [line for line in found if line not in wanted and "/appliance/" not in line]
    if request.config.getoption("--accept", default=False):
        OURS.write_text("\n".join(rest) + "\n")
    assert rest == OURS.read_text().splitlines()
    assert contents(debs["arm64"]) == [line.replace("x86_64-linux-gnu", "aarch64-linux-gnu") for line in found]
    assert [line for line in found if line[0] == "-" and "/appliance/" in line and line not in wanted] == []


def test_what_it_depends_on(debs: dict[str, Path]) -> None:
    """Debian's packages, any Python for which the library is bundled; and both architectures say the same."""
    depends = said("dpkg-deb", "--field", debs["amd64"], "Depends")
    wanted = set(re.findall(r"[a-z0-9.+-]+(?=[ ,:(\n]|$)", re.sub(r"\(.*?\)", "", depends))) - {"any"}
    assert wanted == {
        "systemd", "systemd-standalone-sysusers", "systemd-sysusers", "libc6", "libgcc-s1", "libstdc++6", "python3",
        "python3-bpfcc", "python3-h2", "python3-jsonschema", "python3-requests", "python3-systemd", "python3-yaml",
        "ca-certificates",
    }  # fmt: skip
    assert "python3 (>= 3.11), python3 (<< 3.14~)" in depends
    assert depends == said("dpkg-deb", "--field", debs["arm64"], "Depends")
    conffiles = said("dpkg-deb", "--info", debs["amd64"], "conffiles").split()
    names = ("k8s_audit_rules.yaml", "tercel.yaml", "tercel_attack_rules.yaml", "tercel_rules.local.yaml",
             "tercel_rules.yaml")  # fmt: skip
    assert conffiles == [f"/etc/tercel/{name}" for name in names]


def test_the_libraries_of_the_other_architecture_ask_for_no_newer_libc(debs: dict[str, Path], tmp_path: Path) -> None:
    """What they depend on was written by hand: nothing of that architecture is here to ask."""
    said("dpkg-deb", "--extract", debs["arm64"], tmp_path)
    libraries = list((tmp_path / "usr/lib/tercel/re2").glob("*.so"))
    assert len(libraries) == 3
    for library in libraries:
        text = said("objdump", "--private-headers", library)
        assert max(int(minor) for minor in re.findall(r"GLIBC_2[.](\d+)", text)) <= 34
        assert set(re.findall(r"NEEDED +(\S+?)[.]so", text)) <= {
            "libstdc++", "libm", "libgcc_s", "libpthread", "libc", "ld-linux-aarch64",
        }  # fmt: skip


def test_made_again_it_is_the_same(debs: dict[str, Path]) -> None:
    before = digest(debs["amd64"])
    build("deb", "amd64", umask=0o077)
    assert digest(debs["amd64"]) == before


@pytest.fixture(scope="module")
def before(tree: Tree, debs: dict[str, Path]) -> dict[str, tuple[int, int, int]]:
    """A Debian's files before it; the tests that follow come one after the other. Nothing of systemd runs there."""
    (tree.root / "root/dist").mkdir()
    shutil.copy(debs["amd64"], tree.root / "root/dist")
    return tree.files()


def test_it_installs(tree: Tree, before: dict[str, tuple[int, int, int]]) -> None:
    """By the command of docs/installing.md, which finds all that it depends on in the tree."""
    (command,) = re.findall(r"(?m)^(apt install \./dist/tercel_\*_amd64\.deb) ", PAGE)
    tree.run("sh", "-c", f"cd /root && {command}")
    _, _, uid, gid, _, home, shell = tree.run("getent", "passwd", "tercel").stdout.strip().split(":")
    assert (home, shell) == ("/var/lib/tercel", "/usr/sbin/nologin")
    files = tree.files()
    assert files["/etc/tercel"] == (0o750, 0, int(gid))
    assert files["/etc/tercel/credentials"] == (0o700, 0, 0)
    assert files["/var/lib/tercel"] == (0o700, int(uid), int(gid))
    assert files["/var/log/tercel"] == (0o750, int(uid), int(gid))
    assert "/etc/systemd/system/multi-user.target.wants/tercel.service" in files
    assert any(re.fullmatch(r"/usr/lib/tercel/appliance/cli/__pycache__/main[.].*[.]pyc", name) for name in files)
    assert "Tercel" in tree.run("journalctl", "--dump-catalog").stdout
    tree.run("systemd-analyze", "verify", "--man=no", "/usr/lib/systemd/system/tercel.service")


def test_its_command_works(tree: Tree, before: object) -> None:
    """As root, and as the user that the daemon is; what PYTHONPATH has to offer does not get in."""
    command_works(tree)
    tree.run("tercel", "check", "/usr/share/tercel/rules/tercel_rules.yaml")
    (tree.root / "root/yaml.py").write_text("raise SystemExit('somebody else')")
    tree.run("tercel", "check", env={"PYTHONPATH": "/root"})
    script = "source /usr/share/bash-completion/completions/tercel; COMP_WORDS=(tercel rel); COMP_CWORD=1; _tercel;"
    assert tree.run("bash", "-c", f"{script} echo $COMPREPLY").stdout == "reload\n"


def test_without_the_configuration_the_shipped_one_counts(tree: Tree, before: object) -> None:
    etc = tree.root / "etc/tercel/tercel.yaml"
    etc.rename(etc.with_suffix(".away"))
    try:
        assert "configuration /usr/share/tercel/tercel.yaml" in tree.run("tercel", "check").stderr
    finally:
        etc.with_suffix(".away").rename(etc)


def test_what_was_changed_stays_over_an_upgrade(tree: Tree, before: object) -> None:
    etc = tree.root / "etc/tercel"
    changed = {
        etc / "tercel_rules.local.yaml": "# mine\n",
        etc / "tercel.yaml": "rules_files: [tercel_rules.yaml]\n",
    }
    for file, text in changed.items():
        file.write_text(text)
    (etc / "rules.d/mine.yaml").write_text("# mine, too\n")
    (tree.root / "var/lib/tercel/alerts").write_text("waiting\n")
    tree.run("dpkg", "--install", f"/root/dist/tercel_{VERSION}_amd64.deb")
    assert {file: file.read_text() for file in changed} == changed
    assert (etc / "rules.d/mine.yaml").exists()
    assert (tree.root / "var/lib/tercel/alerts").read_text() == "waiting\n"
    assert tree.files()["/etc/tercel"][0] == 0o750


def test_removal_keeps_what_is_ours_and_purge_leaves_nothing(
    tree: Tree, before: dict[str, tuple[int, int, int]]
) -> None:
    tree.run("dpkg", "--remove", "tercel")
    files = tree.files()
    kept = {name for name in files.keys() - before.keys() if not BOOKKEEPING.match(name)}
    assert {"/etc/tercel/tercel.yaml", "/etc/tercel/rules.d/mine.yaml", "/var/lib/tercel/alerts"} <= kept
    assert not {name for name in kept if name.startswith("/usr/")}
    tree.run("dpkg", "--purge", "tercel")
    files = tree.files()
    assert {name for name in files.keys() ^ before.keys() if not BOOKKEEPING.match(name)} == set()
    assert {name for name in before if files.get(name) != before[name] and not BOOKKEEPING.match(name)} == set()
    for database in ("passwd", "group"):
        assert tree.run("getent", database, "tercel", check=False).returncode == 2
    assert "tercel" not in tree.run("find", "/var/lib/systemd", "/var/lib/dpkg/info", "-name", "*tercel*").stdout
