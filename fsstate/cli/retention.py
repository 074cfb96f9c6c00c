"""`prune`, `pin`, `trash` and `restore`: which records may go, which never do, and the way back."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import click

from fsstate.backends.base import JSON, LOG, MARKDOWN, Ref
from fsstate.cli import output
from fsstate.cli.addresses import SESSIONS, Record, Session, find, find_session, owner_of
from fsstate.cli.base import Command, Group, ParamType, Settings, pass_settings
from fsstate.cli.exits import PROBLEM
from fsstate.cli.progress import ProgressBar
from fsstate.cli.recovery import ABOUT_TYPES, TYPES, prepare
from fsstate.cli.sessions import Duration
from fsstate.errors import StorageError

if TYPE_CHECKING:
    from fsstate import PrunePolicy, PruneReport, TrashItem

__all__ = ["Size", "pin", "prune", "restore", "trash", "unpin"]

_SIZES: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}

Bar: TypeAlias = Callable[[int, int], None]


class Size(ParamType):
    """A number of bytes: `500MB`, `2GiB`, `1000`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Multiply by the unit."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]*)", value.strip())
        unit = None if match is None else _SIZES.get(match[2].lower())
        if match is None or unit is None:
            self.fail(f"{value!r} is no size; write 500MB, 2GiB, 10kB or 1000", param, ctx)
        size = round(float(match[1]) * unit)
        if size < 1:
            self.fail(f"{value!r} is no size: it must be 1 byte or more", param, ctx)
        return size


class _Prunable(Protocol):
    """What the store has that prunes: sessions, records of a type, documents."""

    def prune(
        self, policy: PrunePolicy, *, dry_run: bool = False, trash: bool = True, progress: Bar | None = None
    ) -> PruneReport: ...


@click.command(
    cls=Command,
    notes=ABOUT_TYPES,
    shape=(
        '{"dry_run", "in_trash", "bytes", "kept": [{"id", "reason"}],',
        ' "pruned": [{"id", "reason": "ttl", "count" or "bytes", "last_active", "bytes", "number"}]};',
        'kept: what stays whatever the policy says ("pinned", "archived", "in flight", "undated"), or was to go and',
        'stayed ("touched", "locked", or "error: …": then the exit code is 1); number: entries of a log, else 1',
    ),
)
@click.argument("what", metavar="[CATEGORY|LOG]", default=SESSIONS, type=Record())
@click.option("--ttl", type=Duration(), help="What was idle for longer goes: 7d, 12h, 1d12h.")
@click.option("--keep", type=click.IntRange(min=1), help="Of the others, all but the latest so many go.")
@click.option("--per", metavar="FIELD", help="Let --keep count for each value of this field, such as user_id.")
@click.option("--max-bytes", type=Size(), help="Of what is left, the oldest go until the rest fits: 500MB, 2GiB.")
@click.option("--batch", type=click.IntRange(min=1), help="At most so many go, the oldest first.")
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--no-trash", is_flag=True, help="Delete at once; `fsstate restore` cannot bring it back.")
@TYPES
@pass_settings
def prune(
    settings: Settings, /, what: str, *, per: str | None, dry_run: bool, no_trash: bool, places: tuple[str, ...],
    **limits: Any,
) -> None:  # fmt: skip
    """Move what is old to the trash.

    Sessions go with all that is theirs; of records and documents, those of a category; of a log, its start. What is
    pinned or archived stays, as does what somebody uses at this moment. Age is the time since the last entry or change
    that the files tell, whatever their own dates are.
    """
    from fsstate.retention import PrunePolicy

    if limits["ttl"] is None and limits["keep"] is None and limits["max_bytes"] is None:
        raise click.UsageError("say which may go: --ttl 7d, --keep 100, --max-bytes 500MB, or several of them")
    if limits["ttl"] is not None and not limits["ttl"]:
        raise click.UsageError("--ttl must be longer than 0")
    if per is not None and limits["keep"] is None:
        raise click.UsageError("--per goes with --keep")
    prepare(settings, places)
    policy = PrunePolicy(per=per, **limits)
    report, noun = _prune(settings, what, policy, dry_run=dry_run, trash=not no_trash)
    if settings.json:
        pruned, kept = ([each._asdict() for each in each_kind] for each_kind in (report.pruned, report.kept))
        told = {"dry_run": dry_run, "in_trash": report.in_trash, "bytes": report.bytes}
        output.json_document({**told, "pruned": pruned, "kept": kept})
    else:
        _report(report, noun)
    if any(each.reason.startswith("error") for each in report.kept):
        click.get_current_context().exit(PROBLEM)


