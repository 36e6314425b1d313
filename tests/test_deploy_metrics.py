"""The alerts and the dashboard of deploy/ use what the service shows; promtool reads and tries them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from notifier import metrics
from notifier.histogram import Histogram
from tests.support import REPOSITORY, Service

ALERTS = REPOSITORY / "deploy" / "alerts.yml"
TESTS = REPOSITORY / "tests" / "alerts.yml"
DASHBOARD = json.loads((REPOSITORY / "deploy" / "grafana.json").read_text("utf-8"))
REPOSITORY_URL = "https://github.com/sse-notifier/notifier"
NAME = re.compile(r"\b((?:notifier|process)_[a-z_]+)\b")


def rules() -> dict[str, str]:
    """The expressions of the alerts, by name."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def panels() -> Iterator[tuple[str, str]]:
    """Title and expression."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


def shown() -> set[str]:
    """The names of all series that the service has."""
    values = {
        name: {"counts": Histogram().values()["counts"], "sum": 0}
        if family.kind == "histogram"
        else {"version": "1", "python": "3"}
        if family.kind == "info"
        else {" ".join("a" for _ in family.labels): 1}
        if family.labels
        else 1
        for name, family in metrics.FAMILIES.items()
    }
    lines = metrics.text({"0": values}).splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def promtool(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(["promtool", *arguments], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_alerts_and_panels_name_only_series_that_exist() -> None:
    for title, expression in [*rules().items(), *panels()]:
        names = set(NAME.findall(re.sub(r'"[^"]*"', "", expression)))
        assert names or "up{" in expression, title
        assert names <= shown(), title
    variables = json.dumps(DASHBOARD["templating"])
    assert set(NAME.findall(variables)) <= shown()


def test_the_dashboard_shows_every_family() -> None:
    used = {name for _, expression in panels() for name in NAME.findall(expression)}
    bases = {re.sub(r"_(bucket|info)$", "", name) for name in used}
    assert set(metrics.FAMILIES) - bases == {"notifier_draining", "notifier_shards"}


def test_the_page_for_operators_has_every_family_and_every_alert() -> None:
    page = (REPOSITORY / "docs" / "operate.md").read_text("utf-8")
    families = [f"{name}_info" if family.kind == "info" else name for name, family in metrics.FAMILIES.items()]
    missing = [name for name in [*families, metrics.WORKERS, *rules()] if f"`{name}`" not in page]
    assert missing == []


def test_every_alert_leads_to_its_section_of_the_page_which_has_a_command_and_a_fix() -> None:
    page = (REPOSITORY / "docs" / "operate.md").read_text("utf-8")
    for group in yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            name = rule["alert"]
            assert rule["annotations"]["runbook_url"] == f"{REPOSITORY_URL}/blob/main/docs/operate.md#{name.lower()}"
            section = page.partition(f"\n### `{name}`\n")[2].partition("\n#")[0]
            assert re.search(r"^\w.+\.\n\n- Ask: .+\n- Fix: .+$", section, re.MULTILINE), name


def test_each_alert_has_a_series_for_which_it_fires_and_others_for_which_it_does_not() -> None:
    tried = {test["name"]: test for test in yaml.safe_load(TESTS.read_text("utf-8"))["tests"]}
    assert set(tried) == set(rules())
    for name, test in tried.items():
        assert {rule["alertname"] for rule in test["alert_rule_test"]} == {name}
        at_first, later = test["alert_rule_test"]
        assert not at_first.get("exp_alerts"), name
        assert len(later["exp_alerts"]) == 1, name
        firing = later["exp_alerts"][0]["exp_labels"]
        own = [label for label in ("job", "instance", "worker", "status") if label in firing]
        others = [
            series["series"]
            for series in test["input_series"]
            if not all(f'{label}="{firing[label]}"' in series["series"] for label in own)
        ]
        assert others, name


@pytest.mark.programs
def test_promtool_accepts_the_alerts_and_what_they_do() -> None:
    assert f"{len(rules())} rules found" in promtool("check", "rules", str(ALERTS))
    assert "SUCCESS" in promtool("test", "rules", str(TESTS))


@pytest.mark.programs
def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    recorded = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, (_, expression) in enumerate(panels())
    ]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    assert f"{len(recorded)} rules found" in promtool("check", "rules", str(path))


@pytest.mark.programs
def test_promtool_accepts_the_configuration_of_the_page(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "operate.md").read_text("utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(example)
    (tmp_path / "alerts.yml").write_text(ALERTS.read_text("utf-8"))
    assert "16 rules found" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


@pytest.mark.programs
def test_promtool_accepts_the_metrics(service: Service) -> None:
    assert promtool("check", "metrics", text=httpx.get(f"{service.url}/metrics").text) == ""
