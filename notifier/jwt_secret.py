"""The secrets that sign and verify tokens, as one text: `NOTIFIER_JWT_SECRET`, in Django `JWT_SECRET`.

Must not know: what tokens say.
"""

from __future__ import annotations

import re
from typing import Final

MIN_SECRET_BYTES: Final = 32
"""RFC 7518, 3.2: a key for HS256 has at least the size of the hash."""


def divided(text: str) -> tuple[str, ...]:
    """The secrets of a text, separated by commas or lines. The first signs, and each verifies. Empty: none.

    A text with a part that is too short for a secret is one secret as it stands, as every text was before there were
    several.
    """
    parts = tuple(part for word in re.split("[,\n]", text) if (part := word.strip()))
    if len(parts) > 1 and all(len(part.encode(errors="replace")) >= MIN_SECRET_BYTES for part in parts):
        return parts
    return (text,) if text else ()
