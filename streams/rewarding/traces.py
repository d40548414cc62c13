"""A span for each training example that was committed, below the search that it comes from, where spans are exported."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.topics import EXAMPLES
from schemas.tracing import recording, span
from streams.runtime.core import Output


class _Head(msgspec.Struct):
    example_id: str
    request_id: str
    trace: str = ""


_decoder = msgspec.json.Decoder(_Head)


def tell_traces(outputs: Sequence[Output]) -> None:
    """One span ``training.example`` an example with a trace; nothing where nobody records them."""
    if not recording():
        return
    for output in outputs:
        if output.topic == EXAMPLES.name and (head := _decoder.decode(output.value)).trace:
            with span("training.example", head.trace, example_id=head.example_id, request_id=head.request_id):
                pass  # it marks a moment: the example is in the log
