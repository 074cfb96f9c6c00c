"""`search`: where words stand in messages, notes and documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from fsstate.cli import output
from fsstate.cli.addresses import SESSIONS, Record, find, find_session, is_session
from fsstate.cli.base import Command, Settings, pass_settings
from fsstate.cli.showing import plain

if TYPE_CHECKING:
    from fsstate.search import SearchHit

__all__ = ["search"]


@click.command(
    cls=Command,
    notes=(
        "How words are given",
        "red car             both words; case and diacritics do not matter",
        "'\"red car\"'         one behind the other",
        "plan'*'             words that begin so",
        "red OR blue         one of them",
        "car NOT red         not with this word; also -- car -red",
    ),
    shape=(
        '{"query", "hits": [{"record", "place", "session", "message_id", "role", "seq", "field", "line",',
        '"snippet", "spans": [[start, end]], "score", "at"}]}; the best first, record is what `show` takes',
    ),
)
@click.argument("words", nargs=-1, required=True)
@click.option(
    "--in",
    "places",
    metavar="PLACE",
    type=Record(),
    multiple=True,
    help="Search only this category, record or session; may be given several times. Logs are searched only so.",
)
@click.option("--user", metavar="ID", help="Search only this user's sessions.")
@click.option(
    "-n", "--limit", type=click.IntRange(min=0), default=10, show_default=True, help="Show so many hits; 0 is all."
)
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out so many of the first.")
@pass_settings
def search(
    settings: Settings, words: tuple[str, ...], *, places: tuple[str, ...], user: str | None, limit: int, offset: int
) -> None:
    """Search messages, notes and documents for WORDS.

    All words must be in one message, note or document. The best hits come first.
    """
    settings.require_store()
    query = " ".join(words)
    scope = settings.opened if user is None else settings.opened.sessions.owned_by(user)
    within = [_place(settings, text) for text in places] or None
    hits = scope.search(query, in_=within, limit=limit or None, offset=offset)
    if settings.json:
        output.json_document({"query": query, "hits": [{"record": _address(hit), **plain(hit)} for hit in hits]})
        return
    if not hits:
        output.say("nothing found")
    for hit in hits:
        _say_hit(hit)


def _place(settings: Settings, text: str) -> str:
    """The category, record or session that a person means, as the library takes it."""
    path = text.rstrip("/")
    above, _, name = path.rpartition("/")
    if path and name in settings.backend.categories(above):
        return path
    if "/" not in path:
        return f"{SESSIONS}/{find_session(settings, path).name}"
    ref = find(settings, path)
    return ref.belongings if is_session(ref) else str(ref)


def _address(hit: SearchHit) -> str:
    """What `fsstate show` takes for the record."""
    return hit.place if hit.message_id is None or hit.session is None else hit.session


def _say_hit(hit: SearchHit) -> None:
    facts = "  ".join(output.one_line(fact) for fact in _facts(hit))
    output.say(f"{click.style(output.one_line(_address(hit)), bold=True)}  {click.style(facts, dim=True)}".rstrip())
    output.say(f"  {''.join(_highlighted(hit))}")


def _facts(hit: SearchHit) -> Iterator[str]:
    if hit.message_id is not None:
        yield f"{hit.role}, message {hit.message_id}"
    elif hit.seq is not None:
        yield f"entry {hit.seq}"
    if hit.line is not None and (hit.line > 1 or hit.message_id is None):
        yield f"line {hit.line}"
    if hit.field is not None:
        yield hit.field
    if hit.at is not None:
        yield output.shown_time(hit.at)


def _highlighted(hit: SearchHit) -> Iterator[str]:
    """The snippet with its matches in colour, each piece made visible by itself."""
    before = 0
    for start, end in hit.spans:
        yield output.one_line(hit.snippet[before:start])
        yield click.style(output.one_line(hit.snippet[start:end]), fg="yellow", bold=True)
        before = end
    yield output.one_line(hit.snippet[before:])
