r"""Text and times as people may be shown them.

No control character of the data reaches a terminal or a page: it reads `\x1b`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from fsstate.times import parse_time

__all__ = ["one_line", "shown_time", "visible"]

# C0 and C1 controls, DEL, what turns the direction of text around, and halves of surrogate pairs.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_BREAKS: Final = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def visible(text: str) -> str:
    """The text with every control character but newline and tab made visible."""
    return _UNSAFE.sub(_shown, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """The text on one line, with every control character made visible."""
    return visible(re.sub("[\n\t\r]", lambda match: _BREAKS[match[0]], text))


def shown_time(value: object) -> str:
    """A time as people read it, in UTC and to the second; nothing when it is none."""
    try:
        moment = value if isinstance(value, datetime) else parse_time(value)
    except ValueError:
        return ""
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
