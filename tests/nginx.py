"""A real nginx with the shipped configuration, in front of a service."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import httpx

from tests.support import REPOSITORY, Process, Service, free_port

CONFIGURATION = REPOSITORY / "deploy" / "nginx.conf"
PROGRAM = shutil.which("nginx") or "/usr/sbin/nginx"


class Nginx:
    """nginx on a free port."""

    def __init__(self, folder: Path, service: Service) -> None:
        self.folder = folder
        self.port = free_port()
        shipped = CONFIGURATION.read_text()
        text = shipped.replace("listen 8080", f"listen 127.0.0.1:{self.port}")
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
        assert text.count(str(self.port)) == 1
        assert text.count(str(service.port)) == 1
        (folder / "nginx.conf").write_text(text)
        self.command = [PROGRAM, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        self.process = Process(self.command)
        self.process.wait_until(self._answers, "nginx")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/healthz").status_code == 200
        return False

    def stop(self) -> None:
        self.process.stop()
