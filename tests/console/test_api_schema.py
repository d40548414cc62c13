"""schemathesis drives every endpoint by the OpenAPI document: no server error, and nothing that the document does not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from console.app import create_app
from console.settings import ConsoleSettings
from headrace.services.ports import free_port
from reward.desk.tokens import Tokens
from reward.preview.service import Previews
from reward.settings import DeskSettings, RewardSettings
from schemas.connections import Connections
from schemas.decisions import Actor, Role
from schemas.store import Store
from tests.console.served import listening
from tests.reward import preview_toys
from tests.reward.desk_toys import facts
from tests.reward.preview_toys import Log

#: Examples for an endpoint; with the seed fixed the same in every run.
EXAMPLES = 6
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip


#: What reads topics.
ASKING_A_BROKER = ("/api/training", "/api/integrity", "/api/preview", "/api/effect")


@pytest.mark.slow
def test_every_endpoint_answers_as_its_document_says(tmp_path: Path) -> None:
    """Each that asks no broker, with values that the document allows and values that it does not."""
    connections = Connections(database=f"sqlite:///{tmp_path / 'api.db'}", kafka=f"127.0.0.1:{free_port()}")
    app = create_app(connections, ConsoleSettings(), DeskSettings(), facts)
    app.state.office.publish = lambda: ""
    assert drive_all(app, lambda path: not path.startswith(ASKING_A_BROKER)) >= 24


@pytest.mark.services
def test_what_asks_a_broker_answers_as_its_document_says(fresh_topics: Connections) -> None:
    """The others, over pages that were shown."""
    toys = preview_toys.make(40)
    store = Store(fresh_topics.store)
    toys.catalogue.save(store)
    Log(fresh_topics, "schema").write(toys)
    previews = Previews(fresh_topics, store, RewardSettings())
    app = create_app(fresh_topics, ConsoleSettings(), DeskSettings(), facts, previews, control_share=0.1)
    assert drive_all(app, lambda path: path.startswith(ASKING_A_BROKER)) == 5


def drive_all(app: FastAPI, wanted: Callable[[str], bool]) -> int:
    """Drive the endpoints whose path is wanted, as an approver; returns how many they are."""
    token = Tokens(app.state.engine).create("root", Role.APPROVER, Actor("root", Role.APPROVER))
    with listening(app, "off") as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        operations = [one.ok() for one in schema.get_all_operations()]
        operations = [one for one in operations if wanted(one.path)]
        for operation in operations:
            drive(operation, {"Authorization": f"Bearer {token}"})
    return len(operations)


def drive(operation: APIOperation, headers: dict[str, str]) -> None:
    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(strategy_of(operation))
    def answers(case: schemathesis.Case) -> None:
        response = case.call(headers=headers)
        case.validate_response(response, checks=CHECKS, headers=headers)

    answers()


def strategy_of(operation: APIOperation) -> st.SearchStrategy[schemathesis.Case]:
    """Values that the document allows, and values that it does not."""
    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if operation.body else (GenerationMode.POSITIVE,)
    return st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))
