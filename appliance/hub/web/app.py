"""The web application: routes, assets, the live reader, retention. Runs in one process, apart from collect and
deliver."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import PurePath

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from appliance.hub.web.context import STATIC, Ask, Hub
from appliance.hub.web.dispatch import SECURITY, Refused, endpoint, problem, to_login, wants_json
from appliance.hub.web.keeping import keep_forever
from appliance.hub.web.live import Live
from appliance.hub.web.render import page
from appliance.hub.web.routes import table

log = logging.getLogger(__name__)

THREADS = 6
"""Each thread has connections of its own to each file of the index."""

_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


def refused_page(hub: Hub, ask: Ask, refused: Refused) -> Response:
    """An error: JSON for programs, a page that says what to do for people."""
    if wants_json(ask):
        return problem(refused)
    if refused.status == 401 and ask.method == "GET":
        return to_login(ask)
    if refused.status == 428:
        return page(hub, ask, "me.html", 200, tokens=[], views=[], zones=[], made="", here="/me")
    return page(hub, ask, "error.html", refused.status, refused=refused, here="")


def static(request: Request) -> Response:
    """A file below `static/`; its address changes when it does."""
    name = PurePath(request.path_params["name"])
    path = STATIC / name
    if ".." in name.parts or path.suffix not in _TYPES or not path.is_file():
        return PlainTextResponse("not found", 404)
    cache = "public, max-age=31536000, immutable" if "v" in request.query_params else "no-cache"
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"Cache-Control": cache, **SECURITY})


def make_app(hub: Hub, alive: Callable[[], None] = lambda: None) -> Starlette:
    """The application over a hub; `alive` is called every few seconds while the loop turns."""
    live = Live(hub)
    routes: list[BaseRoute] = [Route("/static/{name:path}", static)]
    for row in table(live):
        methods = [row.method] if row.method != "GET" else ["GET", "HEAD"]
        routes.append(Route(row.path, endpoint(hub, row, refused_page), methods=methods))
    base = hub.settings.page.base_path
    if base:
        routes = [Mount(base, routes=routes), *routes]

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = THREADS
        tasks = [
            asyncio.create_task(live.run()),
            asyncio.create_task(keep_forever(hub)),
            asyncio.create_task(_beat(alive)),
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def http_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        texts = {404: ("there is no such page", "start from the first page"), 405: ("not by this method", "")}
        title, hint = texts.get(status, ("something went wrong", "the log of the page has the details"))
        return (
            problem(Refused(status, title, hint))
            if request.url.path.startswith("/api/")
            else _plain(title, hint, status)
        )

    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)],
        exception_handlers={HTTPException: http_error, Exception: http_error},
    )
    app.state.live = live
    return app


async def _beat(alive: Callable[[], None]) -> None:
    while True:
        alive()
        await asyncio.sleep(5.0)


def _plain(title: str, hint: str, status: int) -> Response:
    return PlainTextResponse(f"{status}: {title}. {hint}\n", status, SECURITY)


def paths(routes: Sequence[BaseRoute]) -> list[str]:
    """The paths of routes."""
    return [route.path for route in routes if isinstance(route, Route)]
