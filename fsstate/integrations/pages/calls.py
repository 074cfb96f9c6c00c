"""Tool calls, what they were given and what came of them, folded. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

from fsstate.integrations.items import is_list, is_object
from fsstate.integrations.pages.marks import Cut, brief, fenced, folded, json_of, plain
from fsstate.steps import Step
from fsstate.tool_calls import ToolCall

__all__ = ["call", "duration", "image", "step", "texts_in", "value"]

# What tells most of a call, in the order in which it is looked for.
_TELLING: Final = ("description", "command", "file_path", "path", "pattern", "query", "url", "prompt")
_WIDTH: Final = 80
_IMAGES: Final = ("image", "image_url", "input_image")


def call(made: ToolCall, cut: Cut | None) -> Iterator[str]:
    """A tool call with its arguments and what it gave."""
    took = duration(made.started_at or made.created_at, made.completed_at)
    facts = (f"Tool {made.name}", telling(made.parameters), made.status, took)
    return folded(" · ".join(fact for fact in facts if fact), _inside(made, cut))


def _inside(made: ToolCall, cut: Cut | None) -> Iterator[str]:
    yield from value("Arguments", made.parameters, cut)
    yield from value("Result", made.result, cut)
    yield from value("Error", made.error, cut)
    yield from value("Metadata", made.metadata or None, cut)


def step(taken: Step, cut: Cut | None) -> Iterator[str]:
    """A step with its arguments and what it gave."""
    took = "" if taken.duration_ms is None else _spell(taken.duration_ms / 1000)
    facts = (f"Step {taken.number}", taken.tool_name, telling(taken.tool_args), "failed" * taken.is_error, took)
    inside = chain(
        value("Arguments", taken.tool_args, cut),
        value("Output", taken.output_summary, cut),
        value("Tool call", taken.tool_call_id, cut),
        value("More", taken.extra or None, cut),
    )
    return folded(" · ".join(fact for fact in facts if fact), inside)


def value(name: str, given: Any, cut: Cut | None) -> Iterator[str]:
    """A value under its name: a text as it is, anything else as JSON; nothing for None."""
    if given is None:
        return
    texts = texts_in(given)
    if texts is not None:
        yield f"**{name}**" if any(texts) else f"**{name}** *(empty)*"
        for text in filter(None, texts):
            yield from fenced(text, cut=cut)
        return
    # Where lines are long texts, as JSON nobody could read them.
    long = {key: each for key, each in given.items() if _has_lines(each)} if is_object(given) else {}
    rest = {key: each for key, each in given.items() if key not in long} if long else given
    if rest or not long:
        yield f"**{name}**"
        yield from fenced(json_of(rest), "json", cut)
    for key, text in long.items():
        yield from value(f"{name}: {plain(key)}", text, cut)


def texts_in(given: Any) -> list[str] | None:
    """The texts of a value that is nothing else: a text, or a list of blocks with text; images by what they are."""
    if isinstance(given, str):
        return [given]
    if not is_list(given) or not given:
        return None
    texts = [_text(block) for block in given]
    return None if None in texts else [text for text in texts if text is not None]


def _text(block: Any) -> str | None:
    if not is_object(block):
        return None
    if block.keys() == {"type", "text"} and block["type"] == "text" and isinstance(block["text"], str):
        return block["text"]
    return image(block)


def image(block: Any) -> str | None:
    """An image by its kind, name and size; None for what is none. Its bytes are in the record, not on the page."""
    if not is_object(block) or block.get("type") not in _IMAGES:
        return None
    source = next((block[key] for key in ("source", "image_url", "image", "url", "data") if key in block), None)
    found = source if is_object(source) else {"url": source}
    kind, name = _told(found, ("media_type", "mime_type")), _told(block, ("name", "file_name", "filename", "alt"))
    data = _told(found, ("data",)) or _told(block, ("data",))
    url = _told(found, ("url", "file_id", "path"))
    if url.startswith("data:"):
        head, _, data = url.partition(",")
        kind, url = kind or head.removeprefix("data:").partition(";")[0], ""
    size = f"{len(data.rstrip('=')) * 3 // 4:,} bytes" if data else ""
    return f"[{', '.join(fact for fact in ('image', kind, name, url, size) if fact)}]"


def _told(found: dict[str, Any], keys: Iterable[str]) -> str:
    return next((each for key in keys if isinstance(each := found.get(key), str) and each), "")


def telling(arguments: Any) -> str:
    """What of a call's arguments tells most, cut; empty where nothing does."""
    if not is_object(arguments):
        return ""
    texts = {key: each for key, each in arguments.items() if isinstance(each, str) and each.strip()}
    best = next((texts[key] for key in _TELLING if key in texts), next(iter(texts.values()), ""))
    return brief(best, _WIDTH)


def duration(start: datetime | None, end: datetime | None) -> str:
    """How long something took; empty where that is not known."""
    if start is None or end is None or end < start:
        return ""
    return _spell((end - start) / timedelta(seconds=1))


def _spell(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _has_lines(given: Any) -> bool:
    return isinstance(given, str) and "\n" in given.strip()
