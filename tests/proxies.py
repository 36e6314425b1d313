"""Real proxies in front of a service: nginx, HAProxy, Apache and Caddy, each with several addresses.

The first address of each is right: faults, and the lines by which the doctor mends them, where it says. Every other has
a single mistake, whose name it bears. A program that starts has accepted its configuration.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from notifier.doctor.fixes import FIXES
from tests.support import Process, running

RIGHT: Final = "right"

COOKIE: Final = "SERVED=a"
"""A cookie that a careless hop sets."""
GZIP: Final = "gzip on; gzip_types *; gzip_min_length 0;"
IGNORED: Final = "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;"


def fix(proxy: str, check: str, pattern: str) -> str:
    """The configuration in what the doctor prints of a check, without the words about its place."""
    match = re.search(pattern, FIXES[check][proxy])
    assert match, (proxy, check)
    return match[0]


NGINX: Final = {
    RIGHT: "".join(fix("nginx", check, r"^.*?;(?= and|$)") for check in ("buffering", "compression", "idle", "replay"))
    + fix("nginx", "cookie-flags", r"^.*;$"),
    # By itself, buffering keeps nothing back here from a client that reads at once; with gzip it does.
    "buffering": IGNORED,
    "buffered-gzip": IGNORED + GZIP,
    "compression": GZIP,
    "idle": "proxy_read_timeout 5s;",
    "replay": 'proxy_set_header Last-Event-ID "";',
    "cookie": 'proxy_set_header Cookie "";',
    "cookie-flags": f"add_header Set-Cookie {COOKIE};",
    "cors": "add_header Access-Control-Allow-Origin *;",
    "http": "",
    "example": GZIP,
}
NGINX_OUTER: Final = {RIGHT: f"{IGNORED} {GZIP} proxy_read_timeout 5s; proxy_pass_request_headers off;"}
"""Of the server around the location."""
NGINX_TLS: Final = {
    RIGHT: fix("nginx", "http", r"^listen 443 ssl http2;$"),
    "http": "listen 443 ssl;",
    "example": "listen 443 ssl http2;",
}
HAPROXY_GZIP: Final = "filter compression\n  compression algo gzip\n  compression type text/event-stream"
PATIENT: Final = fix("HAProxy", "idle", r"^timeout server 90s")
HAPROXY: Final = {
    RIGHT: f"{PATIENT}\n  filter compression\n  compression algo gzip\n  "
    + fix("HAProxy", "compression", r"^compression type [^,]*")
    + "\n  "
    + fix("HAProxy", "cookie-flags", r"^cookie NAME .*$").replace("NAME", "SERVED"),
    "idle": "timeout server 5s",
    "buffering": f"{PATIENT}\n  http-response wait-for-body time 60s at-least 16000",
    "obedient": f"{PATIENT}\n  {HAPROXY_GZIP}",
    "behind": f"{PATIENT}\n  http-response del-header Cache-Control",
    "compression": f"{PATIENT}\n  {HAPROXY_GZIP}",
    "replay": f"{PATIENT}\n  http-request del-header Last-Event-ID",
    "cookie": f"{PATIENT}\n  http-request del-header Cookie",
    "cookie-flags": f"{PATIENT}\n  cookie SERVED insert",
    "cors": f"{PATIENT}\n  http-response set-header Access-Control-Allow-Origin *",
    "http": PATIENT,
}
HAPROXY_BEHIND: Final = (RIGHT, "compression")
"""These have the address `behind` behind them, which removes the service's `no-transform`."""
HAPROXY_TLS: Final = {
    RIGHT: fix("HAProxy", "http", "^bind :443 ssl crt /path/site.pem .*$"),
    "http": "bind :443 ssl crt /path/site.pem",
}
SET_COOKIE: Final = f"Header add Set-Cookie {COOKIE}"
APACHE: Final = {
    RIGHT: f"SetOutputFilter DEFLATE\n{SET_COOKIE}\n"
    + "\n".join(
        (
            fix("Apache", "compression", "^.*$"),
            fix("Apache", "idle", "^ProxyTimeout 90"),
            fix("Apache", "buffering", "^ProxyPass [^,]*"),
            fix("Apache", "cookie-flags", "^.*$"),
            fix("Apache", "http", "^Protocols h2 http/1.1"),
        )
    ),
    "idle": "ProxyTimeout 5",
    "compression": "SetOutputFilter DEFLATE",
    "replay": "RequestHeader unset Last-Event-ID",
    "cookie": "RequestHeader unset Cookie",
    "cookie-flags": SET_COOKIE,
    "cors": 'Header set Access-Control-Allow-Origin "*"',
    "http": "",
}
"""None keeps events back: the filter BUFFER, too, forwards them as they come."""
APACHE_TLS: Final = (RIGHT, "http")
ENCODE: Final = "gzip {\n minimum_length 1\n match {\n header Content-Type text/event-stream*\n }\n }"
CADDY: Final = {
    RIGHT: fix("Caddy", "compression", "^@rest not path /v1/stream")
    + "\n "
    + fix("Caddy", "compression", "encode @rest")
    + f" {ENCODE}",
    "buffering": "",
    "compression": f"encode {ENCODE}",
    "idle": "",
    "replay": "",
    "cookie": "",
    "cookie-flags": "",
    "cors": "header Access-Control-Allow-Origin *",
    "http": "",
}
CADDY_INNER: Final = {
    RIGHT: fix("Caddy", "buffering", "^flush_interval -1")
    + "\n transport http {\n "
    + fix("Caddy", "idle", "^read_timeout 90s")
    + "\n }",
    # `flush_interval -1` does not mend it.
    "buffering": "buffer_responses\n flush_interval -1",
    "idle": "transport http {\n read_timeout 5s\n }",
    "replay": "header_up -Last-Event-ID",
    "cookie": "header_up -Cookie",
    "cookie-flags": "lb_policy cookie",
}
"""Of `reverse_proxy`."""
CADDY_TLS: Final = {RIGHT: fix("Caddy", "http", "protocols h1 h2 h3"), "http": "protocols h1"}
"""Of `servers`."""
TLS: Final = {"nginx": NGINX_TLS, "HAProxy": HAPROXY_TLS, "Apache": APACHE_TLS, "Caddy": CADDY_TLS}
"""The addresses that begin with https, by proxy."""

