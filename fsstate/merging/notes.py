"""Markdown documents merged: the text by line, the front matter by field in the look that it has in ours.

Front matter that only one side changed is taken as it stands, and needs no YAML library.
"""

from __future__ import annotations

from typing import Any

from fsstate.frontmatter import Document
from fsstate.merge import ABSENT, merge_by
from fsstate.merging.lines import merge_text, split, stretches
from fsstate.merging.stamps import agreed
from fsstate.merging.versions import Markers, Merged, Versions

__all__ = ["merge_note"]


def merge_note(versions: Versions[bytes], markers: Markers, where: str = "") -> Merged:
    """Merge three versions of a Markdown document; an empty base means that both sides made it.

    `where` is what errors call it; without, they say which version it is.
    Raises CorruptRecordError for what is not UTF-8 or, where both sides changed it, for front matter that cannot be
    read; MissingExtraError when that needs a YAML library and there is none.
    """
    documents = Versions(
        *(Document.parse(data, where or side) for data, side in zip(versions, Versions._fields, strict=True))
    )
    head, conflicts = _merged_head(documents, markers)
    if head and not head.endswith("\n"):
        head += "\n"
    text, met = merge_text(documents.map(lambda each: each.text), markers, first=head.count("\n") + 1)
    return Merged((head + text).encode(), conflicts + met)


def _merged_head(documents: Versions[Document], markers: Markers) -> tuple[str, tuple[str, ...]]:
    """What stands before the text, and in which fields changes meet."""
    base, ours, theirs = documents.map(_head)
    if theirs in (base, ours):
        return ours, ()
    if ours == base:
        return theirs, ()
    sides, conflicts = _merged_fields(documents.map(lambda each: each.front_matter or {}))
    if not conflicts:
        return _with_fields(documents.ours, sides[0]), ()
    lines: list[str] = []
    for stretch in stretches(*(split(_with_fields(documents.ours, side)) for side in sides)):
        lines += stretch.lines if stretch.theirs is None else markers.around(stretch.lines, stretch.theirs)
    return "".join(lines), conflicts


def _merged_fields(versions: Versions[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The merged fields, with ours and with theirs where changes meet, and the places of those."""
    places: list[str] = []

    def merged(*, keep_ours: bool) -> dict[str, Any]:
        places.clear()

        def meet(at: str, base: Any, theirs: Any, ours: Any) -> Any:
            settled = agreed(at, base, ours, theirs)
            if settled is not ABSENT:
                return settled
            places.append(f"$.front_matter{at[1:]}")
            return ours if keep_ours else theirs

        return dict(merge_by(versions.base, versions.theirs, versions.ours, meet))

    sides = [merged(keep_ours=keep_ours) for keep_ours in (True, False)]
    return sides, tuple(places)


def _head(document: Document) -> str:
    """The front matter with its delimiters, and a byte order mark, as they stand in the file."""
    return document.render().decode().removesuffix(document.text)


def _with_fields(ours: Document, fields: dict[str, Any]) -> str:
    """The head that ours has, with other fields."""
    head = _head(ours)
    document = Document.parse(head.encode())
    if fields or document.front_matter is not None:
        document.front_matter = fields or None
    return document.render().decode()
