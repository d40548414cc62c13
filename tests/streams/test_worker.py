"""The workers by name: what they load, and what they refuse."""

from __future__ import annotations

import subprocess
import sys

import pytest

from schemas.artefacts import Artefacts
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from streams.worker import run_worker


def test_the_attribution_worker_loads_neither_torch_nor_the_text_encoder() -> None:
    """A worker process has to stay small; importing its whole code must not load the heavy libraries."""
    code = (
        "import sys; from streams.worker import agents_of; from streams.settings import StreamSettings;"
        "import streams.runtime.process;"
        "agents_of('attribution', None, None, None, StreamSettings(), None);"
        "heavy = {'torch', 'onnxruntime', 'transformers', 'pandas', 'sklearn', 'faiss'} & set(sys.modules);"
        "sys.exit(','.join(sorted(heavy)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_worker_is_refused_with_the_names_there_are() -> None:
    """No process, no broker is needed for that."""
    with pytest.raises(InvalidRequest, match="one of attribution, posteriors, rewarding, keywords"):
        run_worker(["atribution"], Connections(store="/tmp/none"), Artefacts())


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["attribution", "attribution"], "each once"),
        ([], "at least one"),
        (["keywords", "integrity"], "keywords alone"),
        (["integrity", "nobody"], "one of attribution"),
    ],
)
def test_workers_that_cannot_share_a_process_are_refused(names: list[str], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        run_worker(names, Connections(store="/tmp/none"), Artefacts())
