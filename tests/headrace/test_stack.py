"""Which workers share a process under `headrace up`, and whose ports they are."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from headrace.folder import RunFolder
from headrace.ranks import GRACE_S
from headrace.settings import Settings
from headrace.stack import STOP_GRACE_S, Stack, worker_processes
from headrace.supervisor import Supervisor
from schemas.errors import Conflict
from streams.worker import NAMES, check_names


@pytest.mark.parametrize(("apart", "first"), [(False, ("attribution", "integrity")), (True, ("attribution",))])
def test_every_worker_has_a_place_and_integrity_its_own_where_that_is_wished(apart: bool, first: tuple[str, ...]) -> None:
    settings = Settings.model_validate({"streams": {"integrity": {"apart": apart}}})
    found = worker_processes(settings)
    assert found[0] == first
    assert sorted(name for names in found for name in names) == sorted(NAMES)
    for names in found:
        check_names(names)


@pytest.mark.parametrize(
    ("runtime", "grace_s"),
    [({}, STOP_GRACE_S), ({"transaction_timeout_s": 300, "stop_timeout_s": 20}, 2 * (300 + 20))],
)
def test_a_process_is_not_killed_before_its_clean_stop_can_have_ended(
    runtime: dict[str, float], grace_s: float, tmp_path: Path
) -> None:
    """As shipped a worker has two transactions of 60 s and twice 8 s, and something to dump its states in; the learner's ranks have
    their own grace within. Longer settings lengthen it. All end together."""
    settings = Settings.model_validate({"streams": {"runtime": runtime}})
    with Supervisor(tmp_path) as supervisor:
        child = Stack(RunFolder(tmp_path), settings, supervisor)._child("worker-attribution", "worker", "attribution")
    assert child.grace_s == grace_s >= settings.streams.runtime.longest_stop_s and child.beside
    assert Settings().streams.runtime.longest_stop_s == 2 * (60 + 8) <= STOP_GRACE_S - 30 and GRACE_S < STOP_GRACE_S


def test_a_port_that_somebody_else_listens_on_is_refused(tmp_path: Path) -> None:
    """A stranger there would answer for our server: nothing is started, and the error names the setting."""
    with socket.create_server(("127.0.0.1", 0)) as other, Supervisor(tmp_path) as supervisor:
        port = other.getsockname()[1]
        stack = Stack(
            RunFolder(tmp_path), Settings.model_validate({"serving": {"port": port}, "console": {"port": port}}), supervisor
        )
        with pytest.raises(Conflict, match=rf"port {port} of the search server .* serving\.port"):
            stack.start_server()
        with pytest.raises(Conflict, match=rf"port {port} of the console .* console\.port"):
            stack.start_console()
        assert supervisor.poll() == [] and not list(tmp_path.glob("logs/server*"))
