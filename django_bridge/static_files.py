"""The browser client behind a storage that names files by their content, as `ManifestStaticFilesStorage` does.

The modules of the client import each other by their plain names, which such a storage does not serve, or serves from an
older version. An import map (HTML standard, 8.1.6.2) leads each of these names to the file of the same version; it has
the icons too, whose addresses the client resolves with `import.meta.resolve`. Must not know: templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Final

from django.templatetags.static import static

FOLDER: Final = Path(__file__).parent / "static" / "notifier"


@lru_cache(maxsize=8)
def hashed_files(entry_url: str) -> Mapping[str, str]:
    """The address of each module and icon: beside the other files, and as the storage names it, where the two differ.

    `entry_url` is the storage's address of `django.js`: with new files there is a new one.
    """
    base = entry_url.partition("?")[0].rpartition("/")[0]
    pairs = ((f"{base}/{name}", _address(f"notifier/{name}")) for name in _files())
    return {plain: address for plain, address in pairs if address and plain != address.partition("?")[0]}


@lru_cache(maxsize=1)
def _files() -> tuple[str, ...]:
    paths = chain(FOLDER.rglob("*.js"), FOLDER.glob("icons/*.svg"))
    names = (path.relative_to(FOLDER).as_posix() for path in paths)
    return tuple(sorted(name for name in names if not name.startswith("demo/")))


def _address(name: str) -> str:
    """Empty for a file that `collectstatic` has not seen."""
    try:
        return static(name)
    except ValueError:
        return ""
