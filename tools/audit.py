"""Asks for known vulnerabilities of what an environment has installed: `python -m tools.audit build/image/bin/python`.

pip-audit asks OSV about every package. Exit codes: 0 none is known, 1 there are some, 2 it could not be asked. On its
own pip-audit ends with 0 where the service knows none of the packages, and with a traceback where it is not reached;
"not asked" must never look like "nothing known".

`PIP_AUDIT_OSV_URL` is another address of the service. Further arguments go to pip-audit: `--ignore-vuln ID`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tools.installed import packages

COMMAND = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--format", "json"]
OPTIONS = ["--progress-spinner", "off", "--strict", "--timeout", "15"]


def audit(python: Path, *options: str) -> int:
    """Print what is known. Returns the exit code."""
    folder, versions = packages(python)
    done = subprocess.run(
        [*COMMAND, *OPTIONS, "--path", folder, *options], capture_output=True, text=True, encoding="utf-8"
    )
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        print(f"not audited: {lines[-1]}", file=sys.stderr)
        return 2
    asked = {canonicalize_name(each["name"]) for each in dependencies if "skip_reason" not in each}
    if missing := {canonicalize_name(name) for name in versions} - asked:
        print(f"not audited: {', '.join(sorted(missing))}", file=sys.stderr)
        return 2
    vulnerable = [(each, vulnerability) for each in dependencies for vulnerability in each["vulns"]]
    for each, vulnerability in vulnerable:
        names = ", ".join([vulnerability["id"], *vulnerability["aliases"]])
        fixes = ", ".join(vulnerability["fix_versions"]) or "no version"
        print(f"{each['name']} {each['version']}: {names}; fixed in {fixes}")
    noun = "vulnerability" if len(vulnerable) == 1 else "vulnerabilities"
    print(f"{len(asked)} packages, {len(vulnerable) or 'no'} known {noun}")
    return 1 if vulnerable else 0


if __name__ == "__main__":
    sys.exit(audit(Path(sys.argv[1]), *sys.argv[2:]))
