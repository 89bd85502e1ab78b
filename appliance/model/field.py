"""What a field and an operator are: the vocabulary of conditions and outputs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

SOURCES = ("syscall", "k8s_audit")
"""Where events come from, under the names by which rules choose one (`source: k8s_audit`)."""

OF_ALL_SOURCES = frozenset(
    {
        "evt.num", "evt.time", "evt.time.s", "evt.time.iso8601", "evt.datetime", "evt.datetime.s", "evt.rawtime",
        "evt.rawtime.s", "evt.rawtime.ns", "evt.reltime", "evt.reltime.s", "evt.reltime.ns", "evt.pluginname",
        "evt.plugininfo", "evt.source", "evt.is_async", "evt.asynctype", "evt.hostname",
    }
)  # fmt: skip
"""The fields that events of every source have (`falco --list`, the class of all event types)."""


class FieldType(Enum):
    """The type of a field's value, under the names Falco lists them, and the Python value that carries it."""

    TEXT = "CHARBUF"  # str, undecodable bytes as surrogates (surrogateescape)
    PATH = "FSPATH"  # str
    INT = "INT64"  # int
    UINT = "UINT64"  # int
    BOOL = "BOOL"  # bool
    PORT = "PORT"  # int
    ADDRESS = "IPADDR"  # str, canonical text of an IPv4 or IPv6 address
    NET = "IPNET"  # str like ADDRESS; compared against CIDR networks
    RELTIME = "RELTIME"  # int, nanoseconds
    ABSTIME = "ABSTIME"  # int, nanoseconds since the epoch
    FLAGS = "FLAGS32"  # str, names joined by `|`
    BYTES = "BYTEBUF"  # bytes
    DOUBLE = "DOUBLE"  # float


class ArgKind(Enum):
    """What stands between the brackets behind a field's name."""

    NONE = "none"
    INDEX = "index"  # a number
    KEY = "key"  # a name
    INDEX_OR_KEY = "index or key"


@dataclass(frozen=True, slots=True)
class Field:
    """One row of the catalogue: a named, typed value of an event.

    `get` is a Python expression over `e` (an `Event`) that gives the value, or None where it is absent; in a field
    that takes an argument, `{arg}` stands for the Python literal of that argument. With `is_list` the expression
    gives a tuple of values. `get_all` is the expression used when a field with an optional argument has none
    (`proc.aname`): a tuple of values, a check on it holds if any of them does. `both`: there `!=` holds only if
    it holds for all of them (`fd.port != 80`: neither side's is). `sources` are those whose events have the field.
    `words` is the expression of the texts that a text is made of (`proc.args`), for who asks for them one by one.
    """

    name: str
    type: FieldType
    doc: str
    get: str
    arg: ArgKind = ArgKind.NONE
    arg_required: bool = False
    is_list: bool = False
    get_all: str | None = None
    both: bool = False
    sources: tuple[str, ...] = ("syscall",)
    words: str | None = None


class Operator(Enum):
    """The operators of a check, as they are written. `==` is read as `=`."""

    EQ = "="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    CONTAINS = "contains"
    ICONTAINS = "icontains"
    BCONTAINS = "bcontains"
    BSTARTSWITH = "bstartswith"
    STARTSWITH = "startswith"
    ENDSWITH = "endswith"
    GLOB = "glob"
    IGLOB = "iglob"
    REGEX = "regex"
    IN = "in"
    INTERSECTS = "intersects"
    PMATCH = "pmatch"
    EXISTS = "exists"
