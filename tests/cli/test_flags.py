"""Falco's flags of `tercel run`, as its user gives them, and what shells complete."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from appliance.catalog.fields import CLASSES
from appliance.cli.completion import verbs_of
from appliance.cli.flags import options
from appliance.cli.main import main, make_parser
from appliance.cli.run import delivering, pidfile
from appliance.config.load import load_config
from appliance.sinks.dispatch import Dispatcher
from tests.support.daemon import COMMAND, ROOT
from tests.support.shared import shared_falco
from tests.support.sinks import MemorySink, alert

RULES = """
- {rule: one thing, desc: the first, condition: evt.type = fork, output: o, priority: WARNING, tags: [t]}
- {rule: another, desc: the second, condition: evt.type = fork, output: o, priority: INFO, tags: [u]}
"""
BAD = "- {rule: bad, desc: d, condition: evt.type = frok, output: o, priority: INFO}\n"


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    (tmp_path / "r.yaml").write_text(RULES)
    (tmp_path / "t.yaml").write_text("rules_files: [r.yaml]\n")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *argv: str | Path, status: int = 0) -> tuple[str, str]:
    assert main(["run", *map(str, argv)]) == status
    found = capsys.readouterr()
    return found.out, found.err


def test_rules_are_validated(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "2 rules" in run(capsys, "-V", rules / "r.yaml")[1]
    (rules / "bad.yaml").write_text(BAD)
    assert "unknown-event" in run(capsys, "-V", rules / "bad.yaml", status=1)[1]
    out, _ = run(capsys, "-V", rules / "bad.yaml", "-o", "json_output=true", status=1)
    assert json.loads(out)["falco_load_results"][0]["successful"] is False


def test_rules_are_described(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = run(capsys, "-c", rules / "t.yaml", "-L")
    assert [line.split("  ")[0] for line in out.splitlines()] == ["one thing", "another"]
    assert run(capsys, "-c", rules / "t.yaml", "-l", "another")[0] == "another  the second\n"
    assert "did you mean `another`?" in run(capsys, "-c", rules / "t.yaml", "-l", "anothr", status=1)[1]
    out, _ = run(capsys, "-c", rules / "t.yaml", "-L", "-o", "json_output=true")
    assert [r["description"] for r in json.loads(out)["rules"]] == ["the first", "the second"]


def test_fields_are_listed_in_falcos_form(capsys: pytest.CaptureFixture[str]) -> None:
    theirs = json.loads((shared_falco() / "falco-fields.json").read_text())["fieldclasses"]
    forms = {field["name"]: (field["is_list"], set(field)) for of in theirs for field in of["fields"]}
    told = json.loads(run(capsys, "--list", "--format", "json")[0])["fieldclasses"]
    common = [field for of in told for field in of["fields"] if field["name"] in forms]
    assert len(common) > 150
    assert not [f["name"] for f in common if forms[f["name"]] != (f["is_list"], set(f))]


def test_fields_and_events_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    names = [row.name for rows in CLASSES.values() for row in rows if "syscall" in row.sources]
    assert run(capsys, "--list", "-N")[0].split() == names
    assert run(capsys, "--list=syscall", "--markdown")[0].startswith("| field | argument |")
    assert len(json.loads(run(capsys, "--list", "-o", "json_output=true")[0])) == len(names)
    told = json.loads(run(capsys, "--list", "--format", "json")[0])["fieldclasses"]
    assert [field["name"] for of in told for field in of["fields"]] == names
    events = json.loads(run(capsys, "--list-events", "--format", "json")[0])["Syscall events"]
    assert {"name", "dir", "available", "params"} == set(events[0])
    assert "ka.verb" in run(capsys, "--list=k8s_audit", "-N")[0].split()
    assert "ka.verb" not in names
    assert "openat" in run(capsys, "--list-events")[0]
    assert "there is no source `sycall`" in run(capsys, "--list=sycall", status=1)[1]


def test_facts_are_printed(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert int(run(capsys, "--page-size")[0]) == os.sysconf("SC_PAGESIZE")
    assert json.loads(run(capsys, "--config-schema")[0])["title"] == "Tercel configuration"


def test_a_report_for_support_holds_no_secret(rules: Path) -> None:
    (rules / "hook").write_text("https://u:s3cret@example.org/s3cret\n")
    done = subprocess.run(
        [COMMAND, "run", "-c", rules / "t.yaml", "--support", "-o", "http_output.url=https://u:s3cret@example.org/"],
        capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert "s3cret" not in done.stdout
    assert [Path(file["path"]).name for file in report["files"]] == ["t.yaml", "r.yaml"]


def test_a_dry_run_says_what_a_start_would(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "2 of 2 rules enabled" in run(capsys, "-c", rules / "t.yaml", "--dry-run")[1]
    (rules / "r.yaml").write_text(BAD)
    assert "unknown-event" in run(capsys, "-c", rules / "t.yaml", "--dry-run", status=1)[1]


@pytest.mark.parametrize(
    ("flags", "enabled"),
    [(["-t", "t"], 1), (["-T", "t"], 1), (["-D", "other"], 1), (["-D", "o"], 0), (["-t", "t", "-t", "u"], 2)],
)
def test_rules_are_chosen(rules: Path, capsys: pytest.CaptureFixture[str], flags: list[str], enabled: int) -> None:
    assert f"{enabled} of 2 rules enabled" in run(capsys, "-c", rules / "t.yaml", "--dry-run", *flags)[1]


def test_sources(rules: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ["-c", rules / "t.yaml", "--dry-run"]
    run(capsys, *config, "--enable-source", "syscall")
    assert "did you mean `syscall`?" in run(capsys, *config, "--disable-source", "sycall", status=1)[1]
    assert "cannot be disabled" in run(capsys, *config, "--disable-source", "syscall", status=1)[1]
    assert "cannot be disabled" in run(capsys, *config, "--enable-source", "k8s_audit", status=1)[1]
    assert load_config(None, overrides=["load_plugins=[k8saudit]"]).load_plugins
    for choice in (["--disable-source", "k8s_audit"], ["--enable-source", "syscall"]):
        args = make_parser().parse_args(["run", *choice])
        assert load_config(None, overrides=["load_plugins=[k8saudit]", *options(args)]).load_plugins == ()
    with pytest.raises(SystemExit):
        main(["run", "--enable-source", "syscall", "--disable-source", "syscall"])


def test_an_error_that_ends_the_run_takes_no_alert_with_it() -> None:
    sink = MemorySink()
    dispatcher = Dispatcher([sink], capacity=1000)
    with pytest.raises(ZeroDivisionError), delivering(dispatcher, 30):
        for n in range(100):
            dispatcher.submit(alert(n))
        raise ZeroDivisionError
    assert len(sink.alerts) == 100 and sink.closed


def test_a_pidfile_that_is_no_longer_ours_is_no_reason_to_fail(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "pid"
    with pidfile(file):
        file.write_text("1\n")  # another appliance's, by now
    assert file.read_text() == "1\n"
    assert not caplog.text
    with pidfile(file):
        file.unlink()
        file.mkdir()
    assert "pidfile: cannot remove" in caplog.text


@pytest.mark.kernel
def test_a_run_ends_by_itself_and_had_a_pidfile(rules: Path) -> None:
    pidfile, mark = rules / "pid", f"flags-{os.getpid()}"
    (rules / "r.yaml").write_text(
        f"- {{rule: r, desc: d, condition: 'evt.type = execve and proc.args = {mark}', output: o, priority: INFO}}\n"
        f"- {{rule: made, desc: d, condition: 'evt.type in (mkdir, mkdirat) and fs.path.name endswith {mark}', "
        "output: made, priority: INFO}\n"
        f"- {{rule: gone, desc: d, condition: 'evt.type in (rmdir, unlinkat) and fs.path.name endswith {mark}', "
        "output: gone, priority: INFO}\n"
    )
    process = subprocess.Popen(
        [COMMAND, "run", "-c", rules / "t.yaml", "-M", "8", "-P", pidfile, "-p", "said at the end",
         "-o", "base_syscalls.custom_set=['!mkdir', '!mkdirat']",
         "-o", f"control_socket={rules}/s", "-o", f"spool.path={rules}/spool", "-o", f"guard.state_file={rules}/run"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
    )  # fmt: skip
    written, end = "", time.monotonic() + 180
    try:
        while (
            process.poll() is None and time.monotonic() < end
        ):  # it ends by itself: there is always an act while it watches
            written = written or (pidfile.read_text() if pidfile.exists() else "")
            if written:
                subprocess.run(["/bin/echo", mark], check=True, stdout=subprocess.DEVNULL)
                (rules / mark).mkdir()
                (rules / mark).rmdir()
            time.sleep(0.1)
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert int(written) == process.pid
    assert not pidfile.exists()
    assert "o said at the end" in out
    assert "gone said at the end" in out
    assert "made" not in out, "the configuration takes this call away"


@pytest.mark.kernel
def test_falcos_own_file_is_run_by(rules: Path) -> None:
    done = subprocess.run(
        [COMMAND, "run", "-c", ROOT.parent / "shared/falco/falco.yaml", "-r", rules / "r.yaml", "-M", "1",
         "-o", "webserver.enabled=false",
         "-o", f"control_socket={rules}/s", "-o", f"spool.path={rules}/spool", "-o", f"guard.state_file={rules}/run"],
        capture_output=True, text=True, cwd="/", timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "engine.kmod.buf_size_preset" in done.stderr
    assert "armed" in done.stderr


# -- completion


def complete(script: Path, *words: str) -> list[str]:
    """What bash offers after these words."""
    text = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); compopt() { :; }'
        '; _tercel; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", text, "bash", script, *words], capture_output=True, text=True, check=True, cwd=script.parent
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_verbs_options_keys_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "tercel.bash"
    script.write_text(capsys.readouterr().out)
    assert complete(script, "tercel", "re") == ["reload", "replay"]
    assert set(complete(script, "tercel", "")) >= set(verbs_of(make_parser()))
    assert complete(script, "tercel", "run", "--dry") == ["--dry-run"]
    assert complete(script, "tercel", "run", "-o", "http_output.ur") == ["http_output.url="]
    assert complete(script, "tercel", "run", "-c", "ter") == ["tercel.bash"]
    assert "fields" in complete(script, "tercel", "list", "f")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert [verb for verb in verbs_of(make_parser()) if verb not in text] == []


def test_the_manual_is_troff_that_man_reads() -> None:
    pages = sorted((ROOT / "docs/man").iterdir())
    assert {f"tercel-{verb}.8" for verb in verbs_of(make_parser())} <= {page.name for page in pages}
    for page in pages:
        lines = page.read_text().splitlines()
        assert lines[0].startswith(".TH ")
        requests = {line.split()[0] for line in lines if line.startswith(".")}
        assert requests <= {".TH", ".SH", ".SS", ".TP", ".B", ".BR", ".I"}, page.name
        assert not [line for line in lines if line.startswith("'")]
