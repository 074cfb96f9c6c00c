"""`ls`: what is in a store, or in one category of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import click

from fsstate import names
from fsstate.backends.base import JSON, Backend, Ref
from fsstate.cli import output
from fsstate.cli.addresses import KINDS, SESSIONS, Category
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.errors import CorruptRecordError, NotFoundError, StorageError

__all__ = ["ls"]

# More folders than this in one place are told in one line.
_CROWD: Final = 20


@click.command(
    cls=Command,
    shape=(
        '{"categories": [{"category", "document", "markdown", "log", "misnamed"}]}: how many of each',
        'with CATEGORY: {"category", "categories": [name], "records": [{"record", "name", "kind", "path"}],',
        '"misnamed": [text]}; misnamed are files whose names no record can have',
    ),
)
@click.argument("category", type=Category(), required=False)
@pass_settings
def ls(settings: Settings, category: str | None) -> None:
    """List the categories, or the records of one CATEGORY."""
    settings.require_store()
    if category is None:
        _list_categories(settings)
    else:
        _list_records(settings, names.check_category(category.rstrip("/")))


def _list_categories(settings: Settings) -> None:
    refused: list[StorageError] = []
    found = [(name, _counted(settings.backend, name)) for name in _categories(settings.backend, refused)]
    if settings.json:
        output.json_document({"categories": [{"category": name, **numbers} for name, numbers in found]})
    else:
        _show_categories(settings, found)
    if refused:
        # Told last: what cannot be looked into hides nothing else.
        raise refused[0]


def _show_categories(settings: Settings, found: list[tuple[str, dict[str, int]]]) -> None:
    if not found:
        output.say(f"{output.one_line(settings.store)} is empty")
    lines = list(_folded(found))
    width = max((len(name) for name, _ in lines), default=0)
    for name, summed in lines:
        shown = click.style(f"{output.one_line(name)}/", fg="blue", bold=True)
        output.say(f"{shown}{' ' * (width - len(name))}  {summed}")


def _folded(found: list[tuple[str, dict[str, int]]]) -> Iterator[tuple[str, str]]:
    """Each category with what is in it; a crowd of neighbours, such as the groups of a record type, as one line."""
    folders = Counter(_above(name) for name, _ in found if "/" in name)
    sums: dict[str, Counter[str]] = {}
    for name, numbers in found:
        if folders[_above(name)] > _CROWD:
            sums.setdefault(_above(name), Counter()).update(numbers)
    for name, numbers in found:
        above = _above(name)
        if above not in sums:
            yield name, _summed(name, numbers)
        elif sums[above]:
            yield f"{above}/*", f"{_summed(name, sums[above])} in {folders[above]:,} folders; `ls {above}` names them"
            sums[above] = Counter()


def _above(category: str) -> str:
    return category.rpartition("/")[0]


def _list_records(settings: Settings, category: str) -> None:
    refused: list[CorruptRecordError] = []
    found = _records(settings.backend, category, refused)
    below = [name for name in settings.backend.categories(category) if not _is_owned(name, found)]
    if not found and not below and not _stands(settings.backend, category):
        raise NotFoundError(category, f"there is no category {category!r}; `fsstate ls` lists those there are")
    if settings.json:
        rows = [_row(settings.backend, ref) for ref in found]
        misnamed = [str(error) for error in refused]
        output.json_document({"category": category, "categories": below, "records": rows, "misnamed": misnamed})
        return
    for name in below:
        output.say(click.style(f"{output.one_line(name)}/", fg="blue", bold=True))
    for ref in found:
        output.say(output.one_line(ref.name + ref.suffix))
    for error in refused:
        output.complain(str(error))


def _records(backend: Backend, category: str, refused: list[CorruptRecordError]) -> list[Ref]:
    """All records of a category, by name. What stands there and cannot be one goes to `refused`."""
    return sorted(Ref(category, name, suffix) for suffix in KINDS for name in backend.names(category, suffix, refused))


def _row(backend: Backend, ref: Ref) -> dict[str, str]:
    return {"record": str(ref), "name": ref.name, "kind": KINDS[ref.suffix], "path": backend.location(ref)}


def _categories(backend: Backend, refused: list[StorageError], above: str = "") -> Iterator[str]:
    """All categories, nested ones too. What belongs to a record is not one; what cannot be read goes to `refused`."""
    try:
        # Those that are refused are counted with the others.
        taken = set(backend.names(above, JSON, [])) if above else set[str]()
        below = backend.categories(above)
    except StorageError as error:
        refused.append(error)
        return
    if above:
        yield above
    for name in below:
        if name not in taken and above != SESSIONS:
            yield from _categories(backend, refused, f"{above}/{name}".lstrip("/"))


def _counted(backend: Backend, category: str) -> dict[str, int]:
    refused: list[CorruptRecordError] = []
    numbers = {kind: len(backend.names(category, suffix, refused)) for suffix, kind in KINDS.items()}
    return {**numbers, "misnamed": len(refused)}


def _summed(category: str, numbers: Mapping[str, int]) -> str:
    nouns = {"document": "session" if category == SESSIONS else "document", "markdown": "note", "log": "log"}
    nouns["misnamed"] = "misnamed file"
    parts = [output.count(number, nouns[kind]) for kind, number in numbers.items() if number]
    return ", ".join(parts) or "no records of its own"


def _is_owned(name: str, found: list[Ref]) -> bool:
    return any(ref.name == name and ref.suffix == JSON for ref in found)


def _stands(backend: Backend, category: str) -> bool:
    above, _, name = category.rpartition("/")
    return name in backend.categories(above)
