"""What the documentation says exists: links, commands, options, settings, metrics, topics and the worked example."""

from __future__ import annotations

import pkgutil
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel
from typer.core import TyperGroup

from headrace.cli import app
from headrace.settings import Settings
from schemas.topics import FOREVER, TOPICS, Topic
from schemas.views import View, ViewItem, ViewStatus
from tests.environment import KAFKA, REDIS
from tests.exported import named

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
#: Variables that are read outside the settings.
VARIABLES = {"HEADRACE_SETTINGS", "HEADRACE_CACHE", "HEADRACE_TOKEN", KAFKA, REDIS}


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def code(page: Path) -> Iterator[str]:
    """The code of a page, blocks and spans."""
    return (found.group().strip("`") for found in CODE.finditer(page.read_text()))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_relative_link_resolves(page: Path) -> None:
    """The file is there, and so is the heading that an anchor names."""
    for target in LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{page.name} links to {target}"


def test_every_page_is_linked_from_the_readme_or_a_page_it_links_to() -> None:
    """A page that nobody finds might as well not be there."""
    seen, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        targets = [t.partition("#")[0] for t in LINK.findall(page.read_text()) if not re.match(r"[a-z]+:|#", t)]
        fresh = {(page.parent / t).resolve() for t in targets if t.endswith(".md")} - seen
        seen |= fresh
        todo += sorted(page for page in fresh if page.is_file())
    assert {page for page in PAGES if page.parent.name == "docs"} <= seen


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_command_and_option_exists(page: Path) -> None:
    """`headrace X Y --option`: X is a command, Y a command of its group, --option one of its options."""
    for text in code(page):
        for said in re.findall(r"(?:^|[\s/(])headrace ([^\n|]*)", text):
            check_command(said.split("#")[0], page.name)


def check_command(said: str, page: str) -> None:
    command: Any = typer.main.get_command(app)
    words = [word.strip(",.;:)`") for word in said.split()]
    if not words or not re.fullmatch(r"[a-z]+", words[0]):
        options = words[:1]
    else:
        while words and isinstance(command, TyperGroup):
            assert words[0] in command.commands, f"{page}: headrace {said}: {words[0]} is no command"
            command = command.commands[words.pop(0)]
        options = words
    known = {"--help", *(option for parameter in command.params for option in parameter.opts)}
    for word in options:
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{page}: headrace {said}: {word} is no option"


def test_the_check_of_commands_finds_a_wrong_one() -> None:
    """A group is followed to its command, and an option belongs to its command."""
    check_command("weights set order=8 --why sale", "")
    for wrong in ("wieghts show", "weights get", "learn --seed 1"):
        with pytest.raises(AssertionError):
            check_command(wrong, "")


def resolves(model: type[BaseModel], path: list[str]) -> bool:
    """Whether a dotted name is a field of the settings."""
    field = model.model_fields.get(path[0])
    if field is None:
        return False
    inner = field.annotation
    if len(path) == 1:
        return True
    return isinstance(inner, type) and issubclass(inner, BaseModel) and resolves(inner, path[1:])


