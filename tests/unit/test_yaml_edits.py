"""A change of front matter touches the lines of what changed, and no other byte, whatever the YAML looks like.

The documents are made line by line, so that the test knows which lines each key and item takes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsstate.frontmatter import Document
from fsstate.merge import same

Place: TypeAlias = tuple[str | int, ...]
Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]

PLAIN = (
    "1",
    "x",
    "true",
    "~",
    "2026-01-31",
    "1.5",
    "word two",
    "http://x/y#z",
    "é 日本",
    "-dash",
    "!!str 5",
    "null",
    "",
)
QUOTED = ("'it''s'", '"a\\tb # no"', "''", '"q"')
SCALARS = st.sampled_from([*PLAIN, *QUOTED])
FLOWS = st.sampled_from(["[a, b]", "{p: 1, q: [2, 3]}", "[]", "{}", "[ 'x' , \"y\" ]", "{a: , b: x}"])
COMMENTS = st.sampled_from(["", "  # note", " #x", ""])
GAPS = st.lists(st.sampled_from(["", "# top", ""]), max_size=2)
KEYS: dict[str, str | int] = {
    **{key: key for key in ("a", "b", "title", "x y", "due date", "é")},
    "'q'": "q",
    "0": 0,
}
TEXT_LINES = st.lists(st.sampled_from(["one", "two: x", "# in text", "  deeper", "", "- z"]), max_size=2)
TEXTS = ("plain", "two\nlines\n", "x: y", "# c", "ends\n\n", "yes", "it's", "")
NEW = st.sampled_from([*TEXTS, 7, None, True, 2.5, ["l", 1], {"m": 1}, [], {}, [["n"]], {"m": {"n": [1, {"o": 2}]}}])


class Made(NamedTuple):
    """A document: its lines between the delimiters, and the lines of each key and item as a range."""

    bom: str
    lines: list[str]
    spans: dict[Place, range]
    newline: str
    closing: str
    text: str

    def part(self, start: int, end: int | None = None) -> str:
        return "".join(f"{line}{self.newline}" for line in self.lines[start:end])

    @property
    def opening(self) -> str:
        return f"{self.bom}---{self.newline}"

    @property
    def data(self) -> bytes:
        return f"{self.opening}{self.part(0)}{self.closing}{self.text}".encode()


class Maker:
    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.lines: list[str] = []
        self.spans: dict[Place, range] = {}

    def mapping(self, column: int, above: Place) -> None:
        keys = self.draw(st.lists(st.sampled_from([*KEYS]), min_size=1, max_size=3, unique=True))
        for number, key in enumerate(keys):
            place = (*above, KEYS[key])
            start = len(self.lines)
            self.value(column, place, f"{' ' * column}{key}:")
            self.spans[place] = range(start, len(self.lines))
            if not above or number < len(keys) - 1:
                self.gap(column)

    def gap(self, column: int) -> None:
        self.lines += [f"{' ' * column}{line}" if line else "" for line in self.draw(GAPS)]

    def value(self, column: int, place: Place, head: str) -> None:
        nested = [self.nested, self.items] if len(place) < 3 else []
        self.draw(st.sampled_from([self.scalar, self.scalar, self.text, self.quoted, *nested]))(column, place, head)

    def scalar(self, column: int, place: Place, head: str) -> None:
        value = self.draw(SCALARS | FLOWS)
        space = self.draw(st.sampled_from([" ", "   "]))
        self.lines.append(f"{head}{space if value else ''}{value}{self.draw(COMMENTS)}")

    def text(self, column: int, place: Place, head: str) -> None:
        marks = self.draw(st.sampled_from("|>")) + self.draw(st.sampled_from(["", "-", "+"]))
        self.lines.append(f"{head} {marks}{self.draw(COMMENTS)}")
        self.lines += [f"{' ' * (column + 3)}{line}".rstrip() for line in ["first", *self.draw(TEXT_LINES), "last"]]

    def quoted(self, column: int, place: Place, head: str) -> None:
        self.lines += [f'{head} "one', f'{" " * (column + 2)}two"{self.draw(COMMENTS)}']

    def nested(self, column: int, place: Place, head: str) -> None:
        self.lines.append(f"{head}{self.draw(COMMENTS)}")
        self.gap(column + 2)
        self.mapping(column + self.draw(st.sampled_from([1, 2, 4])), place)

    def items(self, column: int, place: Place, head: str) -> None:
        self.lines.append(f"{head}{self.draw(COMMENTS)}")
        column += self.draw(st.sampled_from([0, 2]))
        for number in range(self.draw(st.integers(1, 3))):
            self.scalar(column, place, f"{' ' * column}-")
            self.spans[(*place, number)] = range(len(self.lines) - 1, len(self.lines))


@st.composite
def documents(draw: Draw) -> Made:
    maker = Maker(draw)
    maker.gap(0)
    maker.mapping(draw(st.sampled_from([0, 0, 2])), ())
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    bom, closing = draw(st.sampled_from(["", "\ufeff"])), draw(st.sampled_from(["---", "...", "--- "]))
    text = draw(st.sampled_from([newline, f"{newline}text", ""]))
    return Made(bom, maker.lines, maker.spans, newline, closing, text)


def at(value: Any, place: Place) -> Any:
    for step in place:
        value = value[step]
    return value


def written(made: Made, front_matter: dict[str, Any]) -> str:
    """The document with other front matter, which is what it reads back as."""
    document = Document.parse(made.data)
    document.front_matter = front_matter
    data = document.render()
    again = Document.parse(data)
    assert same(again.front_matter, front_matter)
    assert again.text == document.text
    return data.decode()


def keeps_line_ends(text: str) -> bool:
    return "|+" in text or ">+" in text


slow = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@slow
@given(documents(), st.data())
def test_only_the_lines_of_a_changed_value_change(made: Made, data: st.DataObject) -> None:
    front_matter = copy.deepcopy(Document.parse(made.data).front_matter)
    assert front_matter is not None
    place = data.draw(st.sampled_from(sorted(made.spans, key=repr)))
    span, new = made.spans[place], data.draw(NEW)
    holder: Any = at(front_matter, place[:-1])
    holder[place[-1]] = new
    shown = written(made, front_matter)
    assert shown.startswith(made.opening + made.part(0, span.start))
    rest = made.part(span.stop)
    # Blank lines behind a text that ends in some would be part of it.
    is_greedy = isinstance(new, str) and new.endswith("\n\n")
    assert shown.endswith((rest.lstrip("\r\n") if is_greedy else rest) + made.closing + made.text)


@slow
@given(documents(), st.data())
def test_only_the_lines_of_a_removed_key_or_item_go(made: Made, data: st.DataObject) -> None:
    front_matter = copy.deepcopy(Document.parse(made.data).front_matter)
    assert front_matter is not None
    place = data.draw(st.sampled_from(sorted(made.spans, key=repr)))
    span = made.spans[place]
    holder: Any = at(front_matter, place[:-1])
    key: Any = place[-1]
    removed = holder[key]
    is_one_of_several = isinstance(holder, list) and sum(same(each, removed) for each in holder) > 1
    if is_one_of_several or (len(holder) == 1 and len(place) > 1):
        # The one that goes may be another; and what would be left is no mapping and no list.
        return
    del holder[key]
    before, after = made.part(0, span.start), made.part(span.stop)
    expected = {made.opening + before + rest + made.closing + made.text for rest in (after, after.lstrip("\r\n"))}
    assert written(made, front_matter) in (expected if keeps_line_ends(before) else {max(expected, key=len)})


@slow
@given(documents(), st.data())
def test_what_is_added_leaves_every_line(made: Made, data: st.DataObject) -> None:
    front_matter = copy.deepcopy(Document.parse(made.data).front_matter)
    assert front_matter is not None
    # A mapping or list that has lines of its own.
    holders = sorted({place[:-1] for place in made.spans}, key=repr)
    place, new = data.draw(st.sampled_from(holders)), data.draw(NEW)
    holder = at(front_matter, place)
    if isinstance(holder, list):
        holder.append(new)
    else:
        holder["brand new"] = new
    if isinstance(new, str) and new.endswith("\n\n"):
        return
    lines = iter(written(made, front_matter).splitlines())
    assert all(line in lines for line in made.data.decode().splitlines())
