"""Which workers share a process under `headrace up`."""

from __future__ import annotations

import pytest

from headrace.settings import Settings
from headrace.stack import worker_processes
from streams.worker import NAMES, check_names


@pytest.mark.parametrize(("apart", "first"), [(False, ("attribution", "integrity")), (True, ("attribution",))])
def test_every_worker_has_a_place_and_integrity_its_own_where_that_is_wished(apart: bool, first: tuple[str, ...]) -> None:
    settings = Settings.model_validate({"streams": {"integrity": {"apart": apart}}})
    found = worker_processes(settings)
    assert found[0] == first
    assert sorted(name for names in found for name in names) == sorted(NAMES)
    for names in found:
        check_names(names)
