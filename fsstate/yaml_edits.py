"""Changes of a YAML mapping that leave every line as it is but those of what changed. Pure.

Comments, quotes, order, indentation and anchors of the rest stay. What cannot be changed so closely (explicit keys, an
anchor that something else refers to) is written anew as narrowly as it can: the value, else its top-level key, else
all of it. Whatever was done, the result is read and compared with what was wanted before it is given out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Any, Final, NamedTuple

from fsstate import yaml_text
from fsstate.errors import InvalidValueError
from fsstate.merge import same

__all__ = ["edited"]

_COLON: Final = re.compile(r"[ \t]*:(?=[ \t\r\n]|\Z)")
# How a block of text begins that keeps all line ends behind it.
_KEEPING: Final = re.compile(r"[|>](?:\d?\+|\+\d)[ \t]*\r?\n")
_TEXT: Final = re.compile(r"[|>][-+\d]{0,2}[ \t]*\r?\n")
_BLANK: Final = " \t\r\n"
# Longer lists are compared item by item at their ends only.
_MOST_COMPARED: Final = 300


class _Edit(NamedTuple):
    """What stands in the place of a part of the text."""

    start: int
    end: int
    text: str


class _Entry(NamedTuple):
    """A key with its value, or an item of a list.

    `start` is where it begins behind its indentation, `mark` the place behind its colon or dash, `end` that behind its
    last line.
    """

    key: Any
    start: int
    mark: int
    end: int
    value: Any


class _UnclearError(Exception):
    """A change that cannot be made so closely. Never leaves this module."""


def edited(yaml: str, before: dict[str, Any], wanted: dict[str, Any], newline: str) -> str:
    """The YAML of `before`, changed to say `wanted`. Raises InvalidValueError for what YAML cannot hold."""
    editor = _Editor(yaml, newline)
    for make in (editor.closely, editor.without_gaps, editor.by_key):
        try:
            text = _applied(yaml, make(before, wanted))
        except _UnclearError:
            continue
        if yaml_text.says(text, wanted):
            return text
    return yaml_text.dump(wanted, newline) if wanted else ""


def _applied(yaml: str, edits: Sequence[_Edit]) -> str:
    parts: list[str] = []
    position = 0
    # Stable: of what is inserted in one place, the inner comes first.
    for edit in sorted(edits, key=lambda edit: edit[:2]):
        if edit.start < position:
            raise _UnclearError
        parts += [yaml[position : edit.start], edit.text]
        position = edit.end
    return "".join([*parts, yaml[position:]])


class _Editor:
    def __init__(self, yaml: str, newline: str) -> None:
        self._yaml = yaml
        self._newline = newline
        self._library = yaml_text.library()
        self._root = self._library.compose(yaml)
        self._takes_gaps = False

    def closely(self, before: dict[str, Any], wanted: dict[str, Any]) -> list[_Edit]:
        """The edits, each as small as it can be."""
        if self._root is None:
            return [self._inserted(len(self._yaml), wanted, 0)] if wanted else []
        if self._root.flow_style:
            return [*self._flow(self._root, before, wanted)]
        return [*self._mapping(self._root, before, wanted, len(self._yaml), is_root=True)]

    def without_gaps(self, before: dict[str, Any], wanted: dict[str, Any]) -> list[_Edit]:
        """The same, but that what is removed takes the blank lines behind it along.

        Behind a text that keeps its line ends they would become part of that.
        """
        self._takes_gaps = True
        return self.closely(before, wanted)

    def by_key(self, before: dict[str, Any], wanted: dict[str, Any]) -> list[_Edit]:
        """The edits, with all that refers to another part of the text, and may be referred to, written anew."""
        if self._root is None or self._root.flow_style:
            raise _UnclearError
        edits: list[_Edit] = []
        seen: set[int] = set()
        known: set[Any] = set()
        for entry in self._entries(self._root, len(self._yaml)):
            known.add(entry.key)
            is_tied = _is_tied(entry.value, seen)
            if entry.key not in wanted:
                edits.append(self._removed(entry))
            elif is_tied or not same(before[entry.key], wanted[entry.key]):
                edits.append(self._whole(entry, wanted[entry.key], self._column(entry.start)))
        new = {key: value for key, value in wanted.items() if key not in known}
        return [*edits, *([self._inserted(len(self._yaml), new, 0)] if new else [])]

    # Mappings

    def _mapping(
        self, node: Any, before: dict[str, Any], wanted: dict[str, Any], limit: int, *, is_root: bool = False
    ) -> Iterator[_Edit]:
        """The edits of a mapping whose keys are on lines of their own."""
        entries = self._entries(node, limit)
        if not is_root and not wanted.keys() & {entry.key for entry in entries}:
            # Without any of its keys it would be no mapping.
            raise _UnclearError
        column = self._column(entries[0].start)
        for entry in entries:
            if entry.key not in wanted:
                yield self._removed(entry)
            elif not same(before[entry.key], wanted[entry.key]):
                yield from self._value(entry, before[entry.key], wanted[entry.key], column)
        known = {entry.key for entry in entries}
        # What stays as it was and is no key here came by a merge key.
        new = {
            key: value
            for key, value in wanted.items()
            if key not in known and not (key in before and same(before[key], value))
        }
        if new:
            yield self._inserted(len(self._yaml) if is_root else self._behind(entries[-1]), new, column)

    def _entries(self, node: Any, limit: int) -> list[_Entry]:
        """The keys of a mapping, without merge keys. Raises _UnclearError unless each begins a line."""
        pairs = node.value
        starts = [key.start_mark.index for key, _ in pairs]
        limits = [*(self._line_start(start) for start in starts[1:]), limit]
        entries: list[_Entry] = []
        for number, ((key, value), end) in enumerate(zip(pairs, limits, strict=True)):
            colon = _COLON.match(self._yaml, key.end_mark.index)
            alone = not self._yaml[self._line_start(starts[number]) : starts[number]].strip(" ")
            if key.id != "scalar" or colon is None or not (alone or not number) or key.anchor:
                raise _UnclearError
            if key.start_mark.column != pairs[0][0].start_mark.column or end < colon.end():
                raise _UnclearError
            if key.tag.endswith(":merge"):
                continue
            last = self._end(starts[number], end, value)
            entries.append(_Entry(self._constructed(key), starts[number], colon.end(), last, value))
        if not entries:
            raise _UnclearError
        return entries

    def _constructed(self, key: Any) -> Any:
        return self._library.constructor.construct_object(key, deep=True)

    # Lists

    def _sequence(self, node: Any, before: list[Any], wanted: list[Any], limit: int) -> Iterator[_Edit]:
        """The edits of a list whose items are on lines of their own."""
        items = self._items(node, limit)
        if len(items) != len(before) or not wanted:
            raise _UnclearError
        column = self._column(items[0].start)
        stretches = [(old, new, min(len(old), len(new))) for old, new in _aligned(before, wanted)]
        gone = [(before[at], items[at]) for old, _, paired in stretches for at in old[paired:]]
        for old, new, paired in stretches:
            for at, index in zip(old[:paired], new[:paired], strict=True):
                yield from self._value(items[at], before[at], wanted[index], column)
            for at in old[paired:]:
                yield self._removed(items[at])
            last = old.start + paired - 1
            place = self._line_start(items[0].start) if last < 0 else self._behind(items[last])
            for index in new[paired:]:
                yield _Edit(place, place, self._item(wanted[index], gone, column))

    def _item(self, value: Any, gone: list[tuple[Any, _Entry]], column: int) -> str:
        """The lines of a new item. One that was removed elsewhere is moved as it is, with its comment."""
        for number, (old, entry) in enumerate(gone):
            if same(old, value):
                del gone[number]
                return self._yaml[self._alone(entry) : entry.end]
        return self._inserted(0, [value], column).text

    def _items(self, node: Any, limit: int) -> list[_Entry]:
        start, column = node.start_mark.index, node.start_mark.column
        dash = re.compile(rf"^ {{{column}}}-(?=[ \t\r\n]|\Z)", re.MULTILINE)
        if self._yaml[start] != "-":
            raise _UnclearError
        dashes = [start, *(match.end() - 1 for match in dash.finditer(self._yaml, start + 1, limit))]
        if len(dashes) != len(node.value):
            raise _UnclearError
        limits = [*(self._line_start(each) for each in dashes[1:]), limit]
        return [
            _Entry(None, place, place + 1, self._end(place, end, value), value)
            for place, end, value in zip(dashes, limits, node.value, strict=True)
        ]

    # Values

    def _value(self, entry: _Entry, before: Any, wanted: Any, column: int) -> Iterator[_Edit]:
        """The edits of one value; if they cannot be made closely, its lines."""
        try:
            yield from [*self._inside(entry, before, wanted)]
        except _UnclearError:
            yield self._whole(entry, wanted, column)

    def _inside(self, entry: _Entry, before: Any, wanted: Any) -> Iterator[_Edit]:
        node = entry.value
        is_here = entry.mark <= node.start_mark.index < entry.end
        if node.id == "scalar":
            yield self._scalar(entry, wanted)
        elif not is_here or node.anchor or type(before) is not type(wanted):
            raise _UnclearError
        elif node.flow_style:
            yield from self._flow(node, before, wanted)
        elif node.id == "mapping":
            yield from self._mapping(node, before, wanted, entry.end)
        else:
            yield from self._sequence(node, before, wanted, entry.end)

    def _scalar(self, entry: _Entry, wanted: Any) -> _Edit:
        """A scalar for a scalar on one line: a comment behind it stays."""
        node = entry.value
        start, end = node.start_mark.index, node.end_mark.index
        text = yaml_text.dump({"k": wanted}, "\n").removeprefix("k:").removesuffix("\n")
        if isinstance(wanted, dict | list) or "\n" in text or node.style in ("|", ">"):
            raise _UnclearError
        if start == end:
            return _Edit(entry.mark, entry.mark, text)
        if not entry.mark <= start < end <= entry.end or "\n" in self._yaml[start:end]:
            raise _UnclearError
        return _Edit(start, end, text.lstrip(" "))

    def _flow(self, node: Any, before: Any, wanted: Any) -> Iterator[_Edit]:
        """The edits of `[…]` or `{…}`: those of its parts where it has as many as before, else all of it."""
        start, end = node.start_mark.index, node.end_mark.index
        whole = _flow_edit(node, wanted)
        parts = self._flow_parts(node, before, wanted)
        edits = [_flow_edit(part, new) for part, old, new in parts if not same(old, new)]
        if not edits or any(not start < edit.start < edit.end < end for edit in edits):
            yield whole
        else:
            yield from edits

    def _flow_parts(self, node: Any, before: Any, wanted: Any) -> list[tuple[Any, Any, Any]]:
        """The parts of `[…]` or `{…}` as they are and shall be; none where there are others than before."""
        if node.id == "sequence":
            alike = len(node.value) == len(before) == len(wanted)
            return [*zip(node.value, before, wanted, strict=True)] if alike else []
        pairs = {self._constructed(key): value for key, value in node.value if key.id == "scalar"}
        alike = len(pairs) == len(node.value) and pairs.keys() == before.keys() == wanted.keys()
        return [(value, before[key], wanted[key]) for key, value in pairs.items()] if alike else []

    # Pieces of text

    def _removed(self, entry: _Entry) -> _Edit:
        end = self._behind_gap(entry.end) if self._takes_gaps else entry.end
        return _Edit(self._alone(entry), end, "")

    def _behind(self, entry: _Entry) -> int:
        """The place behind an entry, and behind the blank lines that its text keeps."""
        leaf = _last_leaf(entry.value)
        start = leaf.start_mark.index
        head = self._yaml[start : self._line_end(start)].partition("#")[0].rstrip()
        keeps = leaf.id == "scalar" and _KEEPING.search(f"{head}\n")
        return self._behind_gap(entry.end) if keeps else entry.end

    def _behind_gap(self, place: int) -> int:
        """The place behind the blank lines there."""
        while (line := self._line_end(place)) > place and not self._yaml[place:line].strip(_BLANK):
            place = line
        return place

    def _alone(self, entry: _Entry) -> int:
        """The beginning of its line. Raises _UnclearError when something else begins there, too."""
        start = self._line_start(entry.start)
        if self._yaml[start : entry.start].strip(" "):
            raise _UnclearError
        return start

    def _whole(self, entry: _Entry, wanted: Any, column: int) -> _Edit:
        """An entry's lines with another value; the key is spelled as it was."""
        text = yaml_text.dump({"k": wanted}, self._newline).removeprefix("k:")
        if entry.key is None and self._yaml[entry.start] == "-":
            text = yaml_text.dump({"k": [wanted]}, self._newline).partition(self._newline)[2].removeprefix("-")
        # Blank lines would be part of a text that keeps its line ends.
        end = self._behind_gap(entry.end) if _KEEPING.search(text) else entry.end
        if _TEXT.search(text) and self._is_comment_below(end, column):
            # It would be part of the text, so that may have no lines of its own.
            text = f" {_flow_edit(entry.value, wanted).text}{self._newline}"
        return _Edit(entry.mark, end, self._indented(text, column, is_begun=True))

    def _is_comment_below(self, place: int, column: int) -> bool:
        """Whether a comment follows that is indented by more than the column."""
        line = self._yaml[place:].lstrip("\r\n")
        bare = line.lstrip(" ")
        return bare.startswith("#") and len(line) - len(bare) > column

    def _inserted(self, place: int, new: dict[str, Any] | list[Any], column: int) -> _Edit:
        text = yaml_text.dump({"k": new}, self._newline).partition(self._newline)[2]
        if isinstance(new, dict):
            text = yaml_text.dump(new, self._newline)
        return _Edit(place, place, self._indented(text, column))

    def _indented(self, text: str, column: int, *, is_begun: bool = False) -> str:
        lines = text.split("\n")
        shown = [f"{' ' * column}{line}" if line.strip(_BLANK) else line for line in lines]
        return "\n".join([lines[0], *shown[1:]] if is_begun else shown)

    def _column(self, place: int) -> int:
        return place - self._line_start(place)

    def _line_start(self, place: int) -> int:
        return self._yaml.rfind("\n", 0, place) + 1

    def _line_end(self, place: int) -> int:
        return self._yaml.find("\n", place) + 1 or len(self._yaml)

    def _end(self, start: int, limit: int, value: Any) -> int:
        """The end of the last line of an entry: blank lines and comments behind it belong to what follows."""
        column = self._column(start)
        leaf = _last_leaf(value)
        in_text = leaf.id == "scalar" and leaf.style in ("|", ">")
        end = limit
        while (line := self._line_start(end - 1)) > start:
            text = self._yaml[line:end]
            bare = text.lstrip(" ")
            is_comment = bare.startswith("#") and not (in_text and len(text) - len(bare) > column)
            if text.strip(_BLANK) and not is_comment:
                break
            end = line
        return end