def is_code(name: str) -> bool:
    """Whether a dotted name is a module or something in one: the rooms' names are sections of the settings too."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_setting_exists(page: Path) -> None:
    """Dotted names that begin with a section of the settings, and HEADRACE_ variables, nested ones too."""
    sections = "|".join(
        name
        for name, f in Settings.model_fields.items()
        if isinstance(f.annotation, type) and issubclass(f.annotation, BaseModel)
    )
    text = page.read_text()
    for span in re.findall(r"`([^`\n]+)`", text):
        for said in re.findall(rf"^(?:{sections})(?:\.[a-z_0-9]+)+$", span):
            assert resolves(Settings, said.split(".")) or is_code(said), f"{page.name} names {said}"
    for variable in set(re.findall(r"\bHEADRACE_[A-Z_0-9]+\b", text)) - VARIABLES:
        path = variable.removeprefix("HEADRACE_").lower().split("__")
        assert resolves(Settings, path), f"{page.name} names the variable {variable}"


def default(path: str) -> Any:
    """What a setting is when nobody sets it."""
    value: Any = Settings.model_construct(**{name: f.get_default() for name, f in Settings.model_fields.items()})
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_defaults_are_as_said(page: Path) -> None:
    """`section.name` (number), with or without a comma of thousands."""
    for path, said in re.findall(r"`([a-z]+(?:\.[a-z_0-9]+)+)`,? \((?:default )?([\d.,]*\d)\)", page.read_text()):
        assert default(path) == float(said.replace(",", "")), f"{page.name} says {path} is {said}"


def test_the_rules_of_attribution_are_as_said() -> None:
    """The table of docs/streams.md: | rule | `setting` | default |."""
    rows = re.findall(r"^\|[^|]+\| `(\w+_s)` \| ([\d,]+) \|$", (ROOT / "docs" / "streams.md").read_text(), re.MULTILINE)
    assert len(rows) == 5
    for name, said in rows:
        assert default(f"streams.attribution.{name}") == int(said.replace(",", ""))


def test_the_choices_of_the_loss_are_as_said() -> None:
    """The table of docs/trainers.md: | `setting`, `setting` | default, default | meaning |."""
    text = (
        (ROOT / "docs" / "trainers.md").read_text().partition("under `trainers.learner.loss`")[2].partition("Fixed, not")[0]
    )
    said: dict[str, str] = {}
    for fields, values in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|", text, re.MULTILINE):
        said |= dict(zip(re.findall(r"`(\w+)`", fields), re.findall(r"[\w.-]+", values), strict=True))
    loss = default("trainers.learner.loss")
    assert len(said) >= 9 and set(said) <= set(type(loss).model_fields)
    for name, value in said.items():
        assert type(loss)(**{name: value}) == loss, f"{name} is {getattr(loss, name)}, not {value}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_path_named_exists(page: Path) -> None:
    """A path like `reward/weights.py` is there; it may hold stars."""
    rooms = r"(?:schemas|reward|streams|trainers|serving|console|headrace|tests|benchmarks|deploy)"
    for span in re.findall(r"`([^`\n]+)`", page.read_text()):
        if re.fullmatch(rf"{rooms}(?:/[\w.*-]+)*/?", span) and "/" in span:
            assert list(ROOT.glob(span)), f"{page.name} names {span}"


@pytest.mark.parametrize("page", PAGES, ids=names(PAGES))
def test_every_metric_exists(page: Path) -> None:
    """A name like headrace_flush_seconds is one that a process exports."""
    exported = named()
    for metric in set(re.findall(r"\bheadrace_[a-z_]+\b", page.read_text())):
        assert metric in exported, f"{page.name} names the metric {metric}"


def row(topic: Topic) -> str:
    """A topic's line in docs/schemas.md."""
    kept = "for ever" if topic.retention_s == FOREVER else f"{topic.retention_s // 86_400} days"
    kinds = getattr(topic.kind, "__args__", (topic.kind,))
    records = ", ".join(f"`{kind.__struct_config__.tag}`" for kind in kinds)
    return f"| `{topic.name}` | {topic.key} | {topic.partitions or 'P'} | {topic.cleanup} | {kept} | {records} | {topic.purpose} |"


def test_the_table_of_topics_is_the_registry() -> None:
    """Line by line; a failure shows the lines to paste."""
    said = (ROOT / "docs" / "schemas.md").read_text().partition("<!-- topics -->\n")[2].partition("<!-- /topics -->")[0]
    assert said.splitlines()[2:] == [row(topic) for topic in TOPICS]


def test_the_worked_example_counts_what_it_says() -> None:
    """Two views of an hour without a click, one with; the next hour's tick tells the two."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "adding-an-agent.md").read_text(), re.DOTALL)
    assert block is not None
    example = types.ModuleType("example")
    exec(block.group(1), example.__dict__)
    from schemas.codec import decode, encode
    from schemas.events import Tick
    from streams.runtime.core import Record

    def view(n: int, query: str, clicks: int) -> bytes:
        item, at = ViewItem("i", 1, 1.0, clicks=clicks, d_clicks=clicks), 10 * example.HOUR_MS + n
        return encode(View(f"r{n}", f"r{n}", ViewStatus.PROVISIONAL, 1, at, at, "u", query, (item,)))

    records = [view(0, "Red Lamp", 0), view(1, "red lamp!", 0), view(2, "vase", 1), encode(Tick(11 * example.HOUR_MS))]
    core = example.UnclickedCore(0)
    for n, raw in enumerate(records):
        core.apply("search.views", [Record(n, 0, None, raw)])
        again = example.UnclickedCore(0)
        outputs, _ = core.drain()
        again.load(core.dump())  # the state survives a restart after every record
        core = again
    (output,) = outputs
    assert decode(example.Unclicked, output.value) == example.Unclicked(10, {"red lamp": 2})
