"""Settings of a demo: what was typed over what the environment says, that over the demo's own values, those over defaults."""

from __future__ import annotations

import pytest

from headrace.demo.profile import demo_settings
from headrace.shop.settings import ShopSettings
from schemas.errors import InvalidSetting


def test_typed_over_environment_over_the_demos_own_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable of a section must not fix the section's other fields."""
    monkeypatch.setenv("HEADRACE_SHOP__USERS", "77")
    monkeypatch.setenv("HEADRACE_SHOP__ITEMS", "900")
    monkeypatch.setenv("HEADRACE_STREAMS__ATTRIBUTION__TICK_GRID_S", "30")
    settings, minutes = demo_settings("shop", 4, seed=9, items=400)
    assert (settings.shop.items, settings.shop.seed, settings.seed) == (400, 9, 9)
    assert (settings.shop.users, settings.shop.queries) == (77, ShopSettings().queries)
    # 240 s less 100 s of overhead leave 140 s; 32 % of them warm the model up, 95.2 s are live at 32 searches a second.
    assert minutes * 60 == pytest.approx(95.2)
    assert settings.trainers.warm_start.seconds == pytest.approx(44.8)
    assert settings.shop.live_requests == 3_046
    assert (settings.streams.attribution.tick_grid_s, settings.streams.attribution.lateness_s) == (30, 3_600)


def test_the_catalogue_of_a_data_folder_has_its_own_size() -> None:
    with pytest.raises(InvalidSetting, match="--items"):
        demo_settings("/some/folder", 5, seed=1, items=100)
