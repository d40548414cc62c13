"""A wrong setting or option names itself, its variable, the value, the bound and what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.settings import load_settings
from schemas.errors import InvalidSetting
from schemas.security import KafkaSecurity
from streams.settings import RuntimeSettings


@pytest.mark.parametrize(
    ("variable", "value", "field", "bound"),
    [
        ("STREAMS__RUNTIME__LINGER_MS", "-1", "streams.runtime.linger_ms", "an integer from 0 to 10,000"),
        ("STREAMS__RUNTIME__LINGER_MS", "soon", "streams.runtime.linger_ms", "an integer from 0 to 10,000"),
        ("SERVING__ENGINE__TEMPERATURE", "0", "serving.engine.temperature", "a number above 0 and at most 100"),
        ("TRAINERS__WARM_START__CLIP", "0", "trainers.warm_start.clip", "a number above 0"),
        ("NOW_MS", "-1", "now_ms", "an integer of at least 0"),
        ("SERVING__SIMULATED_CLOCK", "perhaps", "serving.simulated_clock", "true or false"),
        ("SERVING__CLICK_GROUP", "", "serving.click_group", "a text of at least 1 character"),
        ("SERVICES", "cloud", "services", "one of embedded, containers, external"),
        ("STREAMS__RUNTIME", "3", "streams.runtime", f"a section with the fields {', '.join(RuntimeSettings.model_fields)}"),
        ("SHOP__ORDER_SHARE", "[0,0,0,2]", "shop.order_share.3", "less than or equal to 1"),
    ],
)
def test_a_variable_that_breaks_a_bound(
    variable: str, value: str, field: str, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sort of field; what the setting is for stands behind the bound."""
    monkeypatch.setenv(f"HEADRACE_{variable}", value)
    with pytest.raises(InvalidSetting) as caught:
        load_settings()
    error = caught.value
    assert (error.what, error.remedy) == (f"setting {field}", f"correct HEADRACE_{variable}")
    assert error.bound.startswith(f"{bound} (") and error.bound.endswith(")")
    assert str(error.value) in value and "Input should" not in str(error)


def test_the_remedy_names_the_place_where_the_value_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file; in a variable that holds the whole section; in an option."""
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"streams": {"runtime": {"linger_ms": 10_001}}}))
    with pytest.raises(
        InvalidSetting, match=rf"is 10001,.*correct it in {file} \(or set HEADRACE_STREAMS__RUNTIME__LINGER_MS\)"
    ):
        load_settings(file)
    monkeypatch.setenv("HEADRACE_STREAMS", '{"runtime": {"linger_ms": 10001}}')
    with pytest.raises(InvalidSetting, match=r"; correct HEADRACE_STREAMS$"):
        load_settings()
    monkeypatch.delenv("HEADRACE_STREAMS")
    with pytest.raises(InvalidSetting, match=r"; correct what the command was given$"):
        load_settings(streams={"runtime": {"linger_ms": 10_001}})


def test_what_several_fields_say_together_names_the_one_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the whole section that holds them."""
    monkeypatch.setenv("HEADRACE_TRAINERS__LEARNER__MAX_BACKLOG", "10000")
    with pytest.raises(
        InvalidSetting, match=r"^setting trainers\.learner\.max_backlog is 10000, but must be at most 8192: .*; lower it$"
    ):
        load_settings()


def test_a_file_that_names_a_setting_twice_is_refused(tmp_path: Path) -> None:
    """JSON as TOML: nobody could say which value is meant. An empty file sets nothing."""
    for name, text in (("a.json", '{"seed": 3, "seed": 4}'), ("a.toml", "seed = 3\nseed = 4\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InvalidSetting, match=r"seed|overwrite"):
            load_settings(tmp_path / name)
    (tmp_path / "empty.json").write_text(" \n")
    assert load_settings(tmp_path / "empty.json").seed == load_settings().seed


def test_a_name_that_does_not_exist_tells_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the nearest of them."""
    monkeypatch.setenv("HEADRACE_KAFKA_SECURITY__PROTOKOL", "ssl")
    known = ", ".join(KafkaSecurity.model_fields)
    with pytest.raises(InvalidSetting, match=rf"'protokol'.*one of {known}; did you mean protocol\? correct HEADRACE_KAFKA"):
        load_settings()


def test_what_may_be_a_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password of the wrong form."""
    monkeypatch.setenv("HEADRACE_REDIS_SECURITY", '{"password": ["hunter2"]}')
    with pytest.raises(InvalidSetting, match=r"redis_security\.password is 'not shown'") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("command", "bound"),
    [
        (("demo", "--items", "5"), "it is '5', but must be an integer of at least 100 (Items of the catalogue)"),
        (("demo", "--minutes", "0.1"), "it is '0.1', but must be a number from 0.2 to 600 (Wall minutes, everything"),
        (("quarantine", "list", "--limit", "x"), "it is 'x', but must be an integer from 1 to 10,000 (Newest so many)"),
    ],
)
def test_an_option_that_breaks_a_bound(command: tuple[str, ...], bound: str) -> None:
    """Commands of groups too; the status is that of every wrong use."""
    done = CliRunner().invoke(app, list(command))
    said = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2
    assert f"Invalid value for '{command[-2]}': {bound}" in said and "name another value" in said
