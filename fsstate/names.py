"""Names that are file names on every system: what is refused, and how any string is mapped to one and back.

A record `name` in a category becomes `<category>/<name>.json` (or `.md`, `.jsonl`). What passes here is a single path
component on Linux, macOS and Windows, and leaves room for every suffix that fsstate puts behind it.
Two names that differ only in case or in Unicode normal form both pass: some file systems take them for one.

One form is reserved: `planner.conflict-2026-11-28T184512Z-1f3a` is what could not be saved of `planner` at that time.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

from fsstate.errors import InvalidNameError

__all__ = [
    "MAX_BYTES",
    "CopyName",
    "check_category",
    "check_name",
    "check_segment",
    "copy_in",
    "is_copy",
    "is_name",
    "is_segment",
    "key_of",
    "name_for",
    "name_of_copy",
    "quote_name",
    "unquote_name",
]

# How names of files are written: UTF-8 wherever neither the locale nor PYTHONUTF8=0 says otherwise.
_FILE_NAMES: Final = sys.getfilesystemencoding().lower()
# A file name has at most 255 bytes; the rest is for ".jsonl" and for what staged and conflict copies are called.
MAX_BYTES: Final = 200

# Names that need no second look: the common case, decided in one match.
_PLAIN: Final = re.compile(r"(?!(?i:CON|PRN|AUX|NUL|COM[0-9]|LPT[0-9])\Z)[A-Za-z0-9_-]{1,200}", re.ASCII)
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_FORBIDDEN: Final = re.compile(r'[<>:"|?*]')
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file: reserved with any extension too.
_RESERVED: Final = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?s:\..*)?", re.IGNORECASE)
_RECORD_SUFFIX: Final = re.compile(r"\.(?:jsonl?|md)\Z", re.IGNORECASE)
_UNSAFE: Final = re.compile('[%/\\\\<>:"|?*\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_ESCAPES: Final = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
# On disk: do not rename.
_CONFLICT: Final = ".conflict-"
_COPY: Final = re.compile(
    r"(?P<record>.+)\.conflict-(\d{4})-(\d\d)-(\d\d)T(\d\d)(\d\d)(\d\d)Z-[0-9a-f]{4}", re.DOTALL | re.ASCII
)

# The quoted form of the empty string: a "%" that no hex digits follow is made from nothing else.
_EMPTY: Final = "%"
# Folders are listed, and records looked at, again and again: so many names are judged only once.
_MOST_KNOWN: Final = 4096


class CopyName(NamedTuple):
    """What the name of a conflict copy tells: whose copy it is, and when it was kept."""

    record: str
    at: datetime


def check_name(name: str) -> str:
    """Return `name` if it can be a record's name, else raise InvalidNameError saying why not."""
    reason = _flaw(name)
    if reason is not None:
        raise InvalidNameError(name, reason)
    return name


def check_segment(name: str) -> str:
    """`check_name` for a name that is also a directory: a category's segment, or a session's id.

    It must not end in .json, .jsonl or .md in any case: the directory `a.json` would stand where record `a` belongs.
    """
    check_name(name)
    if (match := _RECORD_SUFFIX.search(name)) is not None:
        raise InvalidNameError(name, f"it names a directory, and {match[0]!r} at its end is for records' files")
    return name


def check_category(category: str) -> str:
    """Return `category` if it can be one: segments that pass `check_segment`, separated by `/`.

    Raises InvalidNameError that names the category and the segment. `.fsstate` is refused, as is all that starts with
    a dot.
    """
    if not _PLAIN.fullmatch(category):
        for segment in category.split("/"):
            try:
                check_segment(segment)
            except InvalidNameError as error:
                place = f"segment {segment!r}: " if "/" in category else ""
                raise InvalidNameError(category, place + error.reason) from None
    return category


@lru_cache(maxsize=_MOST_KNOWN)
def is_name(name: str) -> bool:
    """Whether `check_name` accepts it."""
    return _flaw(name) is None


def is_segment(name: str) -> bool:
    """Whether `check_segment` accepts it."""
    return _flaw(name) is None and _RECORD_SUFFIX.search(name) is None


def name_of_copy(record: str, at: datetime) -> str:
    """A name for what could not be saved of a record. It differs from others of the same second."""
    return f"{record}{_CONFLICT}{at.astimezone(UTC):%Y-%m-%dT%H%M%SZ}-{os.urandom(2).hex()}"


def copy_in(name: str) -> CopyName | None:
    """What the name of a conflict copy tells; None for any other name."""
    match = _COPY.fullmatch(name) if _CONFLICT in name else None
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, match.groups()[1:])
        return CopyName(match["record"], datetime(year, month, day, hour, minute, second, tzinfo=UTC))
    except ValueError:
        # No time that there was: nobody kept it then.
        return None


def is_copy(name: str) -> bool:
    """Whether it is the name of a conflict copy, which no record can have."""
    return _CONFLICT in name and copy_in(name) is not None


