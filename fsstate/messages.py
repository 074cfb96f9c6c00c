"""A session's conversation: a tree of messages, appended to and never rewritten.

- An append is durable when it returns, and reads only the end of the log, however long the conversation is.
- The head is the message that the next one goes under; it is the last one appended, until `set_head` moves it.
- A message that is being streamed is seen by readers as far as it is written. If its writer dies, readers see it as
  "interrupted", and the next append puts it in its place in the log.
- What other programs and hands wrote is read as far as it can be: missing parents, several roots, circles. A line that
  is no message is skipped with a warning, and `problems` names it.
- A conversation that the session's document holds itself, as oxios writes it, is read there. The first write puts it
  into the log, which is the truth from then on; the document stays as it is.

All methods may be called from any thread.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fsstate import ids
from fsstate.backends.base import LogLine, Ref
from fsstate.codec import decode_line
from fsstate.conversation import (
    Message,
    Tree,
    copied,
    end_of_line,
    fitting,
    head_of,
    message_of,
    metadata_of,
    row_of,
    settled,
    under,
)
from fsstate.errors import AlreadyExistsError, CorruptRecordError, InvalidValueError
from fsstate.journal import Log
from fsstate.message_reader import MessageList, MessageReader, Rows
from fsstate.projection import Projections, Row, Write
from fsstate.queries import MISSING, Missing
from fsstate.streams import Stream, checked_text
from fsstate.times import Clock, format_time

__all__ = ["Message", "Messages", "PreparedAppend", "Stream"]


class PreparedAppend:
    """An append of one message, ready to share a flush with others: hand `compose` to `Backend.append_many` for
    `log` with `owner`, and the seqs that it gives out to `result`.
    """

    def __init__(self, write: Write, log: Log) -> None:
        self.log = log.ref
        self.owner = log.owner
        self.compose = write.compose
        self._write = write
        self._where = log.path

    def result(self, seqs: range) -> Message:
        """The message as it was appended."""
        return message_of(self._write.done(seqs)[0], self._where)


class Messages(MessageReader):
    """The messages of one session."""

    def __init__(self, projections: Projections, clock: Clock, owner: Ref) -> None:
        super().__init__(projections, owner)
        self._clock = clock

    def append(
        self,
        role: str,
        content: Any,
        *,
        parent: str | Missing | None = MISSING,
        id: str | None = None,  # noqa: A002 - what the attribute is called
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        status: str = "complete",
        tool_call_id: str | None = None,
        steps: tuple[int, int] | None = None,
        created_at: datetime | None = None,
    ) -> Message:
        """Append a message, durably, make it the head, and return it.

        `content` is a text or a list of blocks, any JSON. It goes under `parent`, by default the head; None makes it a
        root. An `id` of your own is looked for in the whole log; without one it is a new UUIDv7.

        Raises NotFoundError for a session or parent that does not exist, AlreadyExistsError for an id that is taken,
        InvalidValueError for what cannot be stored.
        """
        given: Row = {"model": model, "metadata": metadata, "status": status, "created_at": created_at}
        given |= {"tool_call_id": tool_call_id, "steps": steps}
        if id is not None:
            return self._append_as(id, parent, self._new(id, role, content, given))
        prepared = self.prepare(role, content, parent=parent, **given)
        return prepared.result(self._backend.append(prepared.log, prepared.compose, owner=prepared.owner))

    def prepare(
        self, role: str, content: Any, *, parent: str | Missing | None = MISSING, **given: Any
    ) -> PreparedAppend:
        """Return `append` without an id as a piece of work for the backend; see `PreparedAppend`.

        What can be checked is checked now, and the content is copied: the caller may go on changing it.
        """
        place = self._place(parent)
        row = self._new(ids.new_id(), role, content, given)
        return PreparedAppend(Write(self._tree, lambda last: [place(row, self._head_after(last))]), self.log)

    def extend(self, messages: Iterable[Message]) -> MessageList:
        """Append many messages with one flush, all or none; return them as stored. The last one becomes the head.

        Ids, parents and times are kept as they are, so that parents may be missing or come later. For import; one
        without `created_at` is given the present time. Raises AlreadyExistsError for an id that is taken.
        """
        now = format_time(self._clock())
        rows = [{"at": now, **row_of(message, self._where(message.id))} for message in messages]
        if not rows:
            return []
        self.settle()
        return self._readable(self._tree.append(lambda tree: self._all_new(rows, tree)))

    def fork_at(self, /, id: str | None, role: str, content: Any, **given: Any) -> Message:  # noqa: A002
        """Append a message under message `id` (None: as a root), and make it the head: another way on from there.

        `given` is as for `append`.
        """
        return self.append(role, content, parent=id, **given)

    def set_head(self, id: str | None) -> None:  # noqa: A002
        """Make a message the head; None makes the next message a root. Writes nothing if it is the head already.

        Raises NotFoundError for a message that does not exist.
        """
        self._require(id)
        self.settle()
        at = format_time(self._clock())
        write = Write(self._tree, lambda last: [] if self._head_after(last) == id else [{"head": id, "at": at}])
        self._run(write)

    def update(
        self,
        id: str,  # noqa: A002
        *,
        content: Any = MISSING,
        status: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Message:
        """Change what is given of a message, durably, and return it as it is then. The head stays where it is.

        Raises NotFoundError for a message that is not in the log; one that is being streamed is not, yet.
        """
        fields: Row = {
            "status": status,
            "model": model,
            "metadata": None if metadata is None else metadata_of(metadata),
        }
        changes = {key: value for key, value in fields.items() if value is not None}
        if not isinstance(content, Missing):
            changes["content"] = copied(content)
        return self._change(id, changes)

    def append_text(self, id: str, delta: str, *, status: str = "streaming") -> Message:  # noqa: A002
        """Add text to the end of a message's content, durably, and return it as it is then.

        Each call leaves a line in the log; `stream` does not, and a message that it left unfinished can be told.
        """
        return self._change(id, {"delta": checked_text(delta), "status": status})

    def clear(self) -> int:
        """Remove all messages, durably, and return how many there were. Seqs go on where they were.

        A message that is being streamed now stays under way. What is appended at the same time is removed, too, or
        stays; it may be missing in the count.
        """
        self.settle()
        messages = self._tree.view(lambda tree: len(tree.rows))
        self.log.trim(before=sys.maxsize)
        return messages

    def stream(
        self,
        role: str,
        *,
        parent: str | Missing | None = MISSING,
        id: str | None = None,  # noqa: A002
        model: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        tool_call_id: str | None = None,
    ) -> Stream:
        """Return a context manager that writes a message piece by piece; see `Stream`.

        With a `parent` other than the head, that one becomes the head first. The message becomes the head at its end,
        unless others were appended elsewhere in between. An `id` must be able to be a file's name.
        """
        given = {"model": model, "metadata": metadata, "tool_call_id": tool_call_id}
        row = self._new(ids.new_id() if id is None else id, role, "", given)
        del row["content"]
        own_id = id is not None
        return Stream(self._streams, row, lambda row: self._begin(row, parent, own_id), self._finish)

    def settle(self) -> dict[str, Row]:
        """Put messages whose writers died into the log, as "interrupted"; return those still under way.

        Before that, those that only the session's document holds. Every other write does this first. It costs one look
        at a directory and one at the document, as a rule.
        """
        self.log.begin()
        names = self._streams.ids()
        for name in names:
            if not self._streams.is_alive(name):
                self._settle(name)
        return self._streams.unfinished() if names else {}

    # Inside: where a new row goes

    def _new(self, name: str, role: str, content: Any, given: Mapping[str, Any]) -> Row:
        if not role:
            raise InvalidValueError("expected a role, such as user, assistant, system or tool", at="$.role")
        fields = dict(given)
        metadata, created_at = fields.pop("metadata", None), fields.pop("created_at", None)
        message = Message(id=name, role=role, content=content, metadata=metadata_of(metadata), **fields)
        message.created_at = self._clock() if created_at is None else created_at
        return row_of(message, self._where(name))

    def _place(self, parent: str | Missing | None) -> Callable[[Row, str | None], Row]:
        """Says, once the head is known, what a new row's parent is."""
        if not isinstance(parent, Missing):
            self._require(parent)
            self.settle()
            return lambda row, _: under(row, parent)
        under_way = self.settle()
        return lambda row, head: under(row, end_of_line(head, under_way))

    def _append_as(self, name: str, parent: str | Missing | None, row: Row) -> Message:
        place = self._place(parent)
        rows = self._tree.append(lambda tree: self._all_new([place(row, self._head_in(tree))], tree))
        return message_of(rows[0], self.path)

    def _head_in(self, tree: Tree) -> str | None:
        end = tree.end
        return tree.head if end != tree.head and tree.head in self._streams.ids() else end

    def _all_new(self, rows: Sequence[Row], tree: Tree) -> Sequence[Row]:
        taken = set(tree.rows)
        for row in rows:
            if row["id"] in taken:
                raise AlreadyExistsError(self._where(row["id"]))
            taken.add(row["id"])
        return rows

    def _change(self, name: str, changes: Row) -> Message:
        at = format_time(self._clock())
        changed: Row = {}

        def decide(tree: Tree) -> Rows:
            if name not in tree.rows:
                raise self._missing(name)
            row: Row = {"update": name, **changes, "head": tree.head, "at": at}
            changed.clear()
            after = Tree({name: copied(tree.rows[name])})
            after.fold(row)
            changed.update(fitting(after.rows[name], self._where(name)))
            return [row]

        self.log.begin()
        self._tree.append(decide)
        return message_of(changed, self.path)

    # Inside: streams

    def _begin(self, row: Row, parent: str | Missing | None, own_id: bool) -> Row:
        if own_id and self.get(row["id"]) is not None:
            raise AlreadyExistsError(self._where(row["id"]))
        under_way = self.settle()
        if isinstance(parent, Missing):
            return under(row, end_of_line(self._head(), under_way))
        self._require(parent)
        if parent != end_of_line(self._head(), under_way):
            self.set_head(parent)
        return under(row, parent)

    def _finish(self, row: Row) -> Message:
        fitting(row, self._where(row["id"]))
        under_way = self._streams.unfinished()
        write = Write(self._tree, lambda last: [settled(row, self._head_after(last), under_way)])
        return message_of(self._run(write)[0], self.path)

    def _settle(self, name: str) -> None:
        def decide(tree: Tree) -> Rows:
            return [] if row is None or name in tree.rows else [settled(row, tree.head, {name: row})]

        with self._streams.settling(name) as row:
            self._tree.append(decide)

    def _head_after(self, line: LogLine | None) -> str | None:
        if line is None:
            return None
        try:
            row = decode_line(line.data, self.path)
        except CorruptRecordError:
            return self._head()
        head = head_of(row)
        if isinstance(head, Missing):
            return self._head()
        # A head that stands in the same flush as its message cannot be found yet.
        lost = "head" in row and not self._is_known(head) and self._is_last(line)
        return self._end() if lost else head

    def _is_last(self, line: LogLine) -> bool:
        """Whether the line is the last one that can be read, with none before it that others are still writing."""
        return next((row["seq"] for row in self.log.rows_backwards()), None) == line.seq

    def _run(self, write: Write) -> Rows:
        return write.done(self._backend.append(self.log.ref, write.compose, owner=self.log.owner))
