"""A real nginx with the shipped configuration, in front of a service."""

from __future__ import annotations

import contextlib
import shutil
import ssl
from collections.abc import Sequence
from pathlib import Path

import httpx

from tests.certificates import write_certificate
from tests.support import REPOSITORY, Process, Service, free_port

CONFIGURATION = REPOSITORY / "deploy" / "nginx.conf"
PROGRAM = shutil.which("nginx") or "/usr/sbin/nginx"


class Nginx:
    """nginx on a free port. `tls`: with HTTP/2 and a certificate of its own, `cert.pem` in the folder. `around`: lines
    of the `http` block beside the shipped ones. `without`: shipped lines that are left out."""

    def __init__(
        self, folder: Path, service: Service, *, tls: bool = False, around: str = "", without: Sequence[str] = ()
    ) -> None:
        self.folder = folder
        self.tls = tls
        self.service = service
        self.port = free_port()
        shipped = CONFIGURATION.read_text()
        text = shipped.replace("listen 8080", f"listen 127.0.0.1:{self.port}{' ssl http2' if tls else ''}")
        if tls:
            write_certificate(folder, "nginx of a test")
            text = text.replace(
                "server_name _;", "server_name _; ssl_certificate cert.pem; ssl_certificate_key key.pem;"
            )
        text = text.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
        for line in without:
            assert text.count(f"{line}\n") == 1
            text = text.replace(f"{line}\n", "\n")
        text = text.replace("server_tokens off;", f"server_tokens off; {around}")
        assert text.count(str(self.port)) == 1
        assert text.count(str(service.port)) == 1
        (folder / "nginx.conf").write_text(text)
        self.command = [PROGRAM, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        self.process = Process(self.command)
        self.process.wait_until(self._answers, "nginx")

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            verify = ssl.create_default_context(cafile=str(self.folder / "cert.pem")) if self.tls else False
            return httpx.get(f"{self.url}/healthz", verify=verify).status_code == 200
        return False

    def stop(self) -> None:
        self.process.stop()
