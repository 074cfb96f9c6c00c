"""YAML 1.2 mappings as text: read with the place of what is wrong, and written so that they read back the same.

Needs the `yaml` extra, which is imported when somebody asks for it: it takes longer than the rest of fsstate.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any, Final, TypeGuard, cast

from fsstate.errors import CorruptRecordError, InvalidValueError, MissingExtraError
from fsstate.merge import same

__all__ = ["dump", "dump_flow", "library", "load", "plain", "says"]

_CONFLICT: Final = re.compile(r"^<{7}(?: |$)", re.MULTILINE)
# What ends front matter, and a document of YAML.
_CLOSING: Final = re.compile(r"^(?:---|\.\.\.)[ \t]*\r?$", re.MULTILINE)
# Plain text to YAML 1.2, true or false to the readers of YAML 1.1 that most tools still use.
_BOOLEAN: Final = re.compile(r"(?:y|n|yes|no|on|off)\Z", re.IGNORECASE)
_ESCAPED: Final = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff]")


def says(yaml: str, wanted: dict[str, Any]) -> bool:
    """Whether it reads as `wanted`, and stands between the delimiters of front matter without being one."""
    if (yaml and not yaml.endswith("\n")) or _CLOSING.search(yaml):
        return False
    try:
        return same(load(yaml, ""), wanted)
    except CorruptRecordError:
        return False


def library() -> Any:
    """A reader and writer of safe YAML 1.2. Imported late: it takes longer than the rest of fsstate."""
    try:
        from ruamel.yaml import YAML
    except ImportError:
        raise MissingExtraError("YAML front matter", "yaml") from None
    yaml: Any = YAML(typ="safe", pure=True)
    # Valid YAML: the latest counts. A warning would go to the standard error of whoever reads it.
    yaml.composer.warn_double_anchors = False
    return yaml


def load(yaml: str, where: str) -> dict[str, Any]:
    """The mapping, `{}` for none. Raises CorruptRecordError, with its place in a file where it begins on line 2."""
    reader = library()
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


def dump(value: dict[str, Any], newline: str) -> str:
    """The mapping as YAML, a line or more for each key. Raises InvalidValueError for what YAML cannot hold."""
    return _dump(value, is_flow=False).replace("\n", newline)


def dump_flow(value: Any) -> str:
    """A value as it stands in `[…]` or `{…}`. Raises as `dump` does."""
    return _dump({"k": value}, is_flow=True).strip().removeprefix("{k: ").removesuffix("}")


def _dump(value: dict[str, Any], *, is_flow: bool) -> str:
    stream = io.StringIO()
    writer = library()
    writer.default_flow_style = is_flow
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
    if not says(yaml, value):
        reason = "YAML would read it back as something else; use None, bool, int, float, str, date, list and dict"
        raise InvalidValueError(reason, at="the front matter")
    return yaml


def _without_aliases(_: object) -> bool:
    # A value that stands in two places is written twice, not as &id001 and *id001.
    return True


def _represent_text(representer: Any, text: str) -> Any:
    style = "'" if _BOOLEAN.match(text) else '"' if _ESCAPED.search(text) else "|" if "\n" in text else None
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def plain(value: Any) -> Any:
    """Tuples as lists and mappings as dicts, which is what YAML gives back."""
    if _is_mapping(value):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("list[Any]", value)]
    return value
