"""Messages: who said when what, with the blocks that model providers make content of. Pure, but for what was shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fsstate.conversation import Message, message_of
from fsstate.errors import ValidationError
from fsstate.integrations.items import Object, is_list, is_object
from fsstate.integrations.pages.calls import call, image, telling, value
from fsstate.integrations.pages.marks import Cut, code, fenced, folded, json_of, plain
from fsstate.integrations.pages.prose import prose
from fsstate.merge import same
from fsstate.tool_calls import ToolCall
from fsstate.visible import shown_time

__all__ = ["MessageBlocks"]

# How providers name what a call holds: its arguments, by the block's type; and what a result answers and holds.
_CALLS: Final = {
    "tool_use": "input",
    "server_tool_use": "input",
    "mcp_tool_use": "input",
    "toolCall": "arguments",
    "tool_call": "arguments",
    "function_call": "arguments",
}
_RESULTS: Final = ("tool_result", "toolResult", "function_call_output", "mcp_tool_result", "web_search_tool_result")
_THOUGHTS: Final = {"thinking": "thinking", "reasoning": "text", "redacted_thinking": "data"}
_TEXTS: Final = ("text", "input_text", "output_text")


class MessageBlocks:
    """Makes the blocks of messages, one after the other, each call's once. `shown` are the calls that have been."""

    def __init__(self, calls: Iterable[ToolCall], path: str, cut: Cut | None) -> None:
        self.calls = {each.id: each for each in calls}
        self.shown: set[str] = set()
        self._asked: dict[str, list[str]] = {}
        for each in self.calls.values():
            self._asked.setdefault(each.message_id or "", []).append(each.id)
        self._path = path
        self._cut = cut

    def of(self, row: Mapping[str, Any], number: int, *, is_outer: bool) -> Iterator[str]:
        """The blocks of one message. What cannot be read as one is shown as it stands."""
        try:
            message = message_of(dict(row), self._path)
        except ValidationError as error:
            yield _heading(f"{number} · cannot be read as a message", is_outer)
            yield f"*{plain(error.reason)}*"
            yield from fenced(json_of(row), "json")
            return
        yield from self._message(message, number, is_outer)

    def _message(self, message: Message, number: int, is_outer: bool) -> Iterator[str]:
        facts = [plain(message.role), plain(message.model or ""), shown_time(message.created_at), _status(message)]
        heading = " · ".join([str(number), *(fact for fact in facts if fact)])
        answers = self._answers(message)
        if answers is not None:
            yield f"*{heading}: {answers}*"
            return
        yield f"*{heading}*" if self._only_calls(message) else _heading(heading, is_outer)
        yield from _notes(message)
        yield from self._content(message)
        for name in self._asked.get(message.id, []):
            yield from self._call(name)
        if self._cut is None:
            yield from _folded_json("Metadata", message.metadata or None)

    def _answers(self, message: Message) -> str | None:
        """What a message says that holds nothing but results which were shown with their calls; None for others."""
        blocks = message.content
        if not (is_list(blocks) and blocks and message.status == "complete" and all(map(self._is_known, blocks))):
            return None
        if self._cut is None and message.metadata:
            return None
        return ", ".join(self._answer(block) for block in blocks)

    def _only_calls(self, message: Message) -> bool:
        blocks = message.content
        return is_list(blocks) and bool(blocks) and all(map(_is_call, blocks))

    def _content(self, message: Message) -> Iterator[str]:
        content = message.content
        blocks = content if is_list(content) else [content]
        if content in ("", None, []):
            yield "*(no content)*"
        elif message.role in ("tool", "toolResult", "bashExecution") and isinstance(content, str):
            yield from folded("Output", fenced(content, cut=self._cut))
        else:
            for block in blocks:
                yield from self._block(block)

    def _block(self, block: Any) -> Iterator[str]:
        if isinstance(block, str):
            yield from prose(block)
            return
        if not is_object(block):
            yield from fenced(json_of(block), "json", self._cut)
            return
        kind = block.get("type")
        shown = image(block)
        if shown is not None:
            yield plain(shown)
        elif kind in _TEXTS and isinstance(block.get("text"), str):
            yield from self._text(block)
        elif kind in _CALLS:
            yield from self._use(block, _CALLS[kind])
        elif kind in _RESULTS:
            yield from self._result(block)
        elif kind in _THOUGHTS and isinstance(block.get(_THOUGHTS[kind]), str):
            yield from self._thought(block, kind)
        else:
            yield from folded(f"Block: {kind or 'of no type'}", fenced(json_of(block), "json", self._cut))

    def _text(self, block: Object) -> Iterator[str]:
        yield from prose(block["text"])
        rest = {key: each for key, each in block.items() if key not in ("type", "text") and each not in (None, [])}
        yield from _folded_json("More of this text", rest or None)

    def _use(self, block: Object, key: str) -> Iterator[str]:
        name = _named(block, ("id", "call_id", "toolCallId"))
        known = self.calls.get(name)
        if known is not None and name not in self.shown and same(known.parameters, block.get(key)):
            yield from self._call(name)
            return
        told = " · ".join(part for part in (f"Tool {_named(block, ('name',))}", telling(block.get(key))) if part)
        if name in self.shown:
            yield from folded(f"{told} (again)", fenced(json_of(block), "json", self._cut))
            return
        yield from folded(told, value("Arguments", block.get(key), self._cut))

    def _call(self, name: str) -> Iterator[str]:
        if name not in self.shown:
            self.shown.add(name)
            yield from call(self.calls[name], self._cut)

    def _result(self, block: Object) -> Iterator[str]:
        if self._is_known(block):
            yield f"*{self._answer(block)}*"
            return
        known = self.calls.get(_answered(block))
        of = f" of {known.name}" if known is not None else ""
        failed = " · failed" if block.get("is_error") is True or block.get("isError") is True else ""
        held = block.get("content", block.get("output"))
        yield from folded(f"Result{of}{failed}", _held(held, self._cut))

    def _is_known(self, block: Any) -> bool:
        """Whether it is the result of a call that was shown with just that."""
        if not is_object(block) or block.get("type") not in _RESULTS or _answered(block) not in self.shown:
            return False
        known = self.calls[_answered(block)]
        held = block.get("content", block.get("output"))
        return any(same(held, told) for told in (known.result, known.error))

    def _answer(self, block: Object) -> str:
        known = self.calls[_answered(block)]
        return f"result of {code(known.name)}, shown with its call"

    def _thought(self, block: Object, kind: str) -> Iterator[str]:
        text = block[_THOUGHTS[kind]]
        if kind == "redacted_thinking":
            yield f"*(thinking, of which the provider tells nothing: {len(text):,} characters)*"
            return
        yield from folded("Thinking", prose(text))


