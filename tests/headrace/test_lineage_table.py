"""What `headrace lineage` prints: ids that can be copied, on a narrow terminal too."""

from __future__ import annotations

import io

from msgspec.structs import replace
from rich.console import Console

from headrace.commands.training import lineage_table
from trainers.lineage import Stretch

PLAIN = Stretch(
    checkpoint="00012347-632734f7", parent="00012311-5a0e4a3c", first_step=12312, last_step=12347, created_ms=0, learner="tpma",
    offsets={0: (14230, 15121), 1: (14231, 15122)}, prompts=576, examples=40, weights_versions=(1, 2), snapshot_versions=(142, 143, 144),
    relevance_version="r", codebook_version="c", settings_changed=(), gone_back=(), promoted=False, reason="", whole=True,
)  # fmt: skip


def printed(*line: Stretch) -> list[list[str]]:
    output = io.StringIO()
    Console(file=output, width=80).print(lineage_table(list(line)))
    return [row.split() for row in output.getvalue().splitlines()]


def test_each_cell_is_whole_on_80_columns() -> None:
    rows = printed(PLAIN, replace(PLAIN, parent="", offsets={}, weights_versions=(), snapshot_versions=(), promoted=None))
    assert rows[1] == ["00012347-632734f7", "12312-12347", "0:", "14230-15121", "576", "1-2", "142-144", "kept", "back"]
    assert rows[2] == ["1:", "14231-15122"]
    assert rows[3] == ["00012347-632734f7", "start", "576"]


def test_what_is_rare_stands_below_the_id() -> None:
    rows = printed(replace(PLAIN, whole=False, settings_changed=("group",), gone_back=((12330, "00012311-5a0e4a3c"),)))
    assert [row[:2] for row in rows[2:4]] == [["manifest", "alone"], ["group", "changed"]]
    assert [row[0] for row in rows[4:]][:1] == ["from"]
