"""Who we are to Kafka, Redis and the database, and whom we trust: users, secrets and certificates.

A secret comes inline, from the environment or a settings file, or by the name of a file. It is masked wherever a model is
printed, and left out where one is dumped: what is kept of a run holds the file's name, never the secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from schemas.errors import InvalidSetting

#: Fields that hold a secret itself.
SECRETS = ("password", "key_password")
#: Fields that name a file.
_FILES = ("password_file", "ca_file", "certificate_file", "key_file")
_NONE = SecretStr("")


class Security(BaseModel):
    """What the three services have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    #: Name of the section in the settings.
    SECTION: ClassVar[str]

    username: str = Field("", description="user name; empty: none, or the one in the address")
    password: SecretStr = Field(_NONE, exclude=True, description="the password itself; rather name a file")
    password_file: str = Field("", description="file that holds the password; a line end after it does not count")
    ca_file: str = Field("", description="PEM file of the authorities that are trusted; empty: the system's")
    certificate_file: str = Field("", description="PEM file of our own certificate, where the service asks for one")
    key_file: str = Field("", description="PEM file of its private key; empty: it is in the certificate's file")
    key_password: SecretStr = Field(_NONE, exclude=True, description="password of the private key; empty: it has none")

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.password.get_secret_value() and self.password_file:
            bound = f"empty when {self.SECTION}.password is given"
            raise self.invalid("password_file", self.password_file, bound, "unset one of the two")
        if self.key_file and not self.certificate_file:
            raise self.invalid("certificate_file", "", "named with key_file", "name the certificate of that key")
        if self.key_password.get_secret_value() and not self.certificate_file:
            raise self.invalid("certificate_file", "", "named with key_password", "name the certificate of that key")
        for name in _FILES:
            if path := getattr(self, name):
                self._check_file(name, path)
        return self

    def _check_file(self, name: str, path: str) -> None:
        try:
            with Path(path).open("rb") as file:
                empty = not file.read(1)
        except OSError as error:
            bound = "a file that can be read"
            raise self.invalid(name, path, bound, f"correct the path or its permissions ({error.strerror})") from error
        if empty:
            raise self.invalid(name, path, "a file that is not empty", "write what belongs there into it")

    @property
    def has_password(self) -> bool:
        """Whether a password is given, inline or by a file."""
        return bool(self.password.get_secret_value() or self.password_file)

    def secret(self) -> str:
        """The password; empty when there is none. A file is read at each call, so that it can be renewed.

        Raises:
            InvalidSetting: its file cannot be read any more.
        """
        if not self.password_file:
            return self.password.get_secret_value()
        self._check_file("password_file", self.password_file)
        try:
            return Path(self.password_file).read_text("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:  # not chained: it carries the file's bytes
            raise self.invalid("password_file", self.password_file, "a text in UTF-8", "write it anew") from None

    def invalid(self, name: str, value: str, bound: str, remedy: str) -> InvalidSetting:
        """The error about one field; ``value`` is never a secret."""
        return InvalidSetting(f"setting {self.SECTION}.{name}", value, bound, remedy)


class KafkaSecurity(Security):
    """How the brokers know us, and we them."""

    SECTION: ClassVar[str] = "kafka_security"

    protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = Field(
        "plaintext", description="security protocol of the listener; sasl_: with a user, ssl: encrypted"
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, for the sasl_ protocols"
    )
    check_hostname: bool = Field(True, description="whether a broker's certificate has to name its host")

    @property
    def sasl(self) -> bool:
        """Whether a user logs in."""
        return self.protocol.startswith("sasl_")

    @property
    def tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.protocol.endswith("ssl")

    @model_validator(mode="after")
    def _fits_protocol(self) -> Self:
        variable = f"HEADRACE_{self.SECTION.upper()}"
        if self.sasl and not self.username:
            raise self.invalid("username", "", f"given with protocol {self.protocol}", f"set {variable}__USERNAME")
        if self.sasl and not self.has_password:
            remedy = f"set {variable}__PASSWORD_FILE or {variable}__PASSWORD"
            raise self.invalid("password", "", f"given with protocol {self.protocol}", remedy)
        if not self.sasl and (self.username or self.has_password):
            bound = "sasl_ssl or sasl_plaintext when a user or a password is given"
            raise self.invalid("protocol", self.protocol, bound, f"set {variable}__PROTOCOL")
        if not self.tls and (self.ca_file or self.certificate_file):
            raise self.invalid("protocol", self.protocol, "ssl or sasl_ssl with certificates", f"set {variable}__PROTOCOL")
        return self


class RedisSecurity(Security):
    """User and certificates for Redis; ``rediss://`` in its address turns TLS on."""

    SECTION: ClassVar[str] = "redis_security"

    check_hostname: bool = Field(True, description="whether the server's certificate has to name its host")


class DatabaseSecurity(Security):
    """User and certificates for PostgreSQL."""

    SECTION: ClassVar[str] = "database_security"

    sslmode: Literal["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "", description="libpq's sslmode; empty: verify-full with a ca_file, else libpq's own default"
    )
