"""All settings of a run: one file, the environment over it, each room's own model inside.

The file is JSON or TOML, named by ``HEADRACE_SETTINGS``; a run folder keeps the effective one as ``settings.json``.
Environment: ``HEADRACE_KAFKA=host:9092``, or nested as ``HEADRACE_TRAINERS__LEARNER__GROUP=8``.
"""

from __future__ import annotations

import os
from contextvars import ContextVar
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import jiter
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from console.settings import LOOPBACK, ConsoleSettings
from headrace.setting_errors import invalid_setting
from headrace.shop.settings import DeliverySettings, ShopSettings
from reward.settings import RewardSettings
from schemas.connections import Connections
from schemas.errors import InvalidSetting
from schemas.security import SECRETS
from serving.settings import ServingSettings
from streams.settings import StreamSettings
from trainers.settings import TrainerSettings

#: Names the settings file.
FILE_VARIABLE = "HEADRACE_SETTINGS"
#: Begins the name of every variable that is a setting.
PREFIX = "HEADRACE_"
#: The file that is being loaded: pydantic asks for the sources without saying for whom.
_file: ContextVar[str] = ContextVar("file", default="")


class _UniqueJson(JsonConfigSettingsSource):
    """JSON readers take the last of two values of one name; TOML's refuse them, and so does this one."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        text = file_path.read_bytes().strip()  # an empty file sets nothing
        found: dict[str, Any] = jiter.from_json(text, catch_duplicate_keys=True) if text else {}
        return found


class Settings(BaseSettings, Connections):
    """Everything that can be set. Sections belong to the rooms and are documented there."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    kafka: str = Field("", description="Kafka bootstrap servers; empty: an embedded broker is started")
    redis: str = Field("", description="Redis URL; empty: an embedded Redis is started")
    database: str = Field("", description="SQLAlchemy URL; empty: SQLite in the run folder")
    store: str = Field("", description="fsspec URL of the artefact store; empty: a folder in the run folder")
    services: Literal["embedded", "containers", "external"] = Field(
        "embedded", description="where services come from when no address is given; otherwise addresses are required"
    )
    embedded: tuple[str, ...] = Field((), description="services whose address is that of this run's own child process")
    data: str = Field("shop", description="`shop`, or the path of a data folder (docs/data.md)")
    seed: int = Field(1, ge=0, le=2**31 - 1, description="seed of every random number of the run")
    tracing: str = Field("", description="OTLP/HTTP base URL that spans go to, http://host:4318; empty: none are exported")
    now_ms: int = Field(0, ge=0, description="event time at which the simulated clock ends, ms; 0: when the run starts")

    reward: RewardSettings = RewardSettings()
    streams: StreamSettings = StreamSettings()
    trainers: TrainerSettings = TrainerSettings()
    serving: ServingSettings = ServingSettings()
    console: ConsoleSettings = ConsoleSettings()
    shop: ShopSettings = ShopSettings()
    delivery: DeliverySettings = DeliverySettings()

    def without_embedded(self) -> Settings:
        """The same settings without the addresses of child processes: they get new ones when they start again."""
        return self.model_copy(update=dict.fromkeys(self.embedded, "") | {"embedded": ()})

    @property
    def connections(self) -> Connections:
        """The addresses, for the rooms below."""
        return Connections.model_construct(**{name: getattr(self, name) for name in Connections.model_fields})

    def secret_environment(self) -> dict[str, str]:
        """The secrets that a settings file leaves out, as the environment of a process that is given one."""
        found = {}
        for section in (self.kafka_security, self.redis_security, self.database_security):
            for name in SECRETS:
                if secret := getattr(section, name).get_secret_value():
                    found[f"HEADRACE_{section.SECTION}__{name}".upper()] = secret
        return found

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over file."""
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if path := _file.get() or os.environ.get(FILE_VARIABLE):
            source = TomlConfigSettingsSource if path.endswith(".toml") else _UniqueJson
            sources.append(source(settings_cls, Path(path)))
        return tuple(sources)


def load_settings(file: Path | None = None, /, **changes: Any) -> Settings:
    """Settings from file and environment, with ``changes`` over both. ``file``: instead of the one HEADRACE_SETTINGS names.

    Raises:
        InvalidSetting: names the first field, its value and its bound.
    """
    path = str(file or os.environ.get(FILE_VARIABLE, ""))
    if path and not Path(path).is_file():
        raise InvalidSetting(FILE_VARIABLE, path, "an existing file", "name a settings file, or unset it")
    token = _file.set(path)
    try:
        return Settings(**changes)
    except ValidationError as error:
        raise invalid_setting(error.errors()[0], Settings, PREFIX, path, changes) from error
    except ValueError as error:  # not chained: it may carry the text that cannot be read
        what = path if path and not isinstance(error, SettingsError) else "the environment"
        raise InvalidSetting("the settings", what, "JSON or TOML of the documented form", f"correct it ({error})") from None
    finally:
        _file.reset(token)


def with_open_console(settings: Settings) -> Settings:
    """For a run of one person on one machine: the console asks for no token there, unless somebody set that it does."""
    console = settings.console
    if "access" in console.model_fields_set or console.host not in LOOPBACK:
        return settings
    return settings.model_copy(update={"console": console.model_copy(update={"access": "open"})})
