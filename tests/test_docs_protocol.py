"""docs/protocol.md says for each status and for each reason of `bye` what a client does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from notifier.api.stream_events import STREAM_EVENTS
from notifier.errors import ConfigurationError, NotifierError
from tests.support import REPOSITORY

PAGE = (REPOSITORY / "docs" / "protocol.md").read_text()


def leaves(base: type[NotifierError]) -> Iterator[type[NotifierError]]:
    for kind in base.__subclasses__():
        yield kind
        yield from leaves(kind)


def rows(header: str) -> dict[str, list[str]]:
    """The rows of the table with this first header, by their first cell."""
    table = PAGE[PAGE.index(f"| {header} |") :].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0]: row[1:] for row in cells}


def test_each_status_of_an_error_says_what_a_client_does() -> None:
    table = rows("status")
    statuses = {kind.status for kind in leaves(NotifierError) if kind is not ConfigurationError} | {500, 405, 200, 204}
    assert statuses <= {int(word) for cell in table for word in re.findall(r"\b\d{3}\b", cell)}
    assert all(len(row) == 2 and all(row) for row in table.values())


def test_each_reason_of_bye_says_what_a_client_does() -> None:
    reasons = get_args(STREAM_EVENTS["bye"][0].model_fields["reason"].annotation)  # type: ignore[union-attr]
    table = rows("reason of `bye`")
    assert {name.strip("`") for name in table} == set(reasons)
    assert all(len(row) == 2 and all(row) for row in table.values())
