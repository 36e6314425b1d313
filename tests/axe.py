"""axe-core on a page that Playwright drives: `page.evaluate(axe())`, then `page.evaluate(FINDINGS, selector)`."""

from __future__ import annotations

from tests.support import REPOSITORY

FINDINGS = """selector => axe.run(selector ?? document)
    .then(({ violations }) => violations.map(({ id, nodes }) => [id, nodes[0].html]))"""
"""The rules that the page violates, or the part of it that the selector names, each with an element."""


def axe() -> str:
    source = (REPOSITORY / "node_modules" / "axe-core" / "axe.min.js").read_text()
    return f"() => {{ {source} }}"