def _heading(text: str, is_outer: bool) -> str:
    return f"### {text}" if is_outer else f"**{text}**"


def _status(message: Message) -> str:
    said = {"complete": "", "streaming": "**still being written**", "interrupted": "**interrupted**"}
    return said.get(message.status, f"**{plain(message.status)}**")


def _is_call(block: Any) -> bool:
    return is_object(block) and block.get("type") in _CALLS


def _notes(message: Message) -> Iterator[str]:
    if message.tool_call_id is not None:
        yield f"*Answers the tool call {code(message.tool_call_id)}.*"
    if message.steps is not None and message.steps[0] < message.steps[1]:
        first, last = message.steps[0], message.steps[1] - 1
        yield f"*Comes of {f'step {first}' if first == last else f'steps {first} to {last}'}.*"


def _held(held: Any, cut: Cut | None) -> Iterator[str]:
    yield from value("Content", held, cut)
    if held is None:
        yield "*(nothing)*"


def _folded_json(name: str, given: Any) -> Iterator[str]:
    if given is not None:
        yield from folded(name, fenced(json_of(given), "json"))


def _named(block: Object, keys: Iterable[str]) -> str:
    return next((each for key in keys if isinstance(each := block.get(key), str)), "")


def _answered(block: Object) -> str:
    return _named(block, ("tool_use_id", "call_id", "toolCallId", "tool_call_id"))
