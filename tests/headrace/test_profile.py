"""Settings of a demo: what was typed over what the environment says, that over the demo's own values, those over defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from headrace.demo.profile import OVERHEAD_S, SEARCHES_PER_S, demo_settings, live_minutes, slowness
from headrace.folder import RunFolder
from headrace.settings import load_settings
from headrace.shop.settings import ShopSettings
from schemas.errors import InvalidSetting


def test_typed_over_environment_over_the_demos_own_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable of a section must not fix the section's other fields."""
    monkeypatch.setenv("HEADRACE_SHOP__USERS", "77")
    monkeypatch.setenv("HEADRACE_SHOP__ITEMS", "900")
    monkeypatch.setenv("HEADRACE_STREAMS__ATTRIBUTION__TICK_GRID_S", "30")
    settings, minutes = demo_settings("shop", 3, seed=9, items=400)
    assert (settings.shop.items, settings.shop.seed, settings.seed) == (400, 9, 9)
    assert (settings.shop.users, settings.shop.page) == (77, ShopSettings().page)
    live_s = minutes * 60
    assert 0 < live_s < 180 - OVERHEAD_S["shop"]
    assert settings.shop.live_requests == int(live_s * SEARCHES_PER_S) < ShopSettings().live_requests
    assert (settings.streams.attribution.tick_grid_s, settings.streams.attribution.lateness_s) == (30, 3_600)


def test_a_runs_settings_are_its_own_and_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run was started with, the environment over it; the next settings loaded know nothing of that run."""
    before = load_settings()
    folder = RunFolder(tmp_path)
    folder.save(before.model_copy(update={"seed": 77, "data": "/some/folder"}))
    monkeypatch.setenv("HEADRACE_DATA", "shop")
    assert (folder.settings().seed, folder.settings().data) == (77, "shop")
    assert load_settings() == before


def test_the_catalogue_of_a_data_folder_has_its_own_size() -> None:
    with pytest.raises(InvalidSetting, match="--items"):
        demo_settings("/some/folder", 5, seed=1, items=100)


def test_a_demo_that_began_slowly_has_a_shorter_live_part() -> None:
    """Of 5 minutes 91 s are gone and 42 s are needed afterwards: 167 s are left; never less than half of the plan, never more than all."""
    assert live_minutes(5, 3.0, 91, "shop") == pytest.approx(167 / 60)
    assert live_minutes(5, 2.9, 60, "shop") == 2.9
    assert live_minutes(2, 2.9, 600, "shop") == pytest.approx(1.45)
    assert live_minutes(10, 7, 240, "/some/folder") == pytest.approx(4)


def test_a_slow_machine_keeps_more_of_a_demo_for_what_comes_after_the_live_part() -> None:
    """A warm start of 270 steps at 9 a second is 30 s of an idle core: 45 s are 1.5 times that, and 42 s become 63."""
    settings = load_settings(trainers={"warm_start": {"steps": 270}})
    assert slowness(settings, 45) == pytest.approx(1.5)
    assert slowness(settings, 20) == 1
    assert live_minutes(5, 3.0, 120, "shop", 1.5) == pytest.approx((300 - 120 - 63) / 60)


def test_a_demos_console_is_open_on_this_machine_unless_somebody_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open by itself; not on an address that others reach; and never against a setting."""
    assert load_settings().console.access == "tokens"
    assert demo_settings("shop", 3, None, None)[0].console.access == "open"
    monkeypatch.setenv("HEADRACE_CONSOLE__ACCESS", "tokens")
    assert demo_settings("shop", 3, None, None)[0].console.access == "tokens"
    monkeypatch.delenv("HEADRACE_CONSOLE__ACCESS")
    monkeypatch.setenv("HEADRACE_CONSOLE__HOST", "0.0.0.0")
    assert demo_settings("shop", 3, None, None)[0].console.access == "tokens"
    monkeypatch.setenv("HEADRACE_CONSOLE__ACCESS", "open")
    with pytest.raises(InvalidSetting, match=r"console\.host"):
        load_settings()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("kafka", "broker:9092"),
        ("redis", "redis://:secret@cache:6379/0"),
        ("database", "postgresql+psycopg://me:secret@db/shop"),
        ("store", "/srv/store"),
    ],
)
def test_a_demo_writes_to_no_service_of_ours_unless_told_to(
    name: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address that the shell has for work is refused, without its password; the option says that it is meant."""
    monkeypatch.setenv(f"HEADRACE_{name.upper()}", address)
    with pytest.raises(InvalidSetting, match=f"setting {name}.*unset HEADRACE_{name.upper()}.*--own-services") as caught:
        demo_settings("shop", 3, None, None)
    assert "secret" not in str(caught.value)
    settings, _ = demo_settings("shop", 3, None, None, own_services=True)
    assert getattr(settings, name)
