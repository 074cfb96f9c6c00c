"""Markdown documents with optional YAML front matter, byte for byte as a person wrote them.

A document begins with front matter when its first line is `---` and a later line is `---` or `...`; what stands between
is YAML 1.2 and must be a mapping. Everything behind it is the text.

What was not changed keeps its very bytes: a BOM, CRLF, comments, quotes, the order of keys. When a key of the front
matter changes, only its lines do. YAML is read when somebody asks for it; documents without it need no YAML library.
"""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeGuard, cast

from fsstate.errors import CorruptRecordError, FsStateError, InvalidValueError, MissingExtraError
from fsstate.merge import same

__all__ = ["Document"]

_BOM: Final = "\ufeff"
_HEAD: Final = re.compile(
    r"(?P<opening>---[ \t]*(?P<newline>\r?\n))(?P<yaml>(?:.*\n)*?)(?P<closing>(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z))"
)
_EMPTY_HEAD: Final = "---\n---\n"
_CONFLICT: Final = re.compile(r"^<{7}(?: |$)", re.MULTILINE)
# Plain text to YAML 1.2, true or false to the readers of YAML 1.1 that most tools still use.
_BOOLEAN: Final = re.compile(r"(?:y|n|yes|no|on|off)\Z", re.IGNORECASE)
_ESCAPED: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")
# Blank lines and comments behind a value, which belong to what follows.
_TRAILING: Final = re.compile(r"(?:[ \t]*(?:\r?\n|\Z)|#.*(?:\n|\Z))+\Z")


class Document:
    """A Markdown document: its text, and its front matter if it has any.

    `text` and `front_matter` may be assigned, and the front matter's dict may be changed in place. Documents are equal
    when text and front matter are. Not safe to change from two threads at once.
    """

    # Equal by content that may change.
    __hash__ = None  # type: ignore[assignment]
    __slots__ = ("_bom", "_front_matter", "_head", "_original", "_read", "_where", "text")

    text: str
    """What follows the front matter, exactly: with its line ends, and with the blank line that often comes first."""

    def __init__(self, text: str, front_matter: Mapping[str, Any] | None = None) -> None:
        self.text = text
        self._bom = ""
        # The front matter with its delimiters as it stands in the file; empty when there is none.
        self._head = ""
        self._where = "the document"
        self._read = True
        # What the head says, to see what was changed since.
        self._original: dict[str, Any] | None = None
        self._front_matter: dict[str, Any] | None = None
        self.front_matter = front_matter

    @classmethod
    def parse(cls, data: bytes, where: str = "the document") -> Document:
        """The document in a file's bytes. `where` is the path that errors name.

        Raises CorruptRecordError for bytes that are not UTF-8. Faulty front matter is reported once it is asked for.
        """
        try:
            content = data.decode()
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            reason = f"byte 0x{data[error.start]:02x} at offset {error.start} is not UTF-8; save the file as UTF-8"
            raise CorruptRecordError(where, reason, line=line, offset=error.start) from None
        bom = _BOM if content.startswith(_BOM) else ""
        head = _head_of(content[len(bom) :])
        document = cls(content[len(bom) + len(head) :])
        document._bom, document._head, document._where = bom, head, where
        document._read = not head
        return document

    @property
    def front_matter(self) -> dict[str, Any] | None:
        """The front matter as a dict, `{}` when it is empty, None when there is none. Assign None to remove it.

        Reading it raises MissingExtraError when there is some and ruamel.yaml is not installed, and CorruptRecordError
        with the line when it is not valid YAML or no mapping.
        """
        if not self._read:
            self._original = _load(_yaml_of(self._head), self._where)
            self._front_matter = copy.deepcopy(self._original)
            self._read = True
        return self._front_matter

    @front_matter.setter
    def front_matter(self, value: Mapping[str, Any] | None) -> None:
        if value is None:
            self._head, self._original, self._front_matter = "", None, None
        else:
            self._set_front_matter(dict(value))
        self._read = True

    def _set_front_matter(self, value: dict[str, Any]) -> None:
        if value:
            _yaml()
        # The old one is read only to keep the lines of keys that stay the same; what cannot be read is replaced.
        try:
            _ = self.front_matter
        except CorruptRecordError:
            self._head = ""
        self._front_matter = value

    def render(self) -> bytes:
        """The file's bytes. Unchanged parts are the bytes that were parsed.

        Raises InvalidValueError for front matter that YAML cannot hold, and for text that UTF-8 cannot.
        """
        content = self._render_head() + self.text
        if not self._bom and content.startswith(_BOM):
            # Else the next reader takes the first character of the text for a byte order mark.
            content = _BOM + content
        try:
            return (self._bom + content).encode()
        except UnicodeEncodeError as error:
            reason = f"{content[error.start]!r} is half of a character, which UTF-8 cannot express"
            raise InvalidValueError(f"{reason} ({self._where})", at="the text") from None

    def _render_head(self) -> str:
        head = self._head
        try:
            if self._read and not same(self._front_matter, self._original):
                head = self._changed_head()
        except RecursionError:
            raise InvalidValueError(f"it contains itself ({self._where})", at="the front matter") from None
        if not head and _head_of(self.text):
            # Else the beginning of the text would be read as front matter.
            return _EMPTY_HEAD
        return f"{head}\n" if self.text and head and not head.endswith("\n") else head

    def _changed_head(self) -> str:
        wanted = _plain(self._front_matter)
        if wanted is None or not (wanted or self._head):
            return ""
        if not self._head:
            newline = "\r\n" if self.text.partition("\n")[0].endswith("\r") else "\n"
            return f"---{newline}{_dump(wanted, newline)}---{newline}"
        return _edit(self._head, self._original or {}, wanted)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Document):
            return NotImplemented
        if self.text != other.text:
            return False
        if not self._read and not other._read and self._head == other._head:
            return True
        try:
            return same(self.front_matter or {}, other.front_matter or {})
        except FsStateError:
            return False

    def __repr__(self) -> str:
        return f"Document({self.text!r}, {self._front_matter!r})" if self._read else f"Document({self.text!r}, …)"


