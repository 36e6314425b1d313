"""The secrets of the tests, and where the repository is. Every Django process of the tests loads this: no imports."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
JWT_SECRET = "a-secret-for-tests-that-is-long-enough"
API_KEY = "test-key-0123456789abcdef"
ADMIN_KEY = "test-admin-0123456789abcdef"