def _prune(
    settings: Settings, what: str, policy: PrunePolicy, *, dry_run: bool, trash: bool
) -> tuple[PruneReport, str]:
    ref = _log_meant(settings, what)
    if ref is not None:
        if policy.per is not None:
            raise click.UsageError("--per is not for logs: they go from their start only")
        from fsstate.journal import Journal

        journal = Journal(settings.backend, ref, owner=owner_of(ref))
        return journal.prune(policy, dry_run=dry_run, trash=trash), "entry"
    prunable, noun = _prunable(settings, what.rstrip("/"))
    try:
        with ProgressBar(settings, "looking" if dry_run else "pruning") as progress:
            return prunable.prune(policy, dry_run=dry_run, trash=trash, progress=progress), noun
    except KeyboardInterrupt:
        went = f"what went is {'in the trash' if trash else 'gone'} as a whole, and the next run goes on from there"
        output.complain(f"interrupted; {'nothing was touched' if dry_run else went}")
        raise
    except StorageError as error:
        if error.errno == errno.ENOSPC and trash:
            error.add_note("with --no-trash nothing has to be written first")
        raise


def _log_meant(settings: Settings, what: str) -> Ref | None:
    """The log of that name, if it is no category."""
    if "/" not in what.rstrip("/") or _holds(settings, what.rstrip("/")):
        return None
    ref = find(settings, what)
    if ref.suffix != LOG:
        raise click.UsageError(f"{ref} is one document; `fsstate rm {ref}` deletes it")
    return ref


def _holds(settings: Settings, category: str) -> bool:
    return any(settings.backend.names(category, suffix) for suffix in (JSON, MARKDOWN))


def _prunable(settings: Settings, category: str) -> tuple[_Prunable, str]:
    from fsstate.catalogue import BUILT_IN

    store = settings.opened
    if category == SESSIONS:
        return store.sessions, "session"
    for kind in (*settings.types, *BUILT_IN):
        if kind.category == category and kind.parent is None:
            own: dict[str, Any] = {"runs": store.runs, "jobs": store.jobs, "audits": store.audits}
            own |= {"workflows": store.workflows, "agents": store.agents}
            return own.get(category) or store.records(kind), "record"
    has_json, has_markdown = (bool(settings.backend.names(category, suffix)) for suffix in (JSON, MARKDOWN))
    if has_json and has_markdown:
        message = f"{category} has JSON and Markdown documents, which a policy counts each by themselves; use Python"
        raise click.UsageError(message)
    if not has_json and not has_markdown:
        # Says what is there instead, if anything.
        find(settings, f"{category}/") if "/" in category or not category else find_session(settings, category)
        raise click.UsageError(f"{category} is no category; for a session, say `fsstate rm {category}`")
    return (store.markdown(category) if has_markdown else store.collection(category)), "document"


def _report(report: PruneReport, noun: str) -> None:
    if report.pruned:
        rows = [
            (each.id, each.reason, output.shown_time(each.last_active), output.shown_size(each.bytes))
            for each in report.pruned
        ]
        output.table(("ID", "REASON", "LAST ACTIVE", "SIZE"), rows)
    exempt = ("pinned", "archived", "in flight")
    for each in report.kept:
        if each.reason not in exempt:
            output.complain(f"{each.id} stays: {each.reason}")
    number = sum(each.number for each in report.pruned)
    staying = ", ".join(
        f"{count:,} {reason}" for reason in exempt if (count := sum(each.reason == reason for each in report.kept))
    )
    done = _done(report)
    counted = output.count(number, noun) if noun != "entry" or number == 1 else f"{number:,} entries"
    output.say(f"{counted} {done}" + (f"; stay whatever their age: {staying}" if staying else ""))


def _done(report: PruneReport) -> str:
    size = output.shown_size(report.bytes)
    if not report.pruned:
        return "would go" if report.dry_run else "pruned"
    if report.in_trash:
        return f"would go to the trash ({size})" if report.dry_run else f"went to the trash ({size})"
    return f"would be gone, {size} would come back" if report.dry_run else f"gone, {size} came back"


@click.command(cls=Command, shape=('{"id", "pinned": true}',))
@click.argument("session", type=Session())
@pass_settings
def pin(settings: Settings, session: str) -> None:
    """Keep a session from being pruned, however old it is."""
    _pin(settings, session, pinned=True)


