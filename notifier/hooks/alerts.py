"""A group of alerts, as Alertmanager (webhook version 4) and Grafana post it, becomes one message.

The key of the message is the group's: its next notification, the end included, replaces it. Everything that the sender
chooses is bounded; a link that breaks a rule is left out, since an alert matters more than its link.

Sources: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config and Grafana's "Configure webhook
notifications". Must not know: HTTP, who receives the message.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from notifier import rules
from notifier.errors import InvalidInput

MAX_LISTED: Final = 10
"""Alerts that the text lists; the others are counted. With `MAX_LINE_CHARS` it bounds a message of any group."""
MAX_LINE_CHARS: Final = 200
MAX_LABELS: Final = 6
"""Labels shown of one alert."""
LEVELS: Final = {
    **dict.fromkeys(("critical", "error", "page", "emergency", "fatal", "disaster", "high", "p1"), "error"),
    **dict.fromkeys(("info", "information", "informational", "none", "low", "debug", "notice"), "info"),
}
"""By the label `severity`. Any other value, and no label, is a warning."""

Words = Annotated[dict[str, str], BeforeValidator(lambda value: {} if value is None else value)]
"""Labels or annotations. Go writes null for an empty map."""


class _Posted(BaseModel):
    """Fields that later versions add are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, hide_input_in_errors=True)


class Alert(_Posted):
    """An alert of the group."""

    status: Literal["firing", "resolved"]
    labels: Words = Field(default_factory=dict)
    annotations: Words = Field(default_factory=dict)
    starts_at: str = Field("", alias="startsAt")
    fingerprint: str = ""
    generator_url: str | None = Field("", alias="generatorURL")
    dashboard_url: str | None = Field("", alias="dashboardURL")
    panel_url: str | None = Field("", alias="panelURL")
    silence_url: str | None = Field("", alias="silenceURL")


class AlertGroup(_Posted):
    """The body of one notification."""

    status: Literal["firing", "resolved"]
    group_key: str = Field(alias="groupKey", min_length=1)
    alerts: list[Alert] = Field(min_length=1)
    group_labels: Words = Field(default_factory=dict, alias="groupLabels")
    common_labels: Words = Field(default_factory=dict, alias="commonLabels")
    common_annotations: Words = Field(default_factory=dict, alias="commonAnnotations")
    external_url: str | None = Field("", alias="externalURL")
    truncated_alerts: int = Field(0, alias="truncatedAlerts", ge=0)


class VersionedGroup(AlertGroup):
    """The body of Alertmanager, whose version says what its fields mean."""

    version: Literal["4"]


def message(group: AlertGroup, hook: str) -> dict[str, Any]:
    """The fields of the message of a group, without recipients."""
    firing = [alert for alert in group.alerts if alert.status == "firing"]
    resolved = [alert for alert in group.alerts if alert.status == "resolved"]
    shown = firing + resolved
    ended = group.status == "resolved"
    title, count = _title(group, shown[0]), len(group.alerts) + group.truncated_alerts
    subject = f"{'Resolved: ' if ended else ''}{title}{f' ({count} alerts)' if count > 1 else ''}"
    fields: dict[str, Any] = {
        "subject": subject if len(subject) <= rules.MAX_TITLE_CHARS else _clipped(subject, rules.MAX_TITLE_CHARS),
        "text": _text(group, shown, title, count),
        "level": "success" if ended else _level(firing or shown),
        "url": _link(group, shown),
        "key": f"hook:{hook}:{hashlib.sha256(group.group_key.encode()).hexdigest()[:32]}",
        "data": {"hook": hook, "status": group.status, "firing": len(firing), "resolved": len(resolved)},
    }
    if buttons := _buttons(shown):
        fields["actions"] = buttons
    return fields


def notification_digest(group: AlertGroup) -> str:
    """A digest of what the notification says: which alerts fire, since when, and which ended. A repeat has the same,
    also from another Alertmanager of the cluster."""
    alerts = sorted(
        [alert.status, alert.fingerprint or json.dumps(alert.labels, sort_keys=True), alert.starts_at]
        for alert in group.alerts
    )
    text = json.dumps([group.group_key, group.status, alerts])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _title(group: AlertGroup, first: Alert) -> str:
    words = (
        group.common_annotations.get("summary"),
        first.annotations.get("summary") if len(group.alerts) == 1 else None,
        group.common_labels.get("alertname"),
        first.labels.get("alertname") if len(group.alerts) == 1 else None,
        group.group_labels.get("alertname"),
        _labels(group.group_labels),
    )
    return next((line for word in words if word and (line := _line(word))), "Alert")


def _text(group: AlertGroup, shown: list[Alert], title: str, count: int) -> str:
    lines = [_describe(alert, group, title) for alert in shown[:MAX_LISTED]]
    if count > MAX_LISTED:
        lines.append(f"and {count - MAX_LISTED} more")
    return "\n".join(line for line in lines if line)


def _describe(alert: Alert, group: AlertGroup, title: str) -> str:
    """One line: what the alert says, and the labels that tell it from the others of the group."""
    words = alert.annotations.get("description") or alert.annotations.get("message") or alert.annotations.get("summary")
    words = _line(words or alert.labels.get("alertname", ""))
    known = {} if len(group.alerts) == 1 else group.common_labels
    labels = _labels({k: v for k, v in alert.labels.items() if k not in known and k not in ("alertname", "severity")})
    parts = [part for part in (words if words != title else "", labels) if part]
    line = _clipped(": ".join(parts), MAX_LINE_CHARS)
    return f"resolved: {line}" if line and alert.status != group.status else line


def _labels(labels: dict[str, str]) -> str:
    return ", ".join(f"{_line(name)}={_line(labels[name])}" for name in sorted(labels)[:MAX_LABELS])


def _level(alerts: list[Alert]) -> str:
    """The highest level of these alerts."""
    levels = {LEVELS.get(alert.labels.get("severity", "").lower(), "warning") for alert in alerts}
    return max(levels, key=rules.LEVELS.index)


def _link(group: AlertGroup, shown: list[Alert]) -> str | None:
    """Where the alert is seen: of a lone alert its own page, of several the page of the sender."""
    first = shown[0]
    own = (first.panel_url, first.dashboard_url, first.generator_url) if len(shown) == 1 else ()
    common = [shown[0].panel_url] if len({alert.panel_url for alert in shown}) == 1 else []
    return next((link for link in (*own, *common, group.external_url) if _is_link(link)), None)


def _buttons(shown: list[Alert]) -> list[dict[str, str]]:
    if len(shown) > 1:
        return []
    links = (("Runbook", shown[0].annotations.get("runbook_url")), ("Silence", shown[0].silence_url))
    return [{"text": text, "url": link} for text, link in links if link and _is_link(link)]


def _is_link(link: str | None) -> bool:
    if not link or not link.startswith(("http://", "https://")):
        return False
    try:
        rules.url(link)
    except InvalidInput:
        return False
    return True


def _line(text: str) -> str:
    """Text as one line within bounds, without control characters."""
    start = text[: 4 * MAX_LINE_CHARS]
    return _clipped(" ".join("".join(c if c.isprintable() else " " for c in start).split()), MAX_LINE_CHARS)


def _clipped(text: str, chars: int) -> str:
    return text if len(text) <= chars else text[: chars - 3] + "..."
