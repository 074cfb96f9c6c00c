"""The order in which a conversation with branches is read. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from fsstate.conversation import Tree

__all__ = ["Fork", "Turn", "UnFork", "head_branch", "threads"]

Row: TypeAlias = Mapping[str, Any]


class Turn(NamedTuple):
    """A message. `number` is its place in the log, from 1; `depth` in how many other continuations it stands.

    `begins` says why it follows nothing: "" for one that does, "anew" or the name of the parent that is not there.
    """

    row: Row
    number: int
    depth: int = 0
    begins: str = ""
    others: int = 0


class Fork(NamedTuple):
    """Here one of `of` other continuations begins, the `number`-th from 1."""

    number: int
    of: int
    first: Row


class UnFork(NamedTuple):
    """Here it ends."""


Piece: TypeAlias = Turn | Fork | UnFork


def threads(tree: Tree) -> Iterator[Piece]:
    """All messages: each beginning in the order of the log, along the head's branch, else along what came last.

    What else goes on from a message stands between it and what comes next. Circles are read from their first message.
    """
    walk = _Walk(tree)
    yield from walk.all()


def head_branch(tree: Tree) -> Iterator[Turn]:
    """The messages that lead to the head. `others` tells how many continuations of each are passed over."""
    walk = _Walk(tree)
    for row in tree.branch(tree.end):
        yield walk.turn(row["id"], 0)._replace(others=max(0, len(walk.below.get(row["id"], [])) - 1))


class _Walk:
    def __init__(self, tree: Tree) -> None:
        self._rows = tree.rows
        self._numbers = {name: number for number, name in enumerate(tree.rows, 1)}
        self._trunk = {row["id"] for row in tree.branch(tree.end)}
        self.below: dict[str | None, list[str]] = {}
        for name, row in tree.rows.items():
            self.below.setdefault(self._parent(row), []).append(name)
        self._left = dict.fromkeys(tree.rows)

    def all(self) -> Iterator[Piece]:
        for root in [*self.below.get(None, [])]:
            yield from self._thread(root)
        while self._left:
            yield from self._thread(next(iter(self._left)))

    def _thread(self, root: str) -> Iterator[Piece]:
        # The last comes first. Not by recursion: forks may lie in forks to any depth.
        waiting: list[tuple[str | Fork | UnFork, int]] = [(root, 0)]
        while waiting:
            item, depth = waiting.pop()
            if not isinstance(item, str):
                yield item
            elif item in self._left:
                del self._left[item]
                main, others = self._after(item)
                yield self.turn(item, depth)._replace(others=len(others))
                waiting += [(main, depth)] if main is not None else []
                for number, other in reversed([*enumerate(others, 1)]):
                    fork = Fork(number, len(others), self._rows[other])
                    waiting += [(UnFork(), depth), (other, depth + 1), (fork, depth)]

    def _after(self, name: str) -> tuple[str | None, list[str]]:
        """What a message goes on with, and its other continuations."""
        below = [each for each in self.below.get(name, []) if each in self._left]
        if not below:
            return None, []
        main = next((each for each in below if each in self._trunk), below[-1])
        return main, [each for each in below if each != main]

    def turn(self, name: str, depth: int) -> Turn:
        row = self._rows[name]
        parent = row.get("parent")
        begins = "" if self._parent(row) is not None else "anew" if parent is None else str(parent)
        return Turn(row, self._numbers[name], depth, begins)

    def _parent(self, row: Row) -> str | None:
        parent = row.get("parent")
        return parent if isinstance(parent, str) and parent in self._rows else None