@click.command(cls=Command, shape=('{"id", "pinned": false}',))
@click.argument("session", type=Session())
@pass_settings
def unpin(settings: Settings, session: str) -> None:
    """Let a session be pruned again."""
    _pin(settings, session, pinned=False)


def _pin(settings: Settings, needle: str, *, pinned: bool) -> None:
    name = find_session(settings, needle).name
    sessions = settings.opened.sessions
    found = sessions.pin(name) if pinned else sessions.unpin(name)
    if settings.json:
        output.json_document({"id": found.id, "pinned": found.pinned})
    else:
        output.say(f"{'pinned' if pinned else 'unpinned'} {output.one_line(found.id)}")


_ITEM_SHAPE: Final = '{"id", "record", "reason", "last_active", "trashed_at", "bytes", "number"}'


@click.command(cls=Command, shape=(f'{{"restored": [{_ITEM_SHAPE}]}}',))
@click.argument("record", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All that is in the trash.")
@pass_settings
def restore(settings: Settings, record: tuple[str, ...], everything: bool) -> None:
    """Put back what was pruned, where it was.

    RECORD is as `fsstate trash` lists it; a session also its id, or 6 or more characters of it. Of one that is there
    several times the latest comes back. Entries of a log go in front of those that are there.
    """
    if everything == bool(record):
        raise click.UsageError("say which: RECORD as `fsstate trash` lists it, or --all")
    settings.require_store()
    bin_ = settings.opened.trash
    restored = bin_.restore(*([item.id for item in bin_.list()] if everything else record))
    if settings.json:
        output.json_document({"restored": [_row(item) for item in restored]})
        return
    for item in restored:
        output.say(f"restored {output.one_line(item.record)}")
    if not restored:
        output.say("the trash is empty")


@click.group(cls=Group, invoke_without_command=True, shape=(f'{{"items": [{_ITEM_SHAPE}], "bytes"}}',))
@click.pass_context
def trash(context: click.Context) -> None:
    """List what was pruned and can be restored.

    It is kept in .fsstate/trash, by default for 30 days and up to 1 GiB.
    """
    if context.invoked_subcommand is not None:
        return
    settings = context.ensure_object(Settings)
    settings.require_store()
    items = settings.opened.trash.list()
    size = sum(item.bytes for item in items)
    if settings.json:
        output.json_document({"items": [_row(item) for item in items], "bytes": size})
        return
    if items:
        heads = ("RECORD", "PRUNED (UTC)", "REASON", "ENTRIES", "SIZE")
        rows = (
            (
                item.record,
                output.shown_time(item.trashed_at)[:16],
                item.reason,
                str(item.number) if item.record.endswith(LOG) else "",
                output.shown_size(item.bytes),
            )
            for item in items
        )
        output.table(heads, rows)
    output.say(f"{output.count(len(items), 'record')} in the trash ({output.shown_size(size)})")


@trash.command(
    cls=Command,
    shape=(f'{{"emptied": [{_ITEM_SHAPE}], "kept": [{{"id", "reason"}}], "bytes"}}',),
)
@click.option("--older-than", type=Duration(), help="Only what is in it for longer: 7d, 12h.")
@click.option("--max-bytes", type=Size(), help="Only the oldest, until the rest fits: 500MB.")
@pass_settings
def empty(settings: Settings, older_than: timedelta | None, max_bytes: int | None) -> None:
    """Delete what is in the trash for good."""
    if older_than is not None and not older_than:
        raise click.UsageError("--older-than must be longer than 0; without it all goes")
    settings.require_store()
    report = settings.opened.trash.empty(older_than=older_than, max_bytes=max_bytes)
    if settings.json:
        kept = [each._asdict() for each in report.kept]
        emptied = [_row(item) for item in report.emptied]
        output.json_document({"emptied": emptied, "kept": kept, "bytes": report.bytes})
    else:
        for each in report.kept:
            output.complain(f"{each.id} stays: {each.reason}")
        output.say(f"{output.count(len(report.emptied), 'record')} gone, {output.shown_size(report.bytes)} came back")
    if any(each.reason.startswith("error") for each in report.kept):
        click.get_current_context().exit(PROBLEM)


def _row(item: TrashItem) -> dict[str, Any]:
    told = item._asdict()
    return {key: told[key] for key in ("id", "record", "reason", "last_active", "trashed_at", "bytes", "number")}