def _head_of(content: str) -> str:
    match = _HEAD.match(content)
    return match[0] if match else ""


def _yaml_of(head: str) -> str:
    match = _HEAD.match(head)
    return match["yaml"] if match else ""


# --- editing ---------------------------------------------------------------------------------------------------------


class _Span(NamedTuple):
    """Where a top-level key stands in the YAML: its lines, and its value if that is a scalar on one line."""

    key: Any
    start: int
    end: int
    value: tuple[int, int] | None


def _edit(head: str, before: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The head with only the lines of changed keys replaced."""
    match = _HEAD.match(head)
    assert match is not None
    yaml, newline = match["yaml"], match["newline"]
    edited = _edit_yaml(yaml, before, wanted, newline)
    # Anchors, flow style, directives: what cannot be changed line by line is written anew.
    if not _says(edited, wanted):
        edited = _dump(wanted, newline)
    return match["opening"] + edited + match["closing"]


def _edit_yaml(yaml: str, before: dict[str, Any], wanted: dict[str, Any], newline: str) -> str:
    parts: list[str] = []
    position = 0
    for span in _spans(yaml, before):
        parts.append(yaml[position : span.start])
        if span.key in wanted:
            parts.append(_edit_key(yaml, span, before[span.key], wanted[span.key], newline))
        position = span.end
    parts.append(yaml[position:])
    new = {key: value for key, value in wanted.items() if key not in before}
    return "".join(parts) + (_dump(new, newline) if new else "")


def _edit_key(yaml: str, span: _Span, before: object, wanted: object, newline: str) -> str:
    if same(before, wanted):
        return yaml[span.start : span.end]
    dumped = _dump({span.key: wanted}, newline)
    scalar = _dump({"k": wanted}, newline).removeprefix("k:").removesuffix(newline)
    if span.value is None or "\n" in scalar or isinstance(wanted, dict | list):
        return dumped
    # A scalar for a scalar: the key's own spelling and a comment behind the value stay.
    start, end = span.value
    before_value = yaml[span.start : start]
    return before_value + (scalar if before_value.endswith(":") else scalar.lstrip()) + yaml[end : span.end]


def _spans(yaml: str, before: dict[str, Any]) -> list[_Span]:
    """The places of the top-level keys, in order; none when they do not each begin a line."""
    node: Any = _yaml().compose(yaml)
    pairs: list[tuple[Any, Any]] = node.value if node is not None else []
    starts = [key.start_mark.index for key, _ in pairs]
    if not pairs or len(pairs) != len(before) or any(start and yaml[start - 1] != "\n" for start in starts):
        return []
    spans: list[_Span] = []
    for key, (_, value), start, limit in zip(before, pairs, starts, [*starts[1:], len(yaml)], strict=True):
        end = start + len(_TRAILING.sub("", yaml[start:limit]))
        spans.append(_Span(key, start, _line_end(yaml, end), _scalar(yaml, value)))
    return spans


def _line_end(yaml: str, position: int) -> int:
    """The end of the line that holds the character before `position`."""
    return yaml.find("\n", position - 1) + 1 or len(yaml)


def _scalar(yaml: str, node: Any) -> tuple[int, int] | None:
    start, end = node.start_mark.index, node.end_mark.index
    return None if node.id != "scalar" or node.style in ("|", ">") or "\n" in yaml[start:end] else (start, end)


def _says(yaml: str, wanted: dict[str, Any]) -> bool:
    """Whether it reads as `wanted`, and stands between the delimiters without being one."""
    try:
        return _yaml_of(f"---\n{yaml}---\n") == yaml and same(_load(yaml, ""), wanted)
    except CorruptRecordError:
        return False


# --- YAML ------------------------------------------------------------------------------------------------------------


def _yaml() -> Any:
    """A reader and writer of safe YAML 1.2. Imported late: it takes longer than the rest of fsstate."""
    try:
        from ruamel.yaml import YAML
    except ImportError:
        raise MissingExtraError("YAML front matter", "yaml") from None
    return YAML(typ="safe", pure=True)


def _load(yaml: str, where: str) -> dict[str, Any]:
    reader = _yaml()
    try:
        value = reader.load(yaml)
    except Exception as error:  # noqa: BLE001 - ValueError for a 13th month, RecursionError, KeyError …: all mean faulty
        raise _corrupt(error, yaml, where) from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        reason = "front matter must be a mapping of keys to values; write `key: value` lines between the --- lines"
        raise CorruptRecordError(where, reason, line=2, column=1)
    return cast("dict[str, Any]", value)


def _corrupt(error: Exception, yaml: str, where: str) -> CorruptRecordError:
    """The error with its place in the file: the front matter begins on line 2."""
    if (match := _CONFLICT.search(yaml)) is not None:
        reason = "git conflict markers; keep one side, remove the lines with <<<<<<<, ======= and >>>>>>>, and save"
        return CorruptRecordError(where, reason, line=yaml.count("\n", 0, match.start()) + 2, column=1)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or error
    mark: Any = getattr(error, "problem_mark", None)
    position: int = mark.index if mark is not None else getattr(error, "position", 0)
    before = yaml[:position]
    reason = f"the front matter is not valid YAML: {problem}; correct it"
    line, column = before.count("\n") + 2, len(before) - before.rfind("\n")
    return CorruptRecordError(where, reason, line=line, column=column)


def _dump(value: dict[str, Any], newline: str) -> str:
    stream = io.StringIO()
    writer = _yaml()
    writer.default_flow_style = False
    writer.allow_unicode = True
    writer.sort_base_mapping_type_on_output = False
    # Long lines are a person's, or one value: never broken.
    writer.width = 1 << 30
    writer.representer.ignore_aliases = _without_aliases
    writer.representer.add_representer(str, _represent_text)
    try:
        writer.dump(value, stream)
    except Exception as error:  # noqa: BLE001 - besides YAMLError whatever an unknown object's methods raise
        raise InvalidValueError(f"YAML front matter cannot hold it: {error}", at="the front matter") from None
    # What ends a document after a block of text that ends in blank lines; here it would end the front matter.
    yaml = stream.getvalue().removesuffix("...\n")
    if not _says(yaml, value):
        reason = "YAML would read it back as something else; use None, bool, int, float, str, date, list and dict"
        raise InvalidValueError(reason, at="the front matter")
    return yaml.replace("\n", newline)


def _without_aliases(_: object) -> bool:
    # A value that stands in two places is written twice, not as &id001 and *id001.
    return True


def _represent_text(representer: Any, text: str) -> Any:
    style = "'" if _BOOLEAN.match(text) else '"' if _ESCAPED.search(text) else "|" if "\n" in text else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _plain(value: Any) -> Any:
    """Tuples as lists and mappings as dicts, which is what YAML gives back."""
    if _is_mapping(value):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in cast("list[Any]", value)]
    return value
