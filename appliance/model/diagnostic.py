"""How we say that something is wrong: where, what was found, what was expected, what to do.

Comes in: nothing. Goes out: the types every room uses to report. Never: printing (that is the edge's work).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from appliance.model.text import printable


class Severity(Enum):
    """An error refuses the input; a warning lets it pass and is shown."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of one line of a text: `line` and `column` count from 1, `length` is in characters."""

    file: str
    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing that is wrong, for a person to mend.

    `name` is stable (kebab-case), names in `message` stand in backticks, no capital, no full stop.
    `source_line` is the line of the text that `span` points into, without its end, or None where there is no text.
    `code` is Falco's name for the same thing (`LOAD_ERR_...`), or None.
    """

    name: str
    message: str
    span: Span | None = None
    hint: str | None = None
    severity: Severity = Severity.ERROR
    source_line: str | None = None
    code: str | None = None

    def render(self) -> str:
        """The text for people: `file:line:col: error[name]: message`, the line, a caret under the place, the hint.

        Each of them stays on a line of its own, whatever a file is called.
        """
        head = f"{self.severity.value}[{self.name}]: {printable(self.message)}"
        if self.span is None:
            lines = [head]
        else:
            lines = [f"{printable(self.span.file)}:{self.span.line}:{self.span.column}: {head}"]
            if self.source_line is not None:
                lines += _excerpt(self.source_line, self.span)
        if self.hint:
            lines.append(f"   hint: {printable(self.hint)}")
        return "\n".join(lines)


_EXCERPT_WIDTH = 120


def _excerpt(text: str, span: Span) -> list[str]:
    start = 0 if span.column <= _EXCERPT_WIDTH - 20 else span.column - _EXCERPT_WIDTH // 2
    shown = "".join(c if c.isprintable() else " " for c in text[start : start + _EXCERPT_WIDTH])
    column = span.column - 1 - start
    caret = "^" * max(1, min(span.length, len(shown) - column))
    return [f"{span.line:>5} | {shown}", f"      | {' ' * column}{caret}"]


class TercelError(Exception):
    """The root of the family; sorted below by who can act."""


class DiagnosticsError(TercelError):
    """An author's input is wrong. Carries all diagnostics of the run, not the first."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(d.render() for d in self.diagnostics))


class RuleError(DiagnosticsError):
    """The author of a rule file can mend it."""


class ConfigError(DiagnosticsError):
    """The author of the configuration can mend it."""


class KernelError(TercelError):
    """The platform refuses. The message says what was tried and, where known, what would help."""


class NotSupportedError(KernelError):
    """The kernel or the machine lacks something; `missing` names it."""

    def __init__(self, missing: str, hint: str) -> None:
        self.missing = missing
        self.hint = hint
        super().__init__(f"{missing}\n   hint: {hint}")


class VerifierError(KernelError):
    """The kernel's verifier refused a program. `log` is whole; the message shows its end."""

    def __init__(self, program: str, log: str) -> None:
        self.program = program
        self.log = log
        super().__init__(f"the kernel refused program `{program}`:\n" + "\n".join(log.splitlines()[-15:]))


class DeliveryError(TercelError):
    """The other end of a sink failed. `retry` tells whether another try can help.

    Without it this alert is refused whenever it comes again. `after_s`: seconds that the other end asks us to wait.
    """

    def __init__(self, message: str, *, retry: bool, after_s: float = 0.0) -> None:
        self.retry = retry
        self.after_s = after_s
        super().__init__(message)


def worth_a_line(count: int) -> bool:
    """Whether the `count`-th error of a kind is logged: the first, the tenth, the hundredth and so on."""
    return count > 0 and set(str(count)[1:]) <= {"0"} and str(count)[0] == "1"
