"""Prints fresh secrets as environment variables, for `deploy/secrets.env`.

The service reads NOTIFIER_JWT_SECRET and NOTIFIER_API_KEYS. A publisher reads NOTIFIER_API_KEY, which is one of the
keys, and signs its users' tokens with NOTIFIER_JWT_SECRET.
"""

from __future__ import annotations

import secrets
import sys


def main() -> None:
    key = secrets.token_urlsafe(32)
    values = {
        "NOTIFIER_JWT_SECRET": secrets.token_urlsafe(48),
        "NOTIFIER_API_KEYS": key,
        "NOTIFIER_API_KEY": key,
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(48),
    }
    sys.stdout.writelines(f"{name}={value}\n" for name, value in values.items())


if __name__ == "__main__":
    main()
