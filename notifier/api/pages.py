"""The pages for people, and the files of the browser client. Must not know: what the pages do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from fastapi.staticfiles import StaticFiles
from starlette.requests import Request
from starlette.responses import FileResponse, Response

CLIENT: Final = Path(__file__).parent.parent / "client"
"""The browser client's files: a link to `client/` in the repository, copied into the wheel."""
CONSOLE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Operators enter a key there: nothing inline, nothing of another host, in no frame."""


async def demo(_: Request) -> Response:
    policy = "default-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    return FileResponse(CLIENT / "demo" / "index.html", headers=headers)


async def console(_: Request) -> Response:
    return FileResponse(CLIENT / "console" / "index.html", headers=CONSOLE_HEADERS)


class Shared(StaticFiles):
    """Files that pages of any origin may load: the client, and the schemas of events."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response
