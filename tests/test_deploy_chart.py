"""The chart of deploy/chart, rendered by helm and checked against the schemas of Kubernetes. No cluster runs here."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.nginx import CONFIGURATION
from tests.support import REPOSITORY

pytestmark = pytest.mark.programs

CHART = REPOSITORY / "deploy" / "chart"
HELM = REPOSITORY / "build" / "helm"
PAGE = (CHART / "README.md").read_text("utf-8")
KUBERNETES = "1.30"
WITHOUT_SCHEMA = {"ServiceMonitor"}
"""Kinds that Kubernetes itself does not have."""
REDIS: dict[str, Any] = {"existingSecret": "notifier", "redis": {"url": "redis://redis:6380/0", "port": 6380}}
FILE: dict[str, Any] = {"existingSecret": "notifier", "sqlite": {"enabled": True, "size": "5Gi"}, "replicas": 1}
EVERYTHING: dict[str, Any] = {
    **REDIS,
    "workers": 2,
    "drainSeconds": 25,
    "preStopSeconds": 7,
    "env": {"NOTIFIER_HEARTBEAT_S": "20", "FORWARDED_ALLOW_IPS": "10.0.0.0/8"},
    "autoscaling": {"enabled": True, "streamsPerPod": 3000},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "ingress": {"enabled": True, "host": "notifier.example.org", "tlsSecret": "tls", "annotations": {"a": "b"}},
    "networkPolicy": {"from": [{"podSelector": {}}], "egress": [{"ports": [{"protocol": "TCP", "port": 443}]}]},
}
SECRET_ADDRESS: dict[str, Any] = {
    "existingSecret": "notifier",
    "secretKeys": ["NOTIFIER_JWT_SECRET", "NOTIFIER_API_KEYS", "NOTIFIER_BROKER_URL"],
    "redis": {"url": "", "port": 6380},
}
CASES = {"redis": REDIS, "the address in the secret": SECRET_ADDRESS, "sqlite": FILE, "everything": EVERYTHING}


def helm(command: str, values: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values), "utf-8")
    name = ("notifier",) if command == "template" else ()
    arguments = [HELM, command, *name, CHART, "--values", file, "--namespace", "web"]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60)


def rendered(values: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """The objects by kind."""
    done = helm("template", values, folder)
    assert done.returncode == 0, done.stderr
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert len({each["kind"] for each in objects}) == len(objects)
    return {each["kind"]: each for each in objects}


def open_ports(objects: dict[str, dict[str, Any]]) -> list[int]:
    """The ports that a pod may call."""
    return [port["port"] for rule in objects["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]]


def test_the_command_of_its_page_renders() -> None:
    (command,) = re.findall(r"^helm install notifier deploy/chart ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    arguments = shlex.split(command.replace("\\\n", ""))
    done = subprocess.run([HELM, "template", "notifier", CHART, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "registry.example.org/notifier:latest" in done.stdout


def test_the_secret_of_its_page_has_the_keys_that_are_mounted() -> None:
    keys = re.findall(r"--from-literal=(\w+)=", PAGE)
    assert keys == yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["secretKeys"]


@pytest.mark.parametrize("case", CASES)
def test_every_object_is_valid(case: str, tmp_path: Path) -> None:
    done = helm("lint", CASES[case], tmp_path)
    assert "0 chart(s) failed" in done.stdout, done.stdout
    for kind, each in rendered(CASES[case], tmp_path).items():
        if kind not in WITHOUT_SCHEMA:
            kubernetes_validate.validate(each, KUBERNETES, strict=True)


def test_the_check_refuses_what_kubernetes_does_not_know(tmp_path: Path) -> None:
    deployment = rendered(REDIS, tmp_path)["Deployment"]
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def test_a_pod_has_probes_its_secrets_as_files_and_time_to_drain(tmp_path: Path) -> None:
    objects = rendered(EVERYTHING, tmp_path)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] == 7 + 25 + 10
    assert "time.sleep(7)" in container["lifecycle"]["preStop"]["exec"]["command"][-1]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert container["args"][-2:] == ["--workers", "2"]
    assert {each["name"]: each["value"] for each in container["env"]} == {
        "NOTIFIER_JWT_SECRET_FILE": "/etc/notifier/NOTIFIER_JWT_SECRET",
        "NOTIFIER_API_KEYS_FILE": "/etc/notifier/NOTIFIER_API_KEYS",
        "NOTIFIER_DRAIN_S": "25",
        "NOTIFIER_BROKER_URL": "redis://redis:6380/0",
        "NOTIFIER_HEARTBEAT_S": "20",
        "FORWARDED_ALLOW_IPS": "10.0.0.0/8",
    }
    secrets = next(each["secret"] for each in pod["volumes"] if each["name"] == "secrets")
    assert secrets["secretName"] == "notifier"
    assert [each["path"] for each in secrets["items"]] == ["NOTIFIER_JWT_SECRET", "NOTIFIER_API_KEYS"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_the_brokers_address_may_be_in_the_secret(tmp_path: Path) -> None:
    objects = rendered(SECRET_ADDRESS, tmp_path)
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    env = {each["name"]: each["value"] for each in container["env"]}
    assert env["NOTIFIER_BROKER_URL_FILE"] == "/etc/notifier/NOTIFIER_BROKER_URL"
    assert "NOTIFIER_BROKER_URL" not in env, "the service refuses both"
    (secrets,) = [each["secret"] for each in pod["volumes"] if each["name"] == "secrets"]
    assert {"key": "NOTIFIER_BROKER_URL", "path": "NOTIFIER_BROKER_URL"} in secrets["items"]
    assert open_ports(objects) == [53, 53, 6380]


@pytest.mark.parametrize(
    ("url", "ports"),
    [
        ("redis://redis/0", [6379]),
        ("redis://redis:6380/0", [6379, 6380]),
        ("redis://a:6380/0,redis://b:6381", [6379, 6380, 6381]),
        ("redis://user:26379@redis/0", [6379]),
        ("redis+cluster://n1:7000,n2:7000", [6379, 7000]),
        ("rediss+cluster://n1:6379?ssl_ca_certs=/ca.pem", [6379]),
        ("redis+sentinel://s1:26379,s2:26379/notifier/0", [6379, 26379]),
        ("rediss+sentinel://s1,s2/notifier/0", [6379, 26379]),
    ],
)
def test_every_form_of_address_may_be_called(url: str, ports: list[int], tmp_path: Path) -> None:
    """The primaries behind Sentinels have the port of `redis.port`."""
    objects = rendered({"existingSecret": "notifier", "redis": {"url": url}}, tmp_path)
    assert open_ports(objects) == [53, 53, *ports]


def test_the_objects_around_it_name_the_same_pods_metric_and_port(tmp_path: Path) -> None:
    objects = rendered(EVERYTHING, tmp_path)
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    monitored = objects["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert monitored.items() <= objects["Service"]["metadata"]["labels"].items()
    assert "replicas" not in objects["Deployment"]["spec"], "the autoscaler decides"
    (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "notifier_streams"
    assert metric["pods"]["target"]["averageValue"] == "3000"
    assert open_ports(objects) == [53, 53, 6380, 443]
    annotations = objects["Ingress"]["metadata"]["annotations"]
    assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"


def test_the_ingress_forwards_what_the_shipped_nginx_forwards(tmp_path: Path) -> None:
    """Not /metrics, /docs and /readyz."""
    (rule,) = rendered(EVERYTHING, tmp_path)["Ingress"]["spec"]["rules"]
    paths = {each["path"] + ("" if each["pathType"] == "Exact" else "/") for each in rule["http"]["paths"]}
    locations = re.findall(r"location (?:= )?(\S+) \{\n +proxy_pass", CONFIGURATION.read_text())
    assert paths == {path for path in locations if path != "/v1/stream"}
    assert {each["backend"]["service"]["name"] for each in rule["http"]["paths"]} == {"notifier"}


def test_a_file_is_of_one_pod_on_a_volume_that_stays(tmp_path: Path) -> None:
    objects = rendered(FILE, tmp_path)
    spec = objects["Deployment"]["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
    (claim,) = [each for each in spec["template"]["spec"]["volumes"] if "persistentVolumeClaim" in each]
    assert claim["persistentVolumeClaim"]["claimName"] == objects["PersistentVolumeClaim"]["metadata"]["name"]
    assert objects["PersistentVolumeClaim"]["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert objects["PersistentVolumeClaim"]["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert open_ports(objects) == [53, 53], "no Redis"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"existingSecret": ""}, "existingSecret"),
        ({"redis": {"url": ""}}, "redis.url"),
        ({"redis": {"url": "http://redis"}}, "redis.url"),
        ({"secretKeys": ["NOTIFIER_API_KEYS", "NOTIFIER_BROKER_URL"]}, "NOTIFIER_BROKER_URL"),
        ({"secretKeys": ["API_KEYS"]}, "secretKeys"),
        ({"drainSeconds": -1}, "drainSeconds"),
        ({"env": {"NOTIFIER_DRAIN_S": "60"}}, "NOTIFIER_DRAIN_S"),
        ({"replica": 3}, "replica"),
        ({"ingress": {"enabled": True}}, "ingress.host"),
        ({"sqlite": {"enabled": True}, "redis": {"url": ""}, "replicas": 2}, "replicas"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(changed: dict[str, Any], words: str, tmp_path: Path) -> None:
    done = helm("template", {**REDIS, **changed}, tmp_path)
    assert done.returncode != 0
    assert words in done.stderr
