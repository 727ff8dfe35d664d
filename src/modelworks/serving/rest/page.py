"""The static page with the routes and a form to try a model, and the OpenAPI document. No remote assets."""

from __future__ import annotations

from importlib import resources

import msgspec

from modelworks.serving.rest.application import Application, Call, Handler, Route
from modelworks.serving.rest.message import Response
from modelworks.serving.rest.openapi import document
from modelworks.serving.rest.protocol import server_metadata

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/docs": ("index.html", "text/html; charset=utf-8"),
    "/docs/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/docs/page.css": ("page.css", "text/css; charset=utf-8"),
}
_HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)


def add_page(application: Application) -> None:
    """Add the page's routes. The document is written at its first reading, when every route is known."""
    folder = resources.files("modelworks.serving") / "page"
    for path, (name, media) in _FILES.items():
        handler = _static((folder / name).read_bytes(), media)
        application.add(
            Route(method="GET", pattern=path, policy="open", handler=handler, summary="Page", media=media)
        )
    described: list[bytes] = []

    def describe(call: Call) -> Response:
        if not described:
            described.append(msgspec.json.encode(document(application.routes, server_metadata()["version"])))
        return Response(200, described[0], headers=_HEADERS)

    application.add(
        Route(method="GET", pattern="/openapi.json", policy="open", handler=describe, summary="This document")
    )


def _static(data: bytes, media: str) -> Handler:
    def answer(call: Call) -> Response:
        return Response(200, data, media=media.encode(), headers=_HEADERS)

    return answer
