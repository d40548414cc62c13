"""How `headrace identifiers` shows what it found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.tree import Tree

from headrace.commands.common import console
from headrace.terminal import coloured

if TYPE_CHECKING:
    from headrace.identifier_comparison import Comparison
    from headrace.identifier_items import Item
    from trainers.identifiers.neighbourhood import Cell
    from trainers.identifiers.quality import Quality


def quality_table(versions: list[tuple[str, Any]]) -> None:
    """A column a version, of (version, its level sizes and quality)."""
    table = Table("", title="Identifiers")
    for name, _ in versions:
        table.add_column(name, justify="right")
    found: list[tuple[tuple[int, ...], Quality]] = [(about["level_sizes"], about["quality"]) for _, about in versions]
    table.add_row("items", *(str(q.items) for _, q in found))
    table.add_row("level sizes", *(sid_text(sizes, "/") for sizes, _ in found))
    table.add_row("ICR: items with an identifier of their own", *(f"{q.icr:.2%}" for _, q in found))
    table.add_row("CUR of level 1", *(f"{q.cur_l1:.2%}" for _, q in found))
    table.add_row("CUR of levels 1-2", *(f"{q.cur_l1l2:.2%}" for _, q in found))
    table.add_row("CUR of levels 1-3", *(f"{q.cur_total:.2%}" for _, q in found))
    table.add_row("items below the fullest prefix of three", *(str(q.largest_cell) for _, q in found))
    table.add_row("items that did not get their nearest code", *(str(q.moved) for _, q in found))
    table.add_row("mean squared error", *(f"{q.error:.4f}" for _, q in found))
    console.print(table)


def comparison_table(found: Comparison) -> None:
    """One line a method, what each is like, and who wins."""
    table = Table("", title=f"recall@{found.budget} of {found.clicked} clicked items, {found.queries} queries")
    for column in ("recall", "95 %", "ours is better by", "95 %"):
        table.add_column(column, justify="right")
    for row in found.methods:
        gain = ("", "") if row.method == found.methods[0].method else (f"{row.gain:+.4f}", _between(row.gain_interval, "+"))
        table.add_row(row.method, f"{row.recall:.4f}", _between(row.interval), *gain)
    console.print(table)
    table = Table("", title=f"level sizes {sid_text(found.level_sizes, '/')}")
    for column in ("ICR", "CUR 1", "1-2", "1-3", "error", "s to fit"):
        table.add_column(column, justify="right")
    for row in found.methods:
        shares = (f"{share:.2%}" for share in (row.icr, *row.cur))
        table.add_row(row.method, *shares, f"{row.error:.4f}", f"{row.seconds:.0f}")
    console.print(table)
    console.print(f"{found.wins} has the best recall; {len(found.seeds)} seeds, intervals by bootstrap over queries")


def _between(interval: tuple[float, float], sign: str = "") -> str:
    return f"{interval[0]:{sign}.4f} to {interval[1]:{sign}.4f}"


def items_table(items: Sequence[Item]) -> None:
    """A row an item, as it is now."""
    table = Table("item", "identifier", "title", "category", "brand", "price")
    for one in items:
        table.add_row(one.item, sid_text(one.sid) or "removed", one.title, one.category, one.brand, price_text(one.price))
    console.print(table)


def price_text(price: float) -> str:
    """A price as short as it is exact; empty where it is not known."""
    return f"{price:.10g}" if price else ""


def grow(tree: Tree, cell: Cell) -> None:
    """Hang the cells below this one into the tree."""
    for below in cell.cells:
        mark = "● " if below.own else ""
        branch = tree.add(coloured(mark, (sid_text(below.codes), "bold"), f"  {below.items} items"))
        grow(branch, below)
        if not below.cells:
            for title in below.titles:
                branch.add(title, style="dim")


def sid_text(codes: Sequence[int], between: str = "-") -> str:
    """Codes as text; empty for none."""
    return between.join(map(str, codes))
