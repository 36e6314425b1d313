"""The import graph and the files of the three packages, read from their sources: nothing is imported or run.

Every import counts: at the top of a module, inside a function, under `TYPE_CHECKING`, and in JavaScript also dynamic
`import()` and the type imports of JSDoc.
"""

from __future__ import annotations

import ast
import functools
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.support import REPOSITORY

_JS_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["'](\.{1,2}/[^"']+)["']""")


def python_sources(package: str) -> list[Path]:
    """The Python files of a package without its migrations, which import models of their own time."""
    paths = sorted(path for path in (REPOSITORY / package).rglob("*.py") if "migrations" not in path.parts)
    assert paths, f"no sources in {package}"
    return paths


def module_of(path: Path) -> str:
    """The dotted name of a file; a package's name is that of its `__init__.py`."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def is_module(name: str) -> bool:
    path = REPOSITORY.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@functools.cache
def imports(path: Path) -> tuple[str, ...]:
    """Every module that a file imports; `from a import b` is `a.b` where that is a module."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports by dots"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if is_module(name) else str(node.module)


def python_graph(package: str) -> dict[str, set[str]]:
    """What each module of a package imports of the same package."""
    return {
        module_of(path): {name for name in imports(path) if name.partition(".")[0] == package} - {module_of(path)}
        for path in python_sources(package)
    }


def client_graph() -> dict[str, set[str]]:
    """What each file of the browser client imports, as paths below `client/`."""
    root = REPOSITORY / "client"
    graph = {}
    for path in sorted(root.rglob("*.js")):
        name = path.relative_to(root).as_posix()
        targets = _JS_IMPORT.findall(path.read_text("utf-8"))
        graph[name] = {posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) for target in targets}
    return graph


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The groups of modules that reach each other (Tarjan's strongly connected components of two or more)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1 or node in graph.get(node, ()):
                groups.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return groups


def mapped_files(page: str) -> set[str]:
    """The files that the tree in a page's section "Where things are" names, as paths in the repository.

    A line of the tree is `name   what it is`; a folder ends with `/`, and its files stand below it, further to the
    right. A folder with nothing below it stands for all of its files and is returned with its `/`.
    """
    section = page.partition("## Where things are\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if re.match(r" {4,}\S", line)]
    entries = [(len(line) - len(line.lstrip()), line.split()[0]) for line in lines]
    files: set[str] = set()
    folders: list[tuple[int, str]] = []
    for place, (indent, name) in enumerate(entries):
        while folders and folders[-1][0] >= indent:
            folders.pop()
        path = "".join(folder for _, folder in folders) + name
        if not name.endswith("/"):
            files.add(path)
            continue
        folders.append((indent, name))
        is_leaf = place + 1 == len(entries) or entries[place + 1][0] <= indent
        if is_leaf:
            files.add(path)
    return files
