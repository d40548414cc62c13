"""Previews of a run, as its settings have it."""

from __future__ import annotations

from headrace.settings import Settings
from reward.preview.service import Previews
from schemas.store import Store


def previews_of(settings: Settings, store: str, count: int | None = None) -> Previews:
    """Over the run's examples; rewards as its learner sees them. ``store``: its URL.

    Raises:
        InvalidRequest: ``count`` examples are outside the bounds.
    """
    expected = settings.trainers.learner.interaction == "expected"
    return Previews(settings.connections, Store(store), settings.reward, count=count, expected_interaction=expected)
