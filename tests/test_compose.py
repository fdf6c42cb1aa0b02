"""The compose file as docker-compose itself resolves it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
OURS = {"gateway", "web", "worker", "beat"}
LONG_RUNNING = OURS | {"elasticsearch", "kibana", "redis"}


def compose() -> list[str]:
    """The command of either generation: `docker-compose` 1.29 or the v2 plugin."""
    if found := shutil.which("docker-compose"):
        return [found]
    if docker := shutil.which("docker"):
        plugin = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
        if plugin.returncode == 0:
            return [docker, "compose"]
    reason = "docker-compose is not installed (on Debian: apt-get install docker-compose)"
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(reason)
    pytest.skip(reason)


def resolve(**env: str) -> dict[str, Any]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("SLACK_", "KEDGE_"))}
    done = subprocess.run(
        [*compose(), "--file", str(ROOT / "docker-compose.yml"), "config"],
        env={**clean, **env},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return dict(YAML(typ="safe").load(done.stdout))


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return resolve()


def test_every_service_is_there(config: dict[str, Any]) -> None:
    assert set(config["services"]) == LONG_RUNNING | {"setup"}


def test_long_running_services_have_health_checks(config: dict[str, Any]) -> None:
    for name in LONG_RUNNING:
        check = config["services"][name].get("healthcheck")
        assert check, f"{name} has no health check"
        assert check["test"], f"{name} has no health check"
        assert check["interval"], f"{name} has no interval"
        assert check["timeout"], f"{name} has no timeout"


def test_images_are_pinned(config: dict[str, Any]) -> None:
    for name, service in config["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert re.match(r"\d+\.\d+\.\d+", tag), f"{name}: {service['image']} is not pinned"
    for base in re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        assert re.search(r":\d+\.\d+\.\d+", base), f"Dockerfile: {base} is not pinned"


def test_what_must_survive_is_in_named_volumes(config: dict[str, Any]) -> None:
    assert {"elasticsearch-data", "redis-data", "gateway-spool"} <= set(config["volumes"])
    for name, path in {
        "elasticsearch": "/usr/share/elasticsearch/data",
        "redis": "/data",
        "gateway": "/var/lib/kedge",
    }.items():
        mounts = json.dumps(config["services"][name]["volumes"])
        assert path in mounts, f"{name} keeps {path} in no volume"


def test_rules_and_settings_are_mounted_read_only(config: dict[str, Any]) -> None:
    for name in OURS:
        for mount in config["services"][name]["volumes"]:
            if isinstance(mount, str):  # 1.29 prints the short form
                source, _, rest = mount.partition(":")
                read_only = rest.endswith(":ro")
            else:
                source, read_only = mount["source"], mount.get("read_only", False)
            if source.endswith(("/rules", "/kedge.yml")):
                assert read_only, f"{name}: {source} is writable"


def test_services_wait_for_what_they_need(config: dict[str, Any]) -> None:
    for name in OURS:
        waits = {
            service: entry["condition"] for service, entry in config["services"][name]["depends_on"].items()
        }
        assert waits == {
            "elasticsearch": "service_healthy",
            "redis": "service_healthy",
            "setup": "service_completed_successfully",
        }


def test_ports_are_bound_to_this_machine(config: dict[str, Any]) -> None:
    for name, service in config["services"].items():
        for port in service.get("ports", []):
            address = port.split(":")[0] if isinstance(port, str) else port.get("host_ip")
            assert address == "127.0.0.1", f"{name} listens on {port}"


def test_the_file_holds_no_secret(config: dict[str, Any]) -> None:
    for service in config["services"].values():
        for key, value in (service.get("environment") or {}).items():
            if re.search(r"TOKEN|SECRET|PASSWORD|WEBHOOK|API_?KEY", key, re.IGNORECASE):
                assert not value, f"{key} has a literal value"


def test_secrets_come_from_the_environment() -> None:
    services = resolve(SLACK_BOT_TOKEN="given")["services"]
    assert {services[name]["environment"]["SLACK_BOT_TOKEN"] for name in OURS} == {"given"}
