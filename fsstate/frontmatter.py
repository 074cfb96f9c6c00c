"""Markdown documents with optional YAML front matter, byte for byte as a person wrote them.

A document begins with front matter when its first line is `---` and a later line is `---` or `...`; what stands between
is YAML 1.2 and must be a mapping. Everything behind it is the text.

What was not changed keeps its very bytes: a BOM, CRLF, comments, quotes, the order of keys. When a key of the front
matter changes, only its lines do. YAML is read when somebody asks for it; documents without it need no YAML library.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any, Final

from fsstate import yaml_text
from fsstate.errors import CorruptRecordError, FsStateError, InvalidValueError
from fsstate.merge import same
from fsstate.yaml_edits import edited

__all__ = ["Document"]

_BOM: Final = "\ufeff"
_HEAD: Final = re.compile(
    r"(?P<opening>---[ \t]*(?P<newline>\r?\n))(?P<yaml>(?:.*\n)*?)(?P<closing>(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z))"
)
_EMPTY_HEAD: Final = "---\n---\n"


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
            self._original = yaml_text.load(_yaml_of(self._head), self._where)
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
            yaml_text.library()
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
        wanted = yaml_text.plain(self._front_matter)
        if wanted is None or not (wanted or self._head):
            return ""
        if not self._head:
            newline = "\r\n" if self.text.partition("\n")[0].endswith("\r") else "\n"
            return f"---{newline}{yaml_text.dump(wanted, newline)}---{newline}"
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


def _edit(head: str, before: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The head with only the lines of what changed replaced."""
    match = _HEAD.match(head)
    assert match is not None
    return match["opening"] + edited(match["yaml"], before, wanted, match["newline"]) + match["closing"]
