"""The documents of the topics: a JSON Schema for each, and one AsyncAPI document for all, made from the structs.

Pure: the same code gives the same documents. docs/schemas.md says where they are and what is checked against them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from schemas.events import Order, Return, Tick
from schemas.topics import TOPICS, Topic
from schemas.versions import FIRST, members, oldest, version_of

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
ASYNCAPI: Final = "asyncapi"

#: What only others send. Everything else in the registry is written and read by Headrace itself.
_FROM_OTHERS: Final = (Order, Return)
_BINDING: Final = {"bindingVersion": "0.5.0"}

Document = dict[str, Any]


def documents(release: str) -> dict[str, Document]:
    """Every document by name: the topics' under their names, AsyncAPI's under ``asyncapi``; ``release`` is Headrace's own."""
    return {topic.name: topic_document(topic) for topic in TOPICS} | {ASYNCAPI: asyncapi_document(release)}


def render(document: Document) -> bytes:
    """The document as the bytes that are committed and served."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def topic_document(topic: Topic) -> Document:
    """The JSON Schema of a topic: one of its records, each with the versions that today's reader takes."""
    records = members(topic.kind)
    references, definitions = _components(records, "#/$defs/{name}")
    return {
        "$schema": DIALECT,
        "title": topic.name,
        "description": topic.purpose,
        "oneOf": [_record(reference, record) for reference, record in zip(references, records, strict=True)],
        "$defs": definitions,
    }


def asyncapi_document(release: str, topics: Iterable[Topic] = TOPICS) -> Document:
    """AsyncAPI 3.0: channels are topics, messages are records; `send` and `receive` are said from Headrace's side."""
    topics = tuple(topics)
    records = tuple(dict.fromkeys(record for topic in topics for record in members(topic.kind)))
    references, definitions = _components(records, "#/components/schemas/{name}")
    payloads = {record: _record(reference, record) for reference, record in zip(references, records, strict=True)}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headrace",
            "version": release,
            "description": "Events in, joined views and training examples between, checkpoints out.",
        },
        "defaultContentType": "application/json",
        "channels": {topic.name: _channel(topic, payloads) for topic in topics},
        "operations": dict(operation for topic in topics for operation in _operations(topic)),
        "components": {"schemas": {name: _draft_07(schema) for name, schema in definitions.items()}},
    }


def _components(records: Iterable[type[msgspec.Struct]], template: str) -> tuple[tuple[Document, ...], dict[str, Document]]:
    references, made = msgspec.json.schema_components(records, ref_template=template)
    definitions: dict[str, Document] = msgspec.json.decode(msgspec.json.encode(made))  # a default's tuple becomes a list
    arrays = {struct.__name__: struct for struct in _structs(records) if struct.__struct_config__.array_like}
    for name, schema in sorted(definitions.items()):
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
        if "v" in schema.get("properties", {}):
            schema["properties"]["v"]["default"] = FIRST  # what a record without it is, whatever this code writes
        if name in arrays:  # an array says its fields' order alone; their names tell whether two were exchanged
            for field, place in zip(arrays[name].__struct_encode_fields__, schema["prefixItems"], strict=True):
                place["title"] = field
    return references, dict(sorted(definitions.items()))


def _structs(kinds: Iterable[Any]) -> Iterator[type[msgspec.Struct]]:
    """Every struct within ``kinds``, at any depth."""
    seen: set[Any] = set()
    todo: list[Any] = list(msgspec.inspect.multi_type_info(kinds))
    while todo:
        info = todo.pop()
        if isinstance(info, msgspec.inspect.StructType) and info.cls not in seen:
            seen.add(info.cls)
            yield info.cls
            todo += [field.type for field in info.fields]
        elif not isinstance(info, msgspec.inspect.StructType):
            inner = [
                getattr(info, name, ()) for name in ("type", "item_type", "item_types", "key_type", "value_type", "types")
            ]
            todo += [one for entry in inner for one in (entry if isinstance(entry, tuple) else (entry,))]


def _record(reference: Document, record: type[msgspec.Struct]) -> Document:
    """A record on its own has the versions that a reader takes; inside another record the outer one's count."""
    newest = version_of(record)
    rule: Document = {"properties": {"v": {"minimum": oldest(newest), "maximum": newest}}}
    if oldest(newest) > FIRST:
        rule["required"] = ["v"]
    return {"allOf": [reference, rule]}


def _channel(topic: Topic, payloads: dict[type[msgspec.Struct], Document]) -> Document:
    config = topic.config()
    kafka: Document = {
        "topicConfiguration": {
            "cleanup.policy": [config["cleanup.policy"]],
            "retention.ms": int(config["retention.ms"]),
        }
    }
    if topic.partitions is not None:
        kafka["partitions"] = topic.partitions
    return {
        "address": topic.name,
        "description": topic.purpose,
        "messages": {_tag(record): _message(topic, record, payloads[record]) for record in members(topic.kind)},
        "bindings": {"kafka": kafka | _BINDING},
    }


def _message(topic: Topic, record: type[msgspec.Struct], payload: Document) -> Document:
    message: Document = {
        "name": _tag(record),
        "title": record.__name__,
        "description": inspect.getdoc(record) or "",
        "contentType": "application/json",
        "payload": payload,
    }
    if record is not Tick:  # ticks go to every partition: their key says nothing
        message["bindings"] = {"kafka": {"key": {"type": "string", "description": topic.key}} | _BINDING}
    return message


def _operations(topic: Topic) -> Iterator[tuple[str, Document]]:
    records = members(topic.kind)
    own = [record for record in records if record not in _FROM_OTHERS]
    for action, told in (("receive", records), ("send", own)):
        messages = [{"$ref": f"#/channels/{topic.name}/messages/{_tag(record)}"} for record in told]
        yield (
            f"{action}.{topic.name}",
            {"action": action, "channel": {"$ref": f"#/channels/{topic.name}"}, "messages": messages},
        )


def _tag(record: type[msgspec.Struct]) -> str:
    return str(record.__struct_config__.tag)


def _draft_07(schema: Any) -> Any:
    """AsyncAPI's schemas are a superset of draft 07, where a fixed order is ``items`` and a discriminator is a name."""
    if isinstance(schema, list):
        return [_draft_07(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _draft_07(value) for key, value in schema.items() if key not in ("prefixItems", "discriminator")}
    if "prefixItems" in schema:
        if "items" in plain:
            plain["additionalItems"] = plain.pop("items")
        plain["items"] = _draft_07(schema["prefixItems"])
    return plain
