"""A session's conversation as readers see it: what is in its log, and what is under way.

Reading takes no lock and never waits for a writer. What other programs and hands wrote is read as far as it can be,
also what stands in the session's document instead of the log; see `fsstate.embedded`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

from fsstate.backends.base import Ref
from fsstate.conversation import Message, Tree, head_of, message_of, recent_branch
from fsstate.errors import CorruptRecordError, NotFoundError, ValidationError
from fsstate.projection import Projection, Projections, Row, readable
from fsstate.queries import Missing
from fsstate.seeded_log import message_log
from fsstate.streams import Streams

__all__ = ["MessageList", "MessageReader", "Rows"]

R = TypeVar("R")

# MessageReader has a method called `list`.
MessageList: TypeAlias = list[Message]
Rows: TypeAlias = list[Row]
Problems: TypeAlias = list[CorruptRecordError | ValidationError]


class MessageReader:
    """The reading half of `Messages`."""

    def __init__(self, projections: Projections, owner: Ref) -> None:
        backend = projections.backend
        self.log = message_log(backend, owner)
        self._backend = backend
        self._projections = projections
        self._streams = Streams(backend, owner)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.log.ref)!r})"

    @property
    def path(self) -> str:
        """Where a person finds the log."""
        return self.log.path

    def get(self, id: str) -> Message | None:  # noqa: A002
        """Return one message, or None."""
        rows = self._view(lambda tree: [tree.rows[id]] if id in tree.rows else [])
        return rows[0] if rows else None

    def require(self, id: str) -> Message:  # noqa: A002
        """Return one message. Raises NotFoundError when there is none."""
        message = self.get(id)
        if message is None:
            raise self._missing(id)
        return message

    def list(self, head: str | None = None, limit: int | None = None) -> MessageList:
        """Return the branch from its root to `head` (None: the head), or its last `limit` messages.

        With a limit only the end of the log is read. Raises NotFoundError for a head that does not exist.
        """
        _check_limit(limit)
        if head is None and limit is not None:
            recent = self._recent(limit)
            if recent is not None:
                return recent

        def branch(tree: Tree) -> Rows:
            if head is not None and head not in tree.rows:
                raise self._missing(head)
            return tree.branch(tree.end if head is None else head, limit)

        return self._view(branch)

    def all(self, after: int = 0, limit: int | None = None) -> MessageList:
        """Return every message of every branch in file order: with a seq greater than `after`, at most `limit`.

        Those under way have no seq yet and come last.
        """
        _check_limit(limit)
        return self._view(
            lambda tree: [row for row in tree.rows.values() if row.get("seq", sys.maxsize) > after][:limit]
        )

    def head(self) -> Message | None:
        """Return the head, or None."""
        found = self.list(limit=1)
        return found[0] if found else None

    def leaves(self) -> MessageList:
        """Return the messages that nothing goes under, the ends of all branches, in file order."""
        return self._view(Tree.leaves)

    def children(self, id: str | None) -> MessageList:  # noqa: A002
        """Return the messages directly under one (None: the roots), in file order."""
        return self._view(lambda tree: tree.children(id))

    def count(self) -> int:
        """Return the number of messages in all branches, those under way included."""
        return self._ask(lambda tree: len(tree.rows))

    def problems(self) -> Problems:
        """Return what is wrong with the log's lines, and with messages in it that cannot be read. Reads all of it.

        While the messages stand in the session's document, also what is wrong with them there.
        """
        found: Problems = [*self.log.problems()]
        # A document that cannot be read was named just now.
        with contextlib.suppress(CorruptRecordError):
            found += self._ask(lambda tree: list(self._misfits(tree)))
        return found

    # Inside

    @property
    def _tree(self) -> Projection[Tree]:
        return self._projections.of(self.log, Tree, Tree.fold)

    def _ask(self, question: Callable[[Tree], R]) -> R:
        # Before the log is looked at: a message that is finished in between is then seen twice rather than not at all,
        # and the one in the log counts.
        unfinished = self._streams.unfinished()
        if self.log.is_blank():
            return question(self._blank_tree().with_unfinished(unfinished))
        return self._tree.view(lambda tree: question(tree.with_unfinished(unfinished)))

    def _blank_tree(self) -> Tree:
        """What the log would begin with. Not kept as a projection is: that looks at the log's file only."""
        tree = Tree()
        for row in self.log.seeds():
            tree.fold(row)
        return tree

    def _view(self, question: Callable[[Tree], Iterable[Row]]) -> MessageList:
        return self._ask(lambda tree: self._readable(question(tree)))

    def _readable(self, rows: Iterable[Row]) -> MessageList:
        return list(readable(rows, lambda row: message_of(row, self.path)))

    def _misfits(self, tree: Tree) -> Iterator[ValidationError]:
        for row in tree.rows.values():
            try:
                message_of(row, self.path)
            except ValidationError as error:
                yield error
        if tree.end != tree.head:
            yield ValidationError(self.path, f"$.head: {tree.head!r} is no message, so the last one counts instead")

    def _recent(self, limit: int) -> MessageList | None:
        if limit <= 0 or self._tree.is_current() or self._streams.ids():
            return None
        rows = recent_branch(self.log.rows_backwards(), limit)
        return None if rows is None else self._readable(rows)

    def _head(self) -> str | None:
        """The head, streams aside: as a rule the log's last line tells."""
        for row in self.log.rows_backwards():
            head = head_of(row)
            if not isinstance(head, Missing):
                return head if "head" not in row or self._is_known(head) else self._end()
        return None

    def _end(self) -> str | None:
        return self._tree.view(lambda tree: tree.end)

    def _require(self, name: str | None) -> None:
        if name is not None and not self._is_known(name):
            raise self._missing(name)

    def _is_known(self, name: str | None) -> bool:
        """Whether a head or parent is none, or a message that is there or under way."""
        # Those under way first: one that is finished in between is in the log then.
        return name is None or name in self._streams.ids() or self._exists(name)

    def _exists(self, name: str) -> bool:
        if self._tree.is_current():
            return self._tree.view(lambda tree: name in tree.rows)
        # A parent is found near the end, as a rule.
        return any(row.get("id") == name for row in self.log.rows_backwards())

    def _where(self, name: str) -> str:
        return f"{self.path}: message {name!r}"

    def _missing(self, name: str) -> NotFoundError:
        return NotFoundError(self._where(name))


def _check_limit(limit: int | None) -> None:
    """Raise ValueError for a limit below 0."""
    if limit is not None and limit < 0:
        raise ValueError(f"limit must be 0 or more, got {limit!r}")
