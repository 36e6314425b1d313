"""Checks of the address without a stream: token, cookie, key, HTTP version, CORS.

Must not know: how a stream is read.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import httpx

from notifier.address import detail
from notifier.check.result import OK, SKIPPED, UNKNOWN, WEAKENS, Result
from notifier.doctor.clock import check_clock
from notifier.doctor.public import TIMEOUT_S, Public

CONNECTIONS: Final = 6
"""What a browser opens to a host over HTTP/1.1."""


def check_address(public: Public) -> Iterator[Result]:
    """Raises `CannotAsk` where nothing answers."""
    token = _token(public)
    yield token
    yield _publish(public)
    if token.verdict == OK:
        yield _cookie(public)
    else:
        yield public.result("cookie", SKIPPED, "not tried, since the token is refused")
    yield _set_cookies(public)
    yield _http_version(public)
    yield _cors(public)


def date_clock(public: Public) -> Iterator[Result]:
    """The clock by the header `Date`, where no stream tells the service's time."""
    began = time.time()
    date = public.stream_head().headers.get("date", "")
    with contextlib.suppress(ValueError):
        # In whole seconds.
        yield check_clock(public, parsedate_to_datetime(date).timestamp(), began - 1, time.time())


def _token(public: Public) -> Result:
    answer = public.stream_head(Authorization=f"Bearer {public.target.token}")
    public.head = answer.headers
    kind = answer.headers.get("content-type", "")
    if answer.status_code == 200 and kind.startswith("text/event-stream"):
        return public.result("token", OK, "the stream accepts it")
    if answer.status_code in (401, 403):
        # HEAD has no body; the same call without a stream says why.
        refusal = detail(_inbox(public, Authorization=f"Bearer {public.target.token}"))
        fix = "sign with the service's NOTIFIER_JWT_SECRET; a hop that removes Authorization also causes this"
        return public.result("token", WEAKENS, f"{answer.status_code} at /v1/stream: {refusal}", fix)
    where = f", to {answer.headers['location']}" if "location" in answer.headers else ""
    seen = f"{answer.status_code} with {kind or 'no content type'} at /v1/stream{where}: no stream is there"
    return public.result("token", WEAKENS, seen, "forward /v1/ to the service; name the address that pages use")


def _inbox(public: Public, **headers: str) -> httpx.Response:
    return public.call("GET", "/v1/inbox/unread", headers=headers)


def _publish(public: Public) -> Result:
    answer = public.publish(0)
    if answer.status_code == 200:
        return public.result("publish", OK, "the key may publish")
    seen = f"{answer.status_code} at POST /v1/events: {detail(answer)}"
    fix = "give --key or NOTIFIER_API_KEY one of the service's NOTIFIER_API_KEYS; forward POST /v1/ to the service"
    return public.result("publish", WEAKENS, seen, fix)


def _cookie(public: Public) -> Result:
    answer = public.stream_head(Cookie=f"notifier_token={public.target.token}")
    if answer.status_code == 200:
        return public.result("cookie", OK, "the cookie notifier_token reaches the service")
    seen = f"{answer.status_code} with the token as the cookie notifier_token: a hop removes cookies"
    return public.result("cookie", WEAKENS, seen, public.lines_for("cookie"))


def _set_cookies(public: Public) -> Result:
    weak = []
    for line in public.head.get_list("set-cookie"):
        name, flags = line.partition("=")[0], {part.partition("=")[0].strip().lower() for part in line.split(";")[1:]}
        wanted = ["HttpOnly", "SameSite", *(["Secure"] if public.url.startswith("https:") else [])]
        if missing := [flag for flag in wanted if flag.lower() not in flags]:
            weak.append(f"{name} lacks {', '.join(missing)}")
    if not weak:
        return public.result("cookie-flags", OK, "no answer sets a cookie without HttpOnly, SameSite and Secure")
    return public.result("cookie-flags", WEAKENS, "; ".join(weak), public.lines_for("cookie-flags"))


def _http_version(public: Public) -> Result:
    parts = urlsplit(public.url)
    host = parts.hostname or ""
    if parts.scheme != "https":
        if _is_loopback(host):
            return public.result("http", OK, "plain HTTP, which does not leave this machine")
        seen = f"plain HTTP: tokens can be read on the way, and a browser opens {CONNECTIONS} connections to a host"
        return public.result("http", WEAKENS, seen, public.lines_for("http"))
    tls = ssl.create_default_context()
    # Only the protocol is asked for here; every call has checked the certificate.
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols(["h2", "http/1.1"])
    try:
        with (
            socket.create_connection((host, parts.port or 443), TIMEOUT_S) as plain,
            tls.wrap_socket(plain, server_hostname=host) as connection,
        ):
            chosen = connection.selected_alpn_protocol() or "http/1.1"
    except OSError as exc:  # the calls may go through a proxy of this machine
        return public.result("http", UNKNOWN, f"no direct connection: {exc}")
    if chosen == "h2":
        return public.result("http", OK, "HTTP/2: any number of streams share a connection")
    seen = f"HTTP/1.1: a browser opens {CONNECTIONS} connections to a host, and each stream takes one"
    return public.result("http", WEAKENS, seen, public.lines_for("http"))


def _cors(public: Public) -> Result:
    origin = public.target.origin.rstrip("/")
    parts = urlsplit(public.url)
    if not origin:
        return public.result("cors", SKIPPED, "pages of the address itself need none; --origin names others")
    if origin == f"{parts.scheme}://{parts.netloc}":
        return public.result("cors", OK, "the pages have the origin of the address")
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    asked["Access-Control-Request-Headers"] = "authorization,last-event-id"
    preflight = public.call("OPTIONS", "/v1/stream", headers=asked)
    answer = public.stream_head(Authorization=f"Bearer {public.target.token}", Origin=origin)
    for name, response in (("preflight", preflight), ("answer", answer)):
        allowed = response.headers.get_list("access-control-allow-origin")
        credentials = response.headers.get("access-control-allow-credentials")
        if not response.is_success or allowed != [origin] or credentials != "true":
            seen = (
                f"the {name} is {response.status_code}, allows {' and '.join(allowed) or 'no origin'}, credentials "
                f"{credentials or 'no'}; a page of {origin} needs exactly its own origin, and true"
            )
            fix = f"service   NOTIFIER_CORS_ORIGINS={origin}\n{public.lines_for('cors')}"
            return public.result("cors", WEAKENS, seen, fix)
    return public.result("cors", OK, f"pages of {origin} may listen")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
