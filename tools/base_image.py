"""Pins the base images of Dockerfiles: `python -m tools.base_image Dockerfile ...`, or `make pin`.

Each line `ARG BASE=name:tag` becomes `ARG BASE=name:tag@sha256:...`, with the digest that the registry gives for the
tag now; a digest that is there is replaced. Nothing is written unless the registry answers for all of them.

It speaks the pull side of the OCI distribution specification and its token authentication, without credentials, and
needs Python only. A registry on 127.0.0.1 or localhost is called over plain HTTP, as docker does.
"""

from __future__ import annotations

import json
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from email.message import Message
from pathlib import Path
from typing import NamedTuple

BASE = re.compile(r"^ARG BASE=(?P<image>[^@\s]+)(?:@\S+)?$", re.MULTILINE)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
DEFAULT_REGISTRY = "registry-1.docker.io"
"""Of images without a registry in their name, as docker has it."""
INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
"""Manifests of all platforms of an image. The digest of one platform would break the build on the others."""
TIMEOUT_S = 20


class PinError(Exception):
    """The digest cannot be known. The text says why."""


class Image(NamedTuple):
    """A name as in `FROM`, in its parts."""

    registry: str
    repository: str
    tag: str

    @property
    def address(self) -> str:
        host = self.registry.partition(":")[0]
        scheme = "http" if host in ("127.0.0.1", "localhost") else "https"
        return f"{scheme}://{self.registry}/v2/{self.repository}/manifests/{self.tag}"


def parse(name: str) -> Image:
    """`python:3.11`, `library/python:3.11`, `registry.example.org:5000/python:3.11`."""
    first, slash, rest = name.partition("/")
    registry, path = (first, rest) if slash and re.search(r"[.:]|^localhost$", first) else (DEFAULT_REGISTRY, name)
    repository, colon, tag = path.rpartition(":")
    if not colon:
        repository, tag = path, "latest"
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        repository = f"library/{repository}"
    return Image(registry, repository, tag)


def digest(name: str) -> str:
    """The digest of what the registry has under this name now. PinError where it has none, or does not answer."""
    image = parse(name)
    try:
        try:
            headers = _head(image.address)
        except urllib.error.HTTPError as exc:
            challenge = exc.headers.get("WWW-Authenticate", "")
            if exc.code != 401 or not challenge.lower().startswith("bearer "):
                raise
            headers = _head(image.address, _token(challenge, image))
    except urllib.error.HTTPError as exc:
        raise PinError(f"{name}: {image.registry} answers {exc.code}") from None
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "reason", exc)
        raise PinError(f"{name}: {image.registry} does not answer: {reason}") from None
    kind = headers.get_content_type()
    if kind not in INDEXES:
        raise PinError(f"{name}: {kind} is the manifest of one platform, not of the image")
    value = headers.get("Docker-Content-Digest", "")
    if not DIGEST.fullmatch(value):
        raise PinError(f"{name}: {image.registry} gives no SHA-256 digest: {value!r}")
    return value


def pin(paths: list[Path]) -> list[str]:
    """Write the digests into these files. Returns the pinned names."""
    texts = {path: path.read_text("utf-8") for path in paths}
    names = {path: match["image"] for path, text in texts.items() for match in BASE.finditer(text)}
    if absent := [str(path) for path in paths if path not in names]:
        raise PinError(f"no line ARG BASE=name:tag in {', '.join(absent)}")
    digests = {name: digest(name) for name in dict.fromkeys(names.values())}
    for path, text in texts.items():
        path.write_text(BASE.sub(lambda match: f"ARG BASE={match['image']}@{digests[match['image']]}", text), "utf-8")
    return [f"{name}@{value}" for name, value in digests.items()]


def _head(address: str, token: str | None = None) -> Message:
    headers = {"Accept": ", ".join(INDEXES), **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(address, headers=headers, method="HEAD")  # noqa: S310  # http or https, by `Image`
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  # the same
        result: Message = answer.headers
        return result


def _token(challenge: str, image: Image) -> str:
    """An anonymous token, from the server that the challenge names: distribution's "Token Authentication"."""
    values = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = values.get("realm", "")
    if not realm.startswith(("https://", "http://127.0.0.1", "http://localhost")):
        raise ValueError(f"its tokens come from {realm!r}, which is not HTTPS")
    query = {"scope": values.get("scope", f"repository:{image.repository}:pull")}
    if "service" in values:
        query["service"] = values["service"]
    address = f"{realm}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310  # checked above
        body = json.loads(answer.read())
    return str(body.get("token") or body["access_token"])


def main(arguments: list[str]) -> int:
    try:
        for name in pin([Path(argument) for argument in arguments]):
            print(name)
    except PinError as exc:
        print(f"not pinned: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
