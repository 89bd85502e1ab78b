"""Calls of libraries that block, in threads of the client's own.

Comes in: a function that waits for a service. Goes out: what it returns. Never: a thread that others wait for: the
loop's own few threads read the journal for all outputs, and a service that hangs would take them one by one.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

_MOST = 16
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Threads:
    """At most 16 threads, made when they are needed. A call whose deadline has passed keeps its thread until the
    library gives up; when all hang, calls of this client wait for one and for nothing else."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_MOST, thread_name_prefix="client")

    async def run(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call it there; errors are raised as they come."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, functools.partial(call, *args, **kwargs))

    def close(self) -> None:
        """Wait for none of them."""
        self._pool.shutdown(wait=False, cancel_futures=True)
