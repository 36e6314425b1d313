"""What a distribution requires, as it is installed here."""

from __future__ import annotations

from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The names of all distributions that this one with these extras requires, itself included."""
    pending, seen = [(name, extra) for extra in (extras or {""})], set()
    while pending:
        at = pending.pop()
        if at in seen:
            continue
        seen.add(at)
        for line in metadata.requires(at[0]) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": at[1]}):
                pending += [(requirement.name, extra) for extra in (requirement.extras | {""})]
    return {canonicalize_name(distribution) for distribution, _ in seen}
