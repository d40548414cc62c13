"""`headrace status` on a terminal of 80 columns, in a pipe, and again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.status import COLUMNS, status_lines
from schemas.codec import encode
from schemas.commits import Commit
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.topics import COMMITS, STATES
from streams.accounting import forget, standing
from streams.lag import Lag
from streams.producing import EventProducer
from streams.runtime.commit_log import commit_key, last_commit, snapshot, split
from streams.runtime.core import Output
from streams.runtime.log import LogReader
from streams.runtime.writer import TransactionWriter
from tests.streams.conftest import committed

ROWS = [
    Lag("attribution", 0, 0, 1_700_000_000_000, 123_456, 0.5, {}, 0.0, 3_600.0, 3 * 2**20, 12_345),
    Lag("posteriors-merger", 1, 1_234_567, 0, 7, 86_400.0, {}, 123_456.7, None, None, None),
]


def test_80_columns_hold_lag_watermark_and_age() -> None:
    """The longest agent, a lag of a million records and a commit of a day ago; units are in the titles."""
    lines = status_lines(ROWS, 80)
    assert max(map(len, lines)) <= 80
    assert lines[1].split("  ")[0] == "agent" and all(column.title in lines[1] for column in COLUMNS[:6])
    assert lines[2].split() == ["attribution", "0", "0", "0.0", "2023-11-14", "22:13:20", "0.5"]
    assert lines[3].split() == ["posteriors-merger", "1", "1,234,567", "123,456.7", "none", "yet", "86,400.0"]


def test_a_pipe_gets_every_column_in_a_line_a_row() -> None:
    """State in MiB, what a recovery replays in records, the commit's number."""
    header, first, _ = status_lines(ROWS)[1:]
    assert all(column.title in header for column in COLUMNS)
    assert first.split()[-4:] == ["3,600.0", "3.0", "12,345", "123456"]


@pytest.mark.services
def test_watching_into_a_file_writes_a_block_each_time(fresh_topics: Connections, tmp_path: Path) -> None:
    """Two blocks with a time and a header each, then Ctrl-C ends it well."""
    file, env = tmp_path / "status.txt", {"HEADRACE_KAFKA": fresh_topics.kafka, "HEADRACE_SERVICES": "external"}
    with file.open("w") as out:
        command = [sys.executable, "-m", "headrace.cli", "status", "--watch"]
        # Tests may run where Ctrl-C is ignored (a job in the background of a script), which a child inherits.
        watching = subprocess.Popen(command, stdout=out, env=os.environ | env, cwd=tmp_path, preexec_fn=_interruptible)
    try:
        deadline = time.monotonic() + 60
        while file.read_text().count("UTC\nagent  ") < 2:
            assert time.monotonic() < deadline and watching.poll() is None, file.read_text()
            time.sleep(0.1)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0
    finally:
        watching.kill()
        watching.wait()


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.services
def test_nobody_waits_for_the_open_transaction_of_a_worker_that_was_killed(
    fresh_topics: Connections, unique: Callable[[str], str]
) -> None:
    """Its commit does not count yet, and hides none that came before it."""

    def commit(partition: int) -> Output:
        value = encode(Commit("killed", partition, 3, {}, -1, 7, {}, 8))
        return Output(COMMITS.name, commit_key("killed", partition), value, partition)

    done, killed = (TransactionWriter(fresh_topics, unique("writer"), 60) for _ in range(2))
    for writer in (done, killed):
        writer.open(60)
    done.write([], [], lambda _: commit(0), 0)
    killed.prepare([commit(0)], [], lambda _: commit(1), 0)
    assert [(found.agent, found.partition) for found in standing(fresh_topics, 10)] == [("killed", 0)]
    killed.abandon()


@pytest.mark.services
def test_a_forgotten_agent_leaves_no_line_and_begins_anew(fresh_topics: Connections) -> None:
    """Of two agents with two partitions each one goes, and the states that it dumped, also the part that only an older, larger one
    had; a name that nobody has is refused with those there are. What the other dumped before and after is still read."""
    state = random.Random(1).randbytes(2_000)
    before, after, *_ = split("young", 0, 3, {}, state, 1_800)
    with EventProducer(fresh_topics) as producer:
        for agent in ("old", "young"):
            for partition in (0, 1):
                commit = Commit(agent, partition, 3, {}, 0, 7, {}, 8)
                producer.send(COMMITS.name, encode(commit), commit_key(agent, partition), partition)
        producer.send(STATES.name, before, b"young:0:0", 0)
        for sequence, parts in ((2, 3), (3, 2)):
            for n, part in enumerate(split("old", 0, sequence, {}, state, 2_300 // parts)):
                producer.send(STATES.name, part, b"old:0:%d" % n, 0)
    env = {"HEADRACE_KAFKA": fresh_topics.kafka, "HEADRACE_SERVICES": "external"}
    assert CliRunner().invoke(app, ["forget", "old"], env=env, input="n\n").exit_code == 1
    assert len(standing(fresh_topics)) == 4
    done = CliRunner().invoke(app, ["forget", "old"], env=env, input="y\n")
    assert done.exit_code == 0 and "forgot 2 partitions of old" in done.output
    assert [(commit.agent, commit.partition) for commit in standing(fresh_topics)] == [("young", 0), ("young", 1)]
    reader = LogReader(fresh_topics, 20)
    assert last_commit(reader, "old", 1, 2) is None and last_commit(reader, "young", 1, 2) is not None
    with EventProducer(fresh_topics) as producer:
        producer.send(STATES.name, after, b"young:0:1", 0)
    left = {key: value for partition in committed(fresh_topics, STATES.name) for key, value in partition}
    assert {key for key, value in left.items() if value} == {b"young:0:0", b"young:0:1"} and len(left) == 5
    assert snapshot(reader, Commit("young", 0, 3, {}, 0, 7, {}, 8), 2)[0] == state
    with pytest.raises(InvalidRequest, match="one with commits: young"):
        forget(fresh_topics, "old")
