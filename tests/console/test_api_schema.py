"""schemathesis drives every endpoint by the OpenAPI document: no server error, and nothing that the document does not say."""

from __future__ import annotations

from pathlib import Path

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance, status_code_conformance

from console.app import create_app
from console.settings import ConsoleSettings
from headrace.services.ports import free_port
from reward.desk.tokens import Tokens
from reward.settings import DeskSettings
from schemas.connections import Connections
from schemas.decisions import Actor, Role
from tests.console.served import listening
from tests.reward.desk_toys import facts

#: Examples for an endpoint; with the seed fixed the same in every run.
EXAMPLES = 6
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip


def test_every_endpoint_answers_as_its_document_says(tmp_path: Path) -> None:
    """Each endpoint of the document, with values that it allows and values that it does not."""
    connections = Connections(database=f"sqlite:///{tmp_path / 'api.db'}", kafka=f"127.0.0.1:{free_port()}")
    app = create_app(connections, ConsoleSettings(), DeskSettings(), facts)
    app.state.office.publish = lambda: ""
    token = Tokens(app.state.engine).create("root", Role.APPROVER, Actor("root", Role.APPROVER))
    headers = {"Authorization": f"Bearer {token}"}
    with listening(app, "off") as url:
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        found = [one.ok() for one in schema.get_all_operations()]
        asking_a_broker = ("/api/training", "/api/integrity", "/api/preview", "/api/effect")
        operations = [one for one in found if not one.path.startswith(asking_a_broker)]
        assert len(operations) >= 24
        for operation in operations:
            drive(operation, headers)


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
