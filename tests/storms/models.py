"""How records behave that one operation at a time is done to: what the histories are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.storms.history import Operation

__all__ = ["Document", "Lifetime", "document", "lifetime"]


class Document(NamedTuple):
    """A shared document: a register that programs set, one that people set, and a counter."""

    register: str = ""
    note: str = ""
    counter: int = 0


def document(state: Document, operation: Operation) -> Iterator[Document]:
    """Reads, writes of a register, increments, and writes that expect a state.

    A person's save makes the whole document what it `becomes`. `given` has the new `register` or `note`, what to `add`,
    and the whole state that it `expects`; the result is what was seen of the document right behind it.
    """
    given: dict[str, Any] = operation.given
    if operation.outcome == "refused":
        yield state
        return
    if "becomes" in given:
        yield Document(*given["becomes"])
        return
    if "expects" in given and tuple(given["expects"]) != state:
        return
    register, note = given.get("register", state.register), given.get("note", state.note)
    after = Document(register, note, state.counter + given.get("add", 0))
    if all(getattr(after, field) == seen for field, seen in (operation.result or {}).items()):
        yield after


class Lifetime(NamedTuple):
    """A record that comes and goes: what it holds (None: there is none), and what of it is in the trash."""

    content: str | None = None
    trash: tuple[str, ...] = ()


def lifetime(state: Lifetime, operation: Operation) -> Iterator[Lifetime]:
    """Creations, deletions, prunes into the trash, restorations, and reads."""
    content, trash = state
    if operation.outcome == "refused":
        # A creation is refused where there is something; a restoration may be for more reasons than one.
        if operation.does != "create" or content is not None:
            yield state
    elif operation.does == "create" and content is None:
        yield Lifetime(operation.given["content"], trash)
    elif operation.does == "delete" and operation.result in (None, content is not None):
        yield Lifetime(None, trash)
    elif operation.does == "prune" and content is not None:
        yield Lifetime(None, tuple(sorted((*trash, content))))
    elif operation.does == "restore" and content is None:
        # Which one of several came back is not always known.
        for back in {*trash} if operation.result is None else {*trash} & {operation.result}:
            number = trash.index(back)
            yield Lifetime(back, trash[:number] + trash[number + 1 :])
    elif operation.does == "get" and (operation.outcome == "unknown" or operation.result == content):
        yield state