def quote_name(text: str) -> str:
    """Map any string to a name that `check_name` and `check_segment` accept; `unquote_name` maps it back.

    Different strings give different names. What is safe stays as it is, the rest becomes `%` and two hex digits for
    each byte of its UTF-8. The empty string gives `%`.

    >>> quote_name("feature/login: a")
    'feature%2Flogin%3A a'
    >>> unquote_name("feature%2Flogin%3A a")
    'feature/login: a'

    Raises InvalidNameError when the result would take more than 200 bytes: shortening it could not be undone.
    """
    name = _UNSAFE.sub(_escape, text) or _EMPTY
    name = _escape_ends(name)
    if is_copy(name):
        head, tail = name.rsplit(_CONFLICT, 1)
        name = f"{head}{_hex('.')}{_CONFLICT[1:]}{tail}"
    if _RESERVED.fullmatch(name):
        name = f"%{ord(name[0]):02X}{name[1:]}"
    size = len(name.encode())
    if size > MAX_BYTES:
        reason = f"quoted it takes {size} bytes, and {MAX_BYTES} is the limit; use a shorter id, or a hash of this one"
        raise InvalidNameError(text, reason)
    return name


@lru_cache(maxsize=_MOST_KNOWN)
def name_for(key: str) -> str:
    """A name for any string: as `quote_name` gives it, or 64 hex digits for one that is too long for that."""
    try:
        return quote_name(key)
    except InvalidNameError:
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


@lru_cache(maxsize=_MOST_KNOWN)
def key_of(name: str) -> str:
    """The string that `name_for` was given, as far as the name tells: itself, if `quote_name` never made it."""
    try:
        key = unquote_name(name)
        return key if quote_name(key) == name else name
    except InvalidNameError:
        return name


def unquote_name(name: str) -> str:
    """The string that `quote_name` made `name` from.

    Raises InvalidNameError for a name that it cannot have made: a stray `%`, or escapes that are not UTF-8.
    """
    if name == _EMPTY:
        return ""
    if "%" in _ESCAPES.sub("", name):
        raise InvalidNameError(name, "it holds a '%' without two hex digits, which quote_name() never writes")
    try:
        return _ESCAPES.sub(_unescape, name)
    except UnicodeDecodeError:
        raise InvalidNameError(name, "its %-escapes are not UTF-8, so quote_name() did not write them") from None


def _flaw(name: object) -> str | None:
    if not isinstance(name, str):
        return f"a name is a str, and this is a {type(name).__name__}"
    return None if _PLAIN.fullmatch(name) else _flaw_of_text(name)


def _flaw_of_text(name: str) -> str | None:
    if name == "":
        return "it is empty"
    if name in (".", ".."):
        return "it stands for a directory"
    for character in "/\\":
        if character in name:
            return f"it contains {character!r}"
    if (match := _CONTROL.search(name)) is not None:
        return f"it contains the control character {match[0]!r}"
    return _flaw_at_ends(name) or _flaw_on_windows(name) or _flaw_in_bytes(name) or _flaw_as_copy(name)


def _flaw_at_ends(name: str) -> str | None:
    if name.strip() != name:
        return "it begins or ends with a space"
    if name.startswith("."):
        return "it begins with a dot, as hidden files do"
    if name.endswith("."):
        return "it ends with a dot, which Windows drops"
    return None


def _flaw_on_windows(name: str) -> str | None:
    if (match := _FORBIDDEN.search(name)) is not None:
        return f"it contains {match[0]!r}, which Windows refuses"
    if _RESERVED.fullmatch(name):
        return "Windows reserves it for a device"
    return None


def _flaw_in_bytes(name: str) -> str | None:
    if _FILE_NAMES not in ("utf-8", "utf8") and not name.isascii():
        # Under these very bytes no other process would find it, and what others wrote has other names here.
        return (
            f"it is not ASCII, and this Python writes file names as {_FILE_NAMES}, where a store has UTF-8; "
            "start it with PYTHONUTF8=1"
        )
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        return f"it contains {name[error.start]!r}, half of a character, which UTF-8 cannot express"
    return f"it takes {size} bytes, and {MAX_BYTES} is the limit" if size > MAX_BYTES else None


def _flaw_as_copy(name: str) -> str | None:
    found = copy_in(name)
    if found is None:
        return None
    return f"it is that of a conflict copy of {found.record!r}, which `fsstate resolve` puts in place or removes"


def _hex(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))


def _escape(match: re.Match[str]) -> str:
    return _hex(match[0])


def _unescape(match: re.Match[str]) -> str:
    return bytes.fromhex(match[0].replace("%", "")).decode("utf-8", "surrogatepass")


def _escape_ends(name: str) -> str:
    if name[0] == "." or name[0].isspace():
        name = _hex(name[0]) + name[1:]
    if name[-1] == "." or name[-1].isspace():
        name = name[:-1] + _hex(name[-1])
    if (match := _RECORD_SUFFIX.search(name)) is not None:
        name = name[: match.start()] + _hex(".") + name[match.start() + 1 :]
    return name
