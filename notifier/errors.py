"""The error tree. Each leaf is one cause and carries its HTTP status.

    NotifierError
    ├── InvalidInput            422  a field's value breaks a rule
    │   ├── UnknownField        422  a field that this version does not know
    │   └── IdempotencyMismatch 422  the key was used with another body
    ├── MalformedBody           400  the body is not JSON
    ├── MalformedRequest        400  the bytes are not an HTTP/1.1 request
    ├── HeadTooLarge            431  the request's headers are over the size limit
    ├── PayloadTooLarge         413  over a size limit
    ├── UnsupportedEncoding     415  the body is compressed
    ├── Unauthenticated         401  no token, or an invalid one
    ├── NotAllowed              403  a valid token without the permission
    ├── NotFound                404  no such task or message
    ├── Conflict                409  the task has ended
    ├── RateLimited             429  over the publish rate
    ├── BrokerUnavailable       503  Redis is away; whether the call took effect may be unknown
    ├── KeysUnavailable         503  the keys of tokens were never loaded
    └── ConfigurationError           the service refuses to start

Must not know: HTTP frameworks, brokers. `api` maps these to problem+json (RFC 9457) in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

UNEXPECTED: Final = "the service failed; its log says more"
"""The detail of an error that has no leaf here."""


class NotifierError(Exception):
    """Base of all. `field` is the path of the offending value (`to[0]`, `data.a`), or None."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        super().__init__(f"{field}: {detail}" if field else detail)
        self.detail = detail
        self.field = field
        self.members: Mapping[str, object] = {}
        """Further members of the problem (RFC 9457, 3.2)."""


class InvalidInput(NotifierError, ValueError):
    """A field's value breaks a rule; the detail says which rule, and shows the value."""

    status = 422
    title = "Invalid input"


class UnknownField(InvalidInput):
    """A field that this version of the service does not know; the member `unknown_field` says so to programs."""

    def __init__(self, field: str) -> None:
        super().__init__("is not a field of this request", field=field)
        self.members = {"unknown_field": True}


class IdempotencyMismatch(InvalidInput):
    """The Idempotency-Key was used before with another body."""

    title = "Idempotency-Key reused"


class MalformedBody(NotifierError, ValueError):
    """The body is not JSON."""

    status = 400
    title = "Malformed body"


class MalformedRequest(NotifierError):
    """The bytes are not an HTTP/1.1 request, or have two meanings."""

    status = 400
    title = "Malformed request"


class HeadTooLarge(NotifierError):
    """The request line and the headers are over their size limit."""

    status = 431
    title = "Request header fields too large"


class PayloadTooLarge(NotifierError, ValueError):
    """A body or an event is over its size limit."""

    status = 413
    title = "Payload too large"


def too_large(most: int, size: int | None = None, *, field: str = "body") -> PayloadTooLarge:
    """The error of a value over `most` bytes. size: None where the rest was not read."""
    detail = f"has more than {most} bytes" if size is None else f"has {size} bytes; at most {most} are accepted"
    return PayloadTooLarge(detail, field=field)


class UnsupportedEncoding(NotifierError):
    """The body is compressed, or encoded in another way."""

    status = 415
    title = "Unsupported encoding"


class Unauthenticated(NotifierError):
    """No credentials, or invalid ones."""

    status = 401
    title = "Authentication required"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        """RFC 6750 error code for WWW-Authenticate (`invalid_token`), None if the request had no credentials."""


class NotAllowed(NotifierError):
    """Valid credentials without the permission."""

    status = 403
    title = "Not allowed"


class NotFound(NotifierError):
    """No such task or message, or none that this user may see."""

    status = 404
    title = "Not found"


def no_task(task_id: object) -> NotFound:
    return NotFound(f"there is no task {str(task_id)!r}", field="id")


class Conflict(NotifierError):
    """The present state does not allow the change (the task has ended)."""

    status = 409
    title = "Conflict"


class RateLimited(NotifierError):
    """Over the publish rate. The call can be repeated after `retry_after_s` seconds."""

    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after_s: float, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.headers = tuple(headers)
        """Response headers about the limit, beside Retry-After."""


class BrokerUnavailable(NotifierError):
    """The broker did not answer in time. A publish under an idempotency key can be repeated safely."""

    status = 503
    title = "Broker unavailable"


class KeysUnavailable(NotifierError):
    """The set of keys that tokens are signed with was never loaded, so a token can be neither accepted nor refused."""

    status = 503
    title = "Keys unavailable"


class ConfigurationError(NotifierError):
    """A setting is missing or contradicts another; the service does not start."""

    title = "Configuration"
