"""Where the outside is: Kafka, Redis, the database and the file store; and as whom we go there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from schemas.errors import InvalidSetting
from schemas.security import DatabaseSecurity, KafkaSecurity, RedisSecurity

#: Scheme and user, and the password after them: up to the last @ before a query, as it may hold one itself.
_PASSWORD = re.compile(r"^([a-zA-Z][\w+.-]*://[^:/@?]*):(?:([^?]*)|([^@]*))@")
_IN_QUERY = re.compile(r"[?&](?:ssl_?)?password=", re.IGNORECASE)
#: Addresses that may carry a password, and the section it is moved to.
_URLS = {"redis": "redis_security", "database": "database_security"}


class Connections(BaseModel):
    """Addresses that every process needs. `headrace up` fills them with its embedded services.

    A password in the address of Redis or the database is moved into its security section at once, where it is masked.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kafka: str = Field("", description="Kafka bootstrap servers, host:port, comma separated")
    redis: str = Field("", description="Redis URL, redis://host:port/db, rediss:// with TLS, or unix:///path")
    database: str = Field("", description="SQLAlchemy URL of the database, sqlite:///file or postgresql+psycopg://...")
    store: str = Field("", description="fsspec URL of the folder for snapshots, checkpoints, codebooks; a path is local")
    partitions: int = Field(2, ge=1, le=1000, description="partitions of each event topic when topics are created")
    kafka_security: KafkaSecurity = Field(KafkaSecurity(), description="TLS and user for Kafka")
    redis_security: RedisSecurity = Field(RedisSecurity(), description="user and certificates for Redis")
    database_security: DatabaseSecurity = Field(DatabaseSecurity(), description="user and certificates for PostgreSQL")

    @model_validator(mode="before")
    @classmethod
    def _take_passwords_out(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        moved = dict(given)
        for name, section in _URLS.items():
            if isinstance(url := given.get(name), str):
                moved[name], password = split_password(url)
                if _IN_QUERY.search(url):
                    bound, remedy = "a URL without password= in its query", f"set HEADRACE_{section.upper()}__PASSWORD"
                    raise InvalidSetting(f"setting {name}", "a URL with one", bound, remedy)
                if password:
                    moved[section] = _with_password(section, given.get(section), password)
        return moved

    @model_validator(mode="after")
    def _fits_addresses(self) -> Self:
        redis, database = self.redis_security, self.database_security
        if (redis.ca_file or redis.certificate_file) and self.redis and not self.redis.startswith("rediss://"):
            raise InvalidSetting("setting redis", self.redis, "a rediss:// URL with certificates", "correct HEADRACE_REDIS")
        if database != DatabaseSecurity() and self.database and not self.database.startswith("postgresql"):
            bound = "a postgresql URL when database_security is set"
            raise InvalidSetting("setting database", self.database, bound, "correct HEADRACE_DATABASE")
        if split_password(self.store)[1]:
            bound, remedy = "a URL without a password", "give it as fsspec's FSSPEC_<PROTOCOL>_PASSWORD"
            raise InvalidSetting("setting store", without_password(self.store), bound, remedy)
        return self


def split_password(url: str) -> tuple[str, str]:
    """A URL without its password, and the password; empty when it has none."""
    found = _PASSWORD.match(url)
    if found is None:
        return url, ""
    at = "" if found[1].endswith("://") else "@"
    return f"{found[1]}{at}{url[found.end() :]}", unquote(found[2] or found[3] or "")


def without_password(url: str) -> str:
    """A URL to show: *** in the place of a password."""
    return _PASSWORD.sub(r"\1:***@", url)


def _with_password(section: str, security: Any, password: str) -> dict[str, Any]:
    """The section, given as a model or a mapping, with the password of its URL."""
    fields = dict(security) if security is not None else {}
    own = fields.get("password", "")
    own = own.get_secret_value() if isinstance(own, SecretStr) else own
    if fields.get("password_file") or own not in ("", password):
        name = section.removesuffix("_security")
        bound, remedy = "without a password when its section has one", f"take it out of HEADRACE_{name.upper()}"
        raise InvalidSetting(f"setting {name}", "a URL with a password", bound, remedy)
    return fields | {"password": password}
