"""Real proxies in front of a service: nginx, HAProxy, Apache and Caddy, each with several addresses.

The first address of each is right; every other has a single mistake, whose name it bears.
"""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from notifier.doctor.fixes import FIXES
from tests.support import Process, running

RIGHT: Final = "right"

NGINX: Final = {
    RIGHT: "".join(
        FIXES[check]["nginx"].partition("and ")[0] for check in ("buffering", "compression", "idle", "replay")
    ),
    # By itself, buffering keeps nothing back here from a client that reads at once; with gzip it does.
    "buffering": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
    "buffered-gzip": "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering; gzip on; gzip_types *;"
    "gzip_min_length 0;",
    "compression": "gzip on; gzip_types *; gzip_min_length 0;",
    "idle": "proxy_read_timeout 2s;",
    "replay": 'proxy_set_header Last-Event-ID "";',
    "cookie": 'proxy_set_header Cookie "";',
    "h1": "",
    "example": "gzip on; gzip_types *; gzip_min_length 0;",
}
HAPROXY: Final = {
    RIGHT: "timeout server 90s\n  filter compression\n  compression algo gzip\n  compression type text/event-stream",
    "idle": "timeout server 2s",
    "buffering": "timeout server 90s\n  http-response wait-for-body time 60s at-least 16000",
    "cookie-flags": "timeout server 90s\n  cookie SERVED insert",
}
APACHE: Final = {
    RIGHT: f"SetOutputFilter DEFLATE\n{FIXES['compression']['Apache']}\nProxyTimeout 90",
    "idle": "ProxyTimeout 2",
    "compression": "SetOutputFilter DEFLATE",
    "replay": "RequestHeader unset Last-Event-ID",
    "cors": 'Header set Access-Control-Allow-Origin "*"',
}
CADDY: Final = {
    RIGHT: "encode gzip {\n minimum_length 0\n match {\n header Content-Type text/event-stream*\n }\n }",
    "idle": "",
    "cookie": "",
}
CADDY_INNER: Final = {
    "idle": "transport http {\n read_timeout 2s\n }",
    "cookie": "header_up -Cookie",
}

Addresses = Mapping[str, int]


def make_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1, and its key as `key.pem` beside it."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem"


def nginx(folder: Path, service_port: int) -> tuple[list[str], Addresses]:
    ports = {name: _port() for name in NGINX}
    servers = []
    for name, lines in NGINX.items():
        tls = {"h1": " ssl", "example": " ssl http2"}.get(name, "")
        version = "" if "proxy_http_version" in lines else "proxy_http_version 1.1;"
        certificate = "ssl_certificate cert.pem; ssl_certificate_key key.pem;" if tls else ""
        servers.append(
            f"server {{ listen 127.0.0.1:{ports[name]}{tls}; {certificate} location / {{ {lines} "
            f'proxy_pass http://127.0.0.1:{service_port}; {version} proxy_set_header Connection ""; }} }}'
        )
    http = "access_log off; " + "".join(f"{kind}_temp_path {kind}; " for kind in ("client_body", "proxy", "fastcgi"))
    http += "uwsgi_temp_path uwsgi; scgi_temp_path scgi; " + "\n".join(servers)
    text = f"pid nginx.pid; error_log stderr warn; events {{}}\nhttp {{ {http} }}"
    (folder / "nginx.conf").write_text(text)
    return ["/usr/sbin/nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"], ports


def haproxy(folder: Path, service_port: int) -> tuple[list[str], Addresses]:
    ports = {name: _port() for name in HAPROXY}
    blocks = ["defaults\n  mode http\n  timeout connect 5s\n  timeout client 90s"]
    for name, lines in HAPROXY.items():
        blocks.append(f"frontend {name}\n  bind 127.0.0.1:{ports[name]}\n  default_backend {name}")
        cookie = " cookie a" if name == "cookie-flags" else ""
        blocks.append(f"backend {name}\n  {lines}\n  server a 127.0.0.1:{service_port}{cookie}")
    (folder / "haproxy.cfg").write_text("\n".join(blocks) + "\n")
    return ["/usr/sbin/haproxy", "-db", "-f", str(folder / "haproxy.cfg")], ports


def apache(folder: Path, service_port: int) -> tuple[list[str], Addresses]:
    ports = {name: _port() for name in APACHE}
    modules = ("mpm_event", "authz_core", "proxy", "proxy_http", "headers", "deflate", "filter", "setenvif")
    lines = [f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in modules]
    lines += [f"ServerRoot {folder}", f"PidFile {folder}/apache.pid", "ErrorLog /dev/stderr", "ServerName localhost"]
    lines += [f"DefaultRuntimeDir {folder}", "StartServers 1", "User www-data", "Group www-data"]
    for name, mistake in APACHE.items():
        lines += [f"Listen 127.0.0.1:{ports[name]}", f"<VirtualHost 127.0.0.1:{ports[name]}>"]
        lines += [mistake, f"ProxyPass / http://127.0.0.1:{service_port}/", "</VirtualHost>"]
    (folder / "apache.conf").write_text("\n".join(lines) + "\n")
    return ["/usr/sbin/apache2", "-DFOREGROUND", "-f", str(folder / "apache.conf")], ports


def caddy(folder: Path, service_port: int) -> tuple[list[str], Addresses]:
    ports = {name: _port() for name in CADDY}
    blocks = ["{\n admin off\n auto_https off\n}"]
    for name, lines in CADDY.items():
        inner = CADDY_INNER.get(name, "")
        blocks.append(
            f"http://127.0.0.1:{ports[name]} {{\n {lines}\n"
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
                urls[kind, name] = f"{'https' if name in ('h1', 'example') else 'http'}://127.0.0.1:{port}"
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
