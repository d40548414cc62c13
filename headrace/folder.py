"""A run's folder: where its settings, logs, services' data, artefacts and report are."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from headrace.settings import Settings, load_settings
from schemas.errors import Unavailable


@dataclass(frozen=True)
class RunFolder:
    """Paths inside one run's folder; nothing is created before `create`."""

    root: Path

    @classmethod
    def new(cls, parent: Path = Path("runs")) -> RunFolder:
        """A folder named by the present time."""
        return cls((parent / dt.datetime.now().strftime("%Y%m%d-%H%M%S")).resolve())

    @classmethod
    def latest(cls, parent: Path = Path("runs")) -> RunFolder:
        """The newest run below ``parent``.

        Raises:
            Unavailable: there is none.
        """
        runs = sorted(p.parent for p in parent.glob("*/settings.json"))
        if not runs:
            raise Unavailable(
                f"a run below {parent}/",
                "none found",
                "start one with `headrace demo`, name one with --run, or a settings file with HEADRACE_SETTINGS",
            )
        return cls(runs[-1].resolve())

    @property
    def settings_file(self) -> Path:
        """The effective settings."""
        return self.root / "settings.json"

    @property
    def logs(self) -> Path:
        """One file a process."""
        return self.root / "logs"

    @property
    def store(self) -> Path:
        """Default artefact store."""
        return self.root / "store"

    @property
    def database(self) -> str:
        """Default database URL."""
        return f"sqlite:///{self.root / 'headrace.db'}"

    def create(self) -> None:
        """Make the folder and its logs."""
        self.logs.mkdir(parents=True, exist_ok=True)

    def save(self, settings: Settings) -> None:
        """Keep the effective settings for the run's processes and for whoever looks later; inline secrets are left out."""
        scratch = self.settings_file.with_suffix(".new")
        scratch.unlink(missing_ok=True)
        scratch.touch(mode=0o600)
        scratch.write_text(settings.model_dump_json(indent=1))
        scratch.replace(self.settings_file)

    def settings(self) -> Settings:
        """The settings this run was started with; the environment still goes over them."""
        return load_settings(self.settings_file)
