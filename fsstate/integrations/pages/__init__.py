r"""Sessions and other records as Markdown pages, to read and to pass on, as into a review.

A session's page tells who, when and what of it; the conversation along its head branch, with other continuations
folded where they begin; tool calls with what they were given and gave, folded; goal, steps, events, checkpoints,
documents, notes and logs that belong to it. It is GitHub's Markdown. What a message, a tool or a person wrote never
breaks it: HTML, headings and fences stay within their piece, and control characters are visible as `\x1b`. What
cannot be read is told at the end of the page, and hides nothing else.

Tool outputs, documents and logs of more than 200 lines or 20,000 characters are cut, and say so, unless all is asked
for with `full`; the metadata of messages is shown then, too. Images are told by kind and size. Secrets in a session's
config are left out.

    >>> import fsstate
    >>> store = fsstate.Store.in_memory()
    >>> chat = store.session(store.sessions.create(id="s1", title="A *short* talk").id)
    >>> _ = chat.messages.append("user", "Does `<b>` make text bold?")
    >>> page = page_of(chat)
    >>> print(page.splitlines()[0])
    # A \*short\* talk
    >>> print(page.splitlines()[-1])
    Does `<b>` make text bold?
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from fsstate import NotFoundError, SessionHandle
from fsstate.backends.base import MARKDOWN, Backend, Ref
from fsstate.integrations.pages.marks import Cut
from fsstate.integrations.pages.records import record_blocks
from fsstate.integrations.pages.session import SessionPage
from fsstate.integrations.whole import WholeSession

__all__ = ["page_of", "page_of_record", "pieces_of"]


def page_of(session: SessionHandle, *, branches: Literal["all", "head"] = "all", full: bool = False) -> str:
    """Return a session's page. Raises NotFoundError when there is no such session, StorageError for failed reads.

    `branches="head"` shows the head branch only, and says where others were left out; `full` shows long outputs whole.
    """
    return "".join(pieces_of(session, branches=branches, full=full))


def pieces_of(session: SessionHandle, *, branches: Literal["all", "head"] = "all", full: bool = False) -> Iterator[str]:
    """Return the page of `page_of` in pieces, to be written one behind the other: only the messages are in memory."""
    whole = WholeSession(session)
    return _apart(SessionPage(whole, branches, None if full else Cut()).blocks())


def page_of_record(backend: Backend, ref: Ref, *, full: bool = False) -> Iterator[str]:
    """Return the page of a document, a note or a log in pieces, as `pieces_of`. A note's is the note as it stands."""
    if ref.suffix == MARKDOWN:
        return iter([_note(backend, ref)])
    return _apart(record_blocks(backend, ref, None if full else Cut()))


def _note(backend: Backend, ref: Ref) -> str:
    blob = backend.read(ref)
    if blob is None:
        raise NotFoundError(backend.location(ref))
    return blob.data.decode(errors="backslashreplace")


def _apart(blocks: Iterable[str]) -> Iterator[str]:
    """The blocks with a blank line between them, and a newline at the end of the last."""
    last = ""
    for block in blocks:
        yield f"{_between(last)}{block}"
        last = block
    if last and not last.endswith("\n"):
        yield "\n"


def _between(last: str) -> str:
    return "\n\n" if last else ""
