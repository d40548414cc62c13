"""Security settings: what is refused, by which words, and that a secret is never among them."""

from __future__ import annotations

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headrace.settings import Settings, load_settings
from schemas.client_log import CLIENT_LOG, LEVEL
from schemas.clients import database_engine, faust_broker, kafka_python, librdkafka
from schemas.connections import Connections, split_password, without_password
from schemas.errors import InvalidSetting

SECRET = "s3cr3t-of-ours"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of whoever runs the tests say nothing here."""
    for name in ("KAFKA", "REDIS", "DATABASE", "STORE", "SETTINGS"):
        monkeypatch.delenv(f"HEADRACE_{name}", raising=False)


def load(tmp_path: Path, content: dict[str, Any]) -> Settings:
    """Settings of a file with this content."""
    file = tmp_path / "settings.json"
    file.write_text(json.dumps(content))
    return load_settings(file)


@pytest.mark.parametrize(
    ("url", "clean", "password", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0", "", "redis://h:1/0"),
        ("redis://:pw@h:1/0", "redis://h:1/0", "pw", "redis://:***@h:1/0"),
        ("rediss://me:p%40w@h:1/0?x=a@b", "rediss://me@h:1/0?x=a@b", "p@w", "rediss://me:***@h:1/0?x=a@b"),
        ("postgresql+psycopg://u:a/b@c@h/d", "postgresql+psycopg://u@h/d", "a/b@c", "postgresql+psycopg://u:***@h/d"),
        ("postgresql://u:p?x@h/d", "postgresql://u@h/d", "p?x", "postgresql://u:***@h/d"),
        ("sqlite:////tmp/a:b@c.db", "sqlite:////tmp/a:b@c.db", "", "sqlite:////tmp/a:b@c.db"),
        ("/tmp/a:b@c", "/tmp/a:b@c", "", "/tmp/a:b@c"),
    ],
)
def test_a_password_is_found_in_a_url(url: str, clean: str, password: str, shown: str) -> None:
    """Taken out of it, and hidden in it; also where it holds characters that should have been quoted."""
    assert split_password(url) == (clean, password)
    assert without_password(url) == shown


def test_a_password_in_a_url_is_moved_and_masked() -> None:
    """Redis and the database keep user and host in the address; the client still gets the password."""
    found = Connections(redis=f"redis://me:{SECRET}@h:1/0", database=f"postgresql+psycopg://me:{SECRET}@h/d")
    assert (found.redis, found.database) == ("redis://me@h:1/0", "postgresql+psycopg://me@h/d")
    assert found.redis_security.secret() == found.database_security.secret() == SECRET
    assert database_engine(found).url.password == SECRET
    assert SECRET not in repr(found) + str(found) + found.model_dump_json() + repr(found.model_dump())
    assert SECRET not in repr(database_engine(found))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no user": (
        {"protocol": "sasl_ssl", "password": SECRET},
        r"kafka_security\.username .*HEADRACE_KAFKA_SECURITY__USERNAME",
    ),
    "no password": ({"protocol": "sasl_ssl", "username": "u"}, r"kafka_security\.password .*SECURITY__PASSWORD_FILE"),
    "both": (
        {"protocol": "sasl_ssl", "username": "u", "password": SECRET, "password_file": "{file}"},
        "password_file .*unset",
    ),
    "no file": ({"protocol": "sasl_ssl", "username": "u", "password_file": "/nowhere"}, "'/nowhere', but must be a file"),
    "a folder": ({"protocol": "ssl", "ca_file": "/"}, r"kafka_security\.ca_file is '/', but must be a file"),
    "protocol": ({"protocol": "tls", "password": SECRET}, r"kafka_security\.protocol is 'tls'.*sasl_ssl"),
    "mechanism": ({"mechanism": "GSSAPI", "password": SECRET}, r"kafka_security\.mechanism is 'GSSAPI'"),
    "unused user": ({"username": "u", "password": SECRET}, r"protocol is 'plaintext', but must be sasl_ssl"),
    "unused ca": ({"ca_file": "{file}"}, r"protocol is 'plaintext', but must be ssl"),
    "key alone": ({"protocol": "ssl", "key_file": "{file}", "key_password": SECRET}, "certificate_file .*key_file"),
    "a slip": ({"protocol": "ssl", "passwort": SECRET}, r"kafka_security\.passwort is 'passwort'.*mean password"),
    "no text": ({"protocol": "sasl_ssl", "username": "u", "password": [SECRET]}, r"kafka_security\.password is 'not shown'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_belong_together_is_refused_by_name(case: str, tmp_path: Path) -> None:
    """From a file, through the settings: name, value and remedy; the secret is nowhere, not even in the traceback."""
    fields, message = REFUSED[case]
    (tmp_path / "file").write_text("x")
    given = {name: str(tmp_path / "file") if value == "{file}" else value for name, value in fields.items()}
    with pytest.raises(InvalidSetting, match=message) as caught:
        load(tmp_path, {"kafka": "h:1", "kafka_security": given})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"redis": "redis://h/0", "redis_security": {"ca_file": "{file}"}}, "setting redis .*rediss://"),
        ({"redis": f"redis://:{SECRET}@h/0", "redis_security": {"password": "other"}}, "setting redis .*take it out"),
        ({"redis": f"redis://:{SECRET}@h/0", "redis_security": {"password_file": "{file}"}}, "setting redis .*take it out"),
        ({"redis": f"redis://h/0?password={SECRET}"}, "setting redis .*REDIS_SECURITY__PASSWORD"),
        ({"database": f"postgresql://h/d?sslpassword={SECRET}"}, "setting database .*DATABASE_SECURITY__PASSWORD"),
        ({"database": "sqlite:///x.db", "database_security": {"password": SECRET}}, "setting database .*postgresql"),
        ({"store": f"sftp://me:{SECRET}@h/x"}, r"setting store is 'sftp://me:\*\*\*@h/x'.*FSSPEC"),
        ({"kafka_securty": {"password": SECRET}}, "kafka_securty is 'kafka_securty'.*mean kafka_security"),
        ({"kafka_security": SECRET}, "kafka_security is 'not shown'"),
    ],
)
def test_addresses_and_their_security_fit(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    """Each combination that cannot be meant is refused, without its secret."""
    (tmp_path / "file").write_text("x")
    text = json.dumps(content).replace("{file}", str(tmp_path / "file"))
    with pytest.raises(InvalidSetting, match=message) as caught:
        load(tmp_path, json.loads(text))
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_file_or_variable_that_cannot_be_read_does_not_tell_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a JSON document with a secret in it."""
    (tmp_path / "settings.json").write_text(f'{{"kafka_security": {{"password": "{SECRET}"')
    with pytest.raises(InvalidSetting, match=r"settings\.json") as caught:
        load_settings(tmp_path / "settings.json")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    monkeypatch.setenv("HEADRACE_KAFKA_SECURITY", f'{{"password": "{SECRET}"')
    with pytest.raises(InvalidSetting, match="kafka_security") as caught:
        load_settings()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_pydantics_own_error_hides_its_input() -> None:
    """Whoever builds the model in code and prints the error."""
    with pytest.raises(ValidationError) as caught:
        Connections.model_validate({"kafka_security": {"password": [SECRET], "passwort": SECRET}})
    assert SECRET not in str(caught.value)


