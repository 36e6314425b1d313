"""Peers in C and Go: nginx with nchan, Pushpin; Mercure and Centrifugo if they are on the path."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import ClassVar

import jwt

from bench.peers import Peer, json_request, request
from bench.peers.notifier import SECRET
from bench.system import HERE, accepts, free_port


class Nchan(Peer):
    """nginx with the module nchan, one worker, history in memory."""

    name: ClassVar[str] = "nginx + nchan"

    def start(self) -> None:
        config = self.folder / "nginx.conf"
        config.write_text(f"""
load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off; worker_processes 1; worker_rlimit_nofile 20000; user root; pid {self.folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 19000; }}
http {{
  access_log off; client_body_temp_path {self.folder}/body; proxy_temp_path {self.folder}/proxy;
  fastcgi_temp_path {self.folder}/f; uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;
  nchan_shared_memory_size 256M;
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{self.port} backlog=4096;
    location ~ ^/sub/(\\w+)$ {{ nchan_subscriber eventsource; nchan_channel_id $1; }}
    location ~ ^/pub/(\\w+)$ {{
      nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 256; nchan_message_timeout 7d;
    }}
  }}
}}
""")
        server = self._run(["/usr/sbin/nginx", "-p", self.folder, "-c", config])
        self.ready_s = server.wait_until(self._listens)

    def stream_path(self, number: int, channel: str) -> str:
        return f"/sub/{channel}"

    def publish_request(self, channel: str, text: str) -> bytes:
        return request("POST", f"/pub/{channel}", text, {"X-EventSource-Event": "bench"})


class Pushpin(Peer):
    """Pushpin in front of a program that makes it hold every request open (GRIP)."""

    name: ClassVar[str] = "Pushpin"

    def start(self) -> None:
        hold_port = free_port()
        self.publish_port = free_port()
        original = Path("/etc/pushpin/pushpin.conf").read_text()
        changes = {
            "rundir": f"{self.folder}/run",
            "logdir": f"{self.folder}/log",
            "http_port": f"127.0.0.1:{self.port}",
            "services": "condure,zurl,pushpin-proxy,pushpin-handler",
            "push_in_spec": f"ipc://{self.folder}/push",
            "push_in_sub_specs": f"ipc://{self.folder}/push-sub",
            "command_spec": f"ipc://{self.folder}/command",
            "push_in_http_port": str(self.publish_port),
            "message_rate": "100000",
            "message_hwm": "100000",
            "log_level": "1",
        }
        lines = []
        for line in original.splitlines():
            key = line.partition("=")[0]
            lines.append(f"{key}={changes[key]}" if key in changes else line)
            if line == "[proxy]":
                # Debian's package expects a zurl of the system; the benchmark runs its own.
                own = {"zurl_out_specs": "in", "zurl_out_stream_specs": "in-stream", "zurl_in_specs": "out"}
                lines += [f"{spec}=ipc://{{rundir}}/{{ipc_prefix}}zurl-{name}" for spec, name in own.items()]
        for name in ("run", "log"):
            (self.folder / name).mkdir()
        config = self.folder / "pushpin.conf"
        config.write_text("\n".join(lines))
        (self.folder / "routes").write_text(f"* 127.0.0.1:{hold_port}\n")
        hold = self._run([sys.executable, HERE / "peers" / "apps" / "hold.py", str(hold_port)])
        hold.wait_until(lambda: accepts(hold_port))
        server = self._run(["pushpin", "--config", config, "-m"])
        self.ready_s = server.wait_until(lambda: accepts(self.publish_port) and self._opens_a_stream())

    def stream_path(self, number: int, channel: str) -> str:
        return f"/{channel}"

    def publish_request(self, channel: str, text: str) -> bytes:
        content = f"event: bench\ndata: {text}\n\n"
        return json_request(
            "/publish/", {"items": [{"channel": channel, "formats": {"http-stream": {"content": content}}}]}
        )


class Mercure(Peer):
    """The Mercure hub's own binary, version 1.0, without a history.

    Version 1.0 accepts `topic=` and the claim `mercure` in its compatibility mode only, and only if it was built with
    the tags deprecated_topic and deprecated_claim, as the official binaries are.
    """

    name: ClassVar[str] = "Mercure, local"
    program: ClassVar[str] = "mercure"

    def start(self) -> None:
        config = self.folder / "Caddyfile"
        config.write_text(f"""{{
  admin off
  auto_https off
  log {{
    level ERROR
  }}
}}
http://127.0.0.1:{self.port} {{
  route {{
    mercure {{
      publisher_jwt {SECRET}
      subscriber_jwt {SECRET}
      anonymous
      protocol_version_compatibility 8
      transport {self.transport()}
    }}
  }}
}}
""")
        server = self._run([shutil.which(self.program) or self.program, "run", "--config", config])
        self.ready_s = server.wait_until(self._listens)

    def transport(self) -> str:
        """The value of the directive `transport`."""
        return "local"

    def stream_path(self, number: int, channel: str) -> str:
        return f"/.well-known/mercure?topic={channel}"

    def publish_request(self, channel: str, text: str) -> bytes:
        token = jwt.encode({"mercure": {"publish": ["*"]}}, SECRET, algorithm="HS256")
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-www-form-urlencoded"}
        return request("POST", "/.well-known/mercure", f"topic={channel}&data={text}", headers)


class MercureBolt(Mercure):
    """The same with 256 events kept in a file."""

    name: ClassVar[str] = "Mercure, bolt"

    def transport(self) -> str:
        return f"bolt {{\n        path {self.folder}/mercure.db\n        size 256\n      }}"


class Centrifugo(Peer):
    """Centrifugo's unidirectional SSE endpoint, with its memory engine and the history that the service has."""

    name: ClassVar[str] = "Centrifugo"
    program: ClassVar[str] = "centrifugo"

    def start(self) -> None:
        config = self.folder / "config.json"
        settings = {
            "http_server": {"address": "127.0.0.1", "port": str(self.port)},
            "log": {"level": "error"},
            "uni_sse": {"enabled": True},
            "http_api": {"insecure": True},
            "client": {"insecure": True},
            "channel": {"without_namespace": {"history_size": 256, "history_ttl": "168h"}},
            "usage_stats": {"disabled": True},
        }
        config.write_text(json.dumps(settings))
        server = self._run([shutil.which(self.program) or self.program, "-c", config])
        self.ready_s = server.wait_until(self._listens)

    def stream_path(self, number: int, channel: str) -> str:
        return "/connection/uni_sse?cf_connect=%7B%22subs%22%3A%7B%22" + channel + "%22%3A%7B%7D%7D%7D"

    def publish_request(self, channel: str, text: str) -> bytes:
        return json_request("/api/publish", {"channel": channel, "data": {"text": text}})
