"""The answer to a call that failed in a way that the error tree does not have: a 500 that names a line of the log.

Must not know: HTTP frameworks, which calls there are.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Iterable

from notifier import problems
from notifier.call import Answer
from notifier.errors import UNEXPECTED, NotifierError

log = logging.getLogger("notifier.failures")

_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


def unexpected(headers: Iterable[tuple[bytes, bytes]], exc: BaseException | None = None) -> Answer:
    """A 500 with `request_id`: the request's `X-Request-ID`, which a proxy sets, else a new one. The log has it too.

    exc: its traceback is logged; None if the server logs it.
    """
    given = next((value for name, value in headers if name == b"x-request-id" and _ID.fullmatch(value)), None)
    request_id = given.decode() if given else uuid.uuid4().hex
    log.error("the request %s failed", request_id, exc_info=exc, extra={"request_id": request_id})
    error = NotifierError(UNEXPECTED)
    error.members = {"request_id": request_id}
    return problems.answer(error)
