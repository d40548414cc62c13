"""Which workers share a process under `headrace up`, and whose ports they are."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from headrace.folder import RunFolder
from headrace.settings import Settings
from headrace.stack import Stack, worker_processes
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
