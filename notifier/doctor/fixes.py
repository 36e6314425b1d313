"""The lines of a proxy's configuration that mend a check, and which proxy answers.

Must not know: how a check is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PROXIES: Final = {
    "nginx": "nginx",
    "caddy": "Caddy",
    "traefik": "Traefik",
    "haproxy": "HAProxy",
    "apache": "Apache",
    "awselb": "ALB",
}
"""The name of each proxy, by a word of its headers `Server` and `Via`."""

FIXES: Final[Mapping[str, Mapping[str, str]]] = {
    "buffering": {
        "nginx": "proxy_buffering off; proxy_cache off; proxy_http_version 1.1; and no proxy_ignore_headers",
        "Caddy": "flush_interval -1, and no buffer_responses or response_buffers, in reverse_proxy",
        "Traefik": "no buffering middleware on this router; responseForwarding.flushInterval: 1ms, in its loadBalancer",
        "HAProxy": "no http-response wait-for-body",
        "Apache": "ProxyPass /v1/stream http://SERVICE/v1/stream flushpackets=on, above the one of /",
        "ALB": "instances or ip addresses as targets: a Lambda function is buffered",
    },
    "compression": {
        "nginx": "gzip off; and where the module is loaded, brotli off;",
        "Caddy": "@rest not path /v1/stream, and encode @rest instead of encode: Caddy 2.6 ignores no-transform",
        "Traefik": "excludedContentTypes: [text/event-stream], in the compress middleware",
        "HAProxy": "compression type text/html text/css application/json, without text/event-stream",
        "Apache": "SetEnvIf Request_URI ^/v1/stream no-gzip=1 no-brotli=1",
        "ALB": "it compresses nothing; in CloudFront, Compress: false for /v1/stream",
    },
    "idle": {
        "nginx": "proxy_read_timeout 90s;",
        "Caddy": "read_timeout 90s, in the block transport http of reverse_proxy; no write timeout in servers",
        "Traefik": "respondingTimeouts.writeTimeout: 0, in the entry point's transport",
        "HAProxy": "timeout server 90s, timeout client 90s",
        "Apache": "ProxyTimeout 90, and no timeout= in ProxyPass below it",
        "ALB": "idle_timeout.timeout_seconds=90",
    },
    "replay": {
        "nginx": "proxy_pass_request_headers on; and no proxy_set_header Last-Event-ID",
        "Caddy": "no header_up -Last-Event-ID, in reverse_proxy",
        "Traefik": "no Last-Event-ID among customRequestHeaders",
        "HAProxy": "no http-request del-header Last-Event-ID",
        "Apache": "no RequestHeader unset Last-Event-ID",
        "ALB": "it forwards the header; in CloudFront, the origin request policy AllViewer",
    },
    "cookie": {
        "nginx": "proxy_pass_request_headers on; and no proxy_set_header Cookie",
        "Caddy": "no header_up -Cookie, in reverse_proxy",
        "Traefik": "no Cookie among customRequestHeaders",
        "HAProxy": "no http-request del-header Cookie",
        "Apache": "no RequestHeader unset Cookie",
        "ALB": "it forwards the header; in CloudFront, the origin request policy AllViewer",
    },
    "cookie-flags": {
        "nginx": "proxy_cookie_flags ~ secure httponly samesite=lax;",
        "Caddy": "no lb_policy cookie: the service needs no stickiness",
        "Traefik": "sticky.cookie: {secure: true, httpOnly: true, sameSite: lax}",
        "HAProxy": "cookie NAME insert indirect nocache httponly secure attr SameSite=Lax",
        "Apache": "Header edit Set-Cookie $ ;Secure;HttpOnly;SameSite=Lax",
        "ALB": "stickiness.enabled=false: the service needs none",
    },
    "http": {
        "nginx": "listen 443 ssl http2;",
        "Caddy": "a host name as the site's address; protocols h1 h2 h3, if servers sets protocols",
        "Traefik": "tls: {} on the router; alpnProtocols: [h2, http/1.1], if tls.options sets it",
        "HAProxy": "bind :443 ssl crt /path/site.pem alpn h2,http/1.1",
        "Apache": "Protocols h2 http/1.1, with mod_http2",
        "ALB": "an HTTPS listener, and routing.http2.enabled=true",
    },
    "cors": {
        "nginx": "no add_header Access-Control-..., and no return 204 for OPTIONS: the service answers",
        "Caddy": "no header Access-Control-...: the service answers",
        "Traefik": "no accessControl... in a headers middleware: the service answers",
        "HAProxy": "no http-response set-header Access-Control-...: the service answers",
        "Apache": "no Header set Access-Control-...: the service answers",
        "ALB": "no Access-Control-... in the listener's attributes: the service answers",
    },
}
"""By check, then by proxy."""


def answering(headers: Mapping[str, str]) -> str:
    """The proxy that its headers name, or an empty string. The service itself sends neither."""
    words = f"{headers.get('server', '')} {headers.get('via', '')}".lower()
    return next((name for word, name in PROXIES.items() if word in words), "")


def lines(check: str, headers: Mapping[str, str]) -> str:
    """A line for the proxy that answers; without its name, a line for each that may be there."""
    fixes = FIXES[check]
    proxy = answering(headers)
    # nginx removes X-Accel-Buffering from what it forwards, so an answer that has it did not pass one.
    hidden = "" if "x-accel-buffering" not in headers else "nginx"
    names = [proxy] if proxy else [name for name in fixes if name != hidden]
    return "\n".join(f"{name:<9} {fixes[name]}" for name in names)


def evidence(headers: Mapping[str, str]) -> str:
    """What the headers tell about the hops."""
    hops = [f"{name}: {headers[name]}" for name in ("server", "via") if name in headers]
    marker = headers.get("x-accel-buffering")
    hops.append("no X-Accel-Buffering, as behind nginx" if marker is None else f"X-Accel-Buffering: {marker}")
    return ", ".join(hops)
