"""docker-compose.yml and what it mounts fit together and fit the product: no engine is needed to see that."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer.main
import yaml
from typer.core import TyperGroup

from headrace.cli import app
from headrace.services.kafka import MAX_MESSAGE
from headrace.settings import Settings, load_settings
from headrace.stack import STOP_GRACE_S
from streams.worker import NAMES

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def test_the_file_has_the_documented_form() -> None:
    """The part of the compose specification that it uses, as a JSON schema; every port is bound to this machine only."""
    schema = json.loads((ROOT / "tests" / "compose_schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(COMPOSE)


def test_every_process_of_the_product_has_a_service() -> None:
    """Kafka, Redis, PostgreSQL, four workers, ticks, learner, server, console, Prometheus, Grafana, and two that run once."""
    others = {"kafka", "redis", "postgres", "prometheus", "grafana"}
    assert set(SERVICES) == others | set(OURS)
    assert set(OURS) == {*NAMES, "ticks", "learner", "server", "console", "topics", "prepare"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_command_is_one_that_headrace_takes(name: str) -> None:
    """Its name exists and its arguments parse."""
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    first, *rest = OURS[name]["command"]
    assert first in command.commands
    parsed = command.commands[first].make_context(first, list(rest))
    if first == "worker":
        assert parsed.params["names"] == [name]


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_container_has_the_time_for_a_clean_stop_that_headrace_up_gives(name: str) -> None:
    """The engine's own 10 s would cut the last flush of a large state; the mounted settings ask for no more."""
    assert OURS[name]["stop_grace_period"] == f"{STOP_GRACE_S:g}s"
    mounted = Settings.model_validate(json.loads((ROOT / "deploy" / "settings.json").read_text()))
    assert mounted.streams.runtime.longest_stop_s <= STOP_GRACE_S


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_variables_are_settings(name: str) -> None:
    """Each HEADRACE_ variable is a field of the settings, or names the settings file."""
    known = {f"HEADRACE_{field.upper()}" for field in Settings.model_fields} | {"HEADRACE_SETTINGS"}
    assert set(OURS[name]["environment"]) <= known
    assert {"HEADRACE_KAFKA", "HEADRACE_REDIS", "HEADRACE_DATABASE"} <= set(OURS[name]["environment"])


def test_the_mounted_settings_load_and_agree_with_the_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is published or scraped listens on that port, on every interface of its container."""
    for key, value in OURS["server"]["environment"].items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("HEADRACE_SETTINGS", str(ROOT / "deploy" / "settings.json"))
    settings = load_settings()
    assert settings.kafka == "kafka:9092" and settings.services == "external"
    assert (settings.serving.host, settings.console.host) == ("0.0.0.0", "0.0.0.0")
    runtime, learner = settings.streams.runtime, settings.trainers.learner
    assert (runtime.metrics_host, learner.metrics_host) == ("0.0.0.0", "0.0.0.0")
    assert SERVICES["server"]["ports"] == [f"127.0.0.1:{settings.serving.port}:{settings.serving.port}"]
    assert SERVICES["console"]["ports"] == [f"127.0.0.1:{settings.console.port}:{settings.console.port}"]

    prometheus = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
    mounted = [volume.split(":")[:2] for volume in SERVICES["prometheus"]["volumes"]]
    for file in ("prometheus.yml", *prometheus["rule_files"]):
        assert [f"./deploy/{file}", f"/etc/prometheus/{file}"] in mounted
    workers, learners, server = prometheus["scrape_configs"]
    assert workers["dns_sd_configs"][0]["names"] == list(NAMES)
    assert workers["dns_sd_configs"][0]["port"] == runtime.metrics_port
    assert learners["static_configs"] == [{"targets": [f"learner:{learner.metrics_port}"]}]
    assert server["static_configs"] == [{"targets": [f"server:{settings.serving.port}"]}]


def test_addresses_name_services() -> None:
    """A host in an address of ours is a service here, and the broker takes as large a record as the embedded one."""
    environment = OURS["server"]["environment"]
    assert environment["HEADRACE_KAFKA"].split(":")[0] in SERVICES
    for key in ("HEADRACE_REDIS", "HEADRACE_DATABASE"):
        assert re.sub(r".*(//|@)([a-z]+):\d+/.*", r"\2", environment[key]) in SERVICES
    assert SERVICES["kafka"]["environment"]["KAFKA_MESSAGE_MAX_BYTES"] == str(MAX_MESSAGE)


def test_volumes_and_dependencies_exist() -> None:
    """Named volumes are declared and used, mounted files are there, awaited services exist and can fulfil the condition."""
    named = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), source
            else:
                named.add(source)
        for other, wish in service.get("depends_on", {}).items():
            assert wish["condition"] != "service_healthy" or "healthcheck" in SERVICES[other]
            assert wish["condition"] != "service_completed_successfully" or SERVICES[other]["restart"] == "no"
    assert named == set(COMPOSE["volumes"])


def test_no_password_is_written_down() -> None:
    """Passwords come from the environment, and starting without one is refused by compose itself."""
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key:
                assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value)