Addresses = Mapping[str, int]


def make_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1, with its key as `key.pem` beside it, and both in `site.pem`."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    (folder / "site.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())
    return folder / "cert.pem"


def nginx(folder: Path, service_port: int) -> tuple[list[str], Addresses]:
    ports = {name: _port() for name in NGINX}
    servers = []
    for name, lines in NGINX.items():
        listen = NGINX_TLS.get(name, "listen 443;").replace("443", f"127.0.0.1:{ports[name]}")
        version = "" if "proxy_http_version" in lines else "proxy_http_version 1.1;"
        certificate = "ssl_certificate cert.pem; ssl_certificate_key key.pem;" if name in NGINX_TLS else ""
        # The right address mends the cookie of the hop behind it.
        port = ports["cookie-flags"] if name == RIGHT else service_port
        servers.append(
            f"server {{ {listen} {certificate} {NGINX_OUTER.get(name, '')} location / {{ {lines} "
            f'proxy_pass http://127.0.0.1:{port}; {version} proxy_set_header Connection ""; }} }}'
        )
    http = "access_log off; " + "".join(f"{kind}_temp_path {kind}; " for kind in ("client_body", "proxy", "fastcgi"))
    http += "uwsgi_temp_path uwsgi; scgi_temp_path scgi; " + "\n".join(servers)
    text = f"pid nginx.pid; error_log stderr warn; events {{}}\nhttp {{ {http} }}"
    (folder / "nginx.conf").write_text(text)
    return ["/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"], ports


def haproxy(folder: Path, service_port: int) -> tuple[list[str], Addresses]:
    ports = {name: _port() for name in HAPROXY}
    blocks = ["defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s"]
    client = fix("HAProxy", "idle", "timeout client 90s$")
    for name, lines in HAPROXY.items():
        bind = HAPROXY_TLS.get(name, "bind :443").replace(":443", f"127.0.0.1:{ports[name]}")
        bind = bind.replace("/path", str(folder))
        blocks.append(f"frontend {name}\n  {bind}\n  {client}\n  default_backend {name}")
        cookie = " cookie a" if "cookie SERVED" in lines else ""
        port = ports["behind"] if name in HAPROXY_BEHIND else service_port
        blocks.append(f"backend {name}\n  {lines}\n  server a 127.0.0.1:{port}{cookie}")
    (folder / "haproxy.cfg").write_text("\n".join(blocks) + "\n")
    return ["/usr/sbin/haproxy", "-db", "-f", str(folder / "haproxy.cfg")], ports