def _last_leaf(node: Any) -> Any:
    seen: set[int] = set()
    while node.id != "scalar" and node.value and id(node) not in seen:
        seen.add(id(node))
        node = node.value[-1][1] if node.id == "mapping" else node.value[-1]
    return node


def _flow_edit(node: Any, wanted: Any) -> _Edit:
    try:
        return _Edit(node.start_mark.index, node.end_mark.index, yaml_text.dump_flow(wanted))
    except InvalidValueError:
        # Perhaps it can be held elsewhere than in a line.
        raise _UnclearError from None


def _is_tied(node: Any, seen: set[int]) -> bool:
    """Whether a part of the text holds an anchor, or refers to one."""
    waiting, is_tied = [node], False
    while waiting:
        node = waiting.pop()
        is_tied = is_tied or bool(node.anchor) or id(node) in seen
        if id(node) not in seen:
            seen.add(id(node))
            if node.id == "mapping":
                waiting += [part for pair in node.value for part in pair]
            elif node.id == "sequence":
                waiting += node.value
    return is_tied


def _aligned(before: list[Any], wanted: list[Any]) -> Iterator[tuple[range, range]]:
    """The stretches of two lists that differ, by their places."""
    head = _common(before, wanted)
    tail = _common(before[head:][::-1], wanted[head:][::-1])
    old, new = range(head, len(before) - tail), range(head, len(wanted) - tail)
    if len(old) == len(new) == 1 or not old or not new or len(old) + len(new) > _MOST_COMPARED:
        yield old, new
        return
    kinds: list[Any] = []
    marks = [_mark(each, kinds) for each in [*before[head : old.stop], *wanted[head : new.stop]]]
    for tag, a, b, c, d in SequenceMatcher(None, marks[: len(old)], marks[len(old) :], autojunk=False).get_opcodes():
        if tag != "equal":
            yield range(head + a, head + b), range(head + c, head + d)


def _common(one: list[Any], other: list[Any]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((number for number, pair in pairs if not same(*pair)), min(len(one), len(other)))


def _mark(value: Any, kinds: list[Any]) -> int:
    """A number that equal values share."""
    for number, kind in enumerate(kinds):
        if same(kind, value):
            return number
    kinds.append(value)
    return len(kinds) - 1