def test_environment_over_file_and_a_file_that_is_read_at_each_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """User in the settings file, the password's file by a variable; a renewed password needs no restart of the settings."""
    (tmp_path / "password").write_text(f"{SECRET}\r\n")
    monkeypatch.setenv("HEADRACE_KAFKA_SECURITY__PASSWORD_FILE", str(tmp_path / "password"))
    given = {"protocol": "sasl_plaintext", "username": "shop", "mechanism": "PLAIN"}
    settings = load(tmp_path, {"kafka": "h:1", "kafka_security": given})
    assert librdkafka(settings.connections) == {
        "bootstrap.servers": "h:1", "security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN",
        "sasl.username": "shop", "sasl.password": SECRET, "logger": CLIENT_LOG, "log_level": LEVEL,
    }  # fmt: skip
    assert settings.secret_environment() == {}
    (tmp_path / "password").write_text("renewed")
    assert kafka_python(settings.connections)["sasl_plain_password"] == "renewed"
    assert faust_broker(settings.connections)["broker_credentials"].password == "renewed"


def test_settings_that_are_kept_refer_to_secrets_and_do_not_hold_them(tmp_path: Path) -> None:
    """What a dump leaves out is what a child gets by its environment."""
    kafka = {"protocol": "sasl_plaintext", "username": "shop", "password": SECRET}
    settings = load(tmp_path, {"kafka": "h:1", "kafka_security": kafka, "redis": f"redis://:{SECRET}@h/0"})
    assert SECRET not in settings.model_dump_json() + repr(settings)
    assert settings.secret_environment() == {
        "HEADRACE_KAFKA_SECURITY__PASSWORD": SECRET,
        "HEADRACE_REDIS_SECURITY__PASSWORD": SECRET,
    }