def apache(folder: Path, service_port: int) -> tuple[list[str], Addresses]:
    ports = {name: _port() for name in APACHE}
    modules = ("mpm_event", "authz_core", "proxy", "proxy_http", "headers", "deflate", "filter", "setenvif")
    modules += ("buffer", "ssl", "http2")
    lines = [f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules]
    lines += [f"ServerRoot {folder}", f"PidFile {folder}/apache.pid", "ErrorLog /dev/stderr", "ServerName localhost"]
    lines += [f"DefaultRuntimeDir {folder}", "StartServers 1", "User www-data", "Group www-data"]
    lines += ["ProxyTimeout 5", f"SSLCertificateFile {folder}/cert.pem", f"SSLCertificateKeyFile {folder}/key.pem"]
    for name, mistake in APACHE.items():
        lines += [f"Listen 127.0.0.1:{ports[name]}", f"<VirtualHost 127.0.0.1:{ports[name]}>"]
        lines += ["SSLEngine on"] if name in APACHE_TLS else []
        lines += [] if "ProxyTimeout" in mistake else ["ProxyTimeout 90"]
        lines += [
            mistake.replace("SERVICE", f"127.0.0.1:{service_port}"),
            f"ProxyPass / http://127.0.0.1:{service_port}/",
            "</VirtualHost>",
        ]
    (folder / "apache.conf").write_text("\n".join(lines) + "\n")
    return ["/usr/sbin/apache2", "-DFOREGROUND", "-f", str(folder / "apache.conf")], ports


def caddy(folder: Path, service_port: int) -> tuple[list[str], Addresses]:
    ports = {name: _port() for name in CADDY}
    servers = [f"servers 127.0.0.1:{ports[name]} {{\n {lines}\n }}" for name, lines in CADDY_TLS.items()]
    blocks = ["\n ".join(("{", "admin off", "auto_https off", "default_bind 127.0.0.1", *servers)) + "\n}"]
    for name, lines in CADDY.items():
        inner = CADDY_INNER.get(name, "")
        scheme, certificate = "http", ""
        if name in CADDY_TLS:
            scheme, certificate = "https", f"tls {folder}/cert.pem {folder}/key.pem\n "
        blocks.append(
            f"{scheme}://127.0.0.1:{ports[name]} {{\n {certificate}{lines}\n"
            f" reverse_proxy 127.0.0.1:{service_port} {{\n {inner}\n }}\n}}"
        )
    (folder / "Caddyfile").write_text("\n".join(blocks) + "\n")
    return ["/usr/bin/caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")], ports


PROXIES: Final = {"nginx": nginx, "HAProxy": haproxy, "Apache": apache, "Caddy": caddy}


@contextlib.contextmanager
def proxies(folder: Path, service_port: int) -> Iterator[dict[tuple[str, str], str]]:
    """Every address as a URL, by proxy and by mistake."""
    make_certificate(folder)
    urls = {}
    with contextlib.ExitStack() as stack:
        for kind, configure in PROXIES.items():
            command, ports = configure(folder, service_port)
            process = stack.enter_context(running(Process(command, cwd=folder, env={"HOME": str(folder)})))
            process.wait_until(lambda ports=ports: all(map(_listens, ports.values())), kind)  # type: ignore[misc]  # bound
            for name, port in ports.items():
                urls[kind, name] = f"{'https' if name in TLS[kind] else 'http'}://127.0.0.1:{port}"
        yield urls


def _port() -> int:
    """A port without a listener, below those that the system gives to connections: many are chosen before any is
    listened on."""
    for port in _ports():
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@cache
def _ports() -> Iterator[int]:
    """Each port once."""
    return iter(random.sample(range(20_000, 32_000), 1000))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
