"""Paths as texts: absolute and lexically normal.

Comes in: what a caller gave, and the folder it is relative to. Goes out: one spelling for one name. Never: a look at
the disk; symbolic links are not followed.
"""

from __future__ import annotations

UNKNOWN = "(truncated)"
"""Stands for folders that the kernel could not tell; such a path does not begin with a slash."""


def absolute(path: str, base: str | None) -> str:
    """`path` below `base` if it is relative; `//`, `.` and `..` collapsed, no slash at the end but the root's.

    Without a base the upper folders are `(truncated)`; no `..` leads above them or above the root.
    """
    if path[:1] == "/":
        # ends in neither slash nor dot, and holds none of the parts that need work
        if "//" not in path and "/." not in path and path[-1] != "/":
            return path
        return _normal(path)
    if not path:
        return base or UNKNOWN
    if not base:
        base = UNKNOWN
    joined = f"/{path}" if base == "/" else f"{base}/{path}"
    if "//" not in joined and "/." not in joined and joined[-1] != "/":
        return joined
    return _normal(joined)


def _normal(path: str) -> str:
    root, rest = ("/", path) if path[0] == "/" else (UNKNOWN, path.partition("/")[2])
    parts: list[str] = []
    for part in rest.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part and part != ".":
            parts.append(part)
    if root == "/":
        return "/" + "/".join(parts)
    return "/".join((root, *parts))
