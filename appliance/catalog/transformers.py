"""What can be put around a field: one row each.

Comes in: nothing. Goes out: `TRANSFORMERS`. A transformer of an absent value is absent; one of several values gives as
many, and `getopt` as many as it finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from appliance.model.field import FieldType


@dataclass(frozen=True, slots=True)
class Transformer:
    """`function` is its name among what generated code calls; it takes `least` to `most` arguments.

    `texts_only`: numbers cannot be given to it. `literals`: quoted texts can be, beside fields.
    """

    name: str
    type: FieldType
    doc: str
    function: str
    least: int = 1
    most: int = 1
    texts_only: bool = True
    literals: bool = False
    gathers: bool = False  # makes one value of several
    of_words: bool = False  # its first argument is several texts; gives several, or with a letter in brackets one


T = FieldType

TRANSFORMERS: Mapping[str, Transformer] = MappingProxyType(
    {
        row.name: row
        for row in (
            Transformer("tolower", T.TEXT, "letters of ASCII in lower case", "lowered", literals=True),
            Transformer("toupper", T.TEXT, "letters of ASCII in upper case", "uppered", literals=True),
            Transformer(
                "b64", T.TEXT, "what the text is the Base64 form of; absent where it is none", "unbase64", literals=True
            ),
            Transformer("basename", T.TEXT, "what follows the last slash", "base_name", literals=True),
            Transformer(
                "len", T.UINT, "length in bytes, or number of values", "length", texts_only=False, gathers=True
            ),
            Transformer("concat", T.TEXT, "the values one behind the other", "concatenated", 1, 64, False, True, True),
            Transformer(
                "join", T.TEXT, "the values, with the first argument between them", "joined", 2, 64, False, True, True
            ),
            Transformer(
                "getopt",
                T.TEXT,
                "options and their values among arguments, as getopt(3) would find them: `getopt(proc.args, 'nt:')`;"
                " with `[t]` the last value of one of them",
                "options_of",
                2,
                2,
                True,
                True,
                of_words=True,
            ),
        )
    }
)
