"""Hooks of `mkdocs build`: pages from the files of the repository's root, and links that lead out of docs/.

The Markdown files link to each other as on GitHub. On the site, a link to a page of the site stays a link to that page,
and a link to any other file of the repository leads to the repository.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = "https://github.com/sse-notifier/notifier/blob/main/"
ROOT_PAGES = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
"""Files of the repository's root, and the pages that they become."""
_LINK = re.compile(r"(\]\(|^\[[^\]]+\]: )([^)\s#]+)", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for name, page in ROOT_PAGES.items():
        files.append(File.generated(config, page, content=(REPOSITORY / name).read_text("utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point each relative link to a page of the site, or to the repository."""
    is_of_root = page.file.src_uri in ROOT_PAGES.values()
    folder = PurePosixPath("." if is_of_root else "docs")
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_linked(markdown[end : fence.start()], folder), fence[0]]
        end = fence.end()
    return "".join([*parts, _linked(markdown[end:], folder)])


def _linked(text: str, folder: PurePosixPath) -> str:
    return _LINK.sub(lambda match: match[1] + _target(match[2], folder), text)


def _target(link: str, folder: PurePosixPath) -> str:
    """The target of a link in a Markdown file of this folder of the repository."""
    if re.match(r"[a-z]+:", link):
        return link
    path = normpath(str(folder / link))
    if path == "README.md":
        return "index.md"
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else SOURCE + path
