"""`sessions`: which sessions there are."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final

import click

from fsstate.cli import output
from fsstate.cli.addresses import Session, find_session
from fsstate.cli.base import Group, ParamType, Settings
from fsstate.cli.showing import plain, show
from fsstate.times import parse_time

__all__ = ["Duration", "sessions"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_ORDERS: Final = tuple(
    sign + name for name in ("updated_at", "created_at", "message_count", "title") for sign in ("-", "")
)


class Time(ParamType):
    """A point in time."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Read it in any form that fsstate reads."""
        try:
            return parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Duration(ParamType):
    """A length of time: `7d`, `12h`, `1d12h`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Sum up the parts."""
        if isinstance(value, timedelta):
            return value
        parts = re.findall(r"(\d+)([smhdw])", value)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            self.fail(f"{value!r} is no duration; write 7d, 12h, 30m, 90s, 2w or 1d12h", param, ctx)
        try:
            return timedelta(seconds=sum(int(number) * _UNITS[unit] for number, unit in parts))
        except OverflowError:
            self.fail(f"{value!r} is longer than time goes back", param, ctx)


class Pair(ParamType):
    """`key=value`; a value that is JSON is taken as such."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Any]:
        """Split at the first `=`."""
        if isinstance(value, tuple):
            return value  # pyright: ignore[reportUnknownVariableType] - converted before
        key, equals, text = value.partition("=")
        if not equals:
            self.fail(f"{value!r} is no key=value", param, ctx)
        from fsstate.codec import decode_bytes
        from fsstate.errors import CorruptRecordError

        try:
            return key, decode_bytes(text.encode(), "the value")
        except CorruptRecordError:
            return key, text


@click.group(
    cls=Group,
    invoke_without_command=True,
    shape=(
        '{"sessions": [{"id", "user_id", "title", "status", "project_id", "parent_id", "label", "archived", "pinned",',
        '               "created_at", "updated_at", "ended_at", "message_count", "last_model", "metadata"}]}',
    ),
)
@click.option("--user", "user_id", help="Only this user's.")
@click.option("--status", help="Only those with this status.")
@click.option("--project", "project_id", help="Only those of this project.")
@click.option("--parent", metavar="SESSION", type=Session(), help="Only those forked from this session.")
@click.option("--archived", is_flag=True, help="Only those that are archived.")
@click.option("--all", "everything", is_flag=True, help="Archived ones, too.")
@click.option(
    "--metadata", type=Pair(), multiple=True, help="Only those with this metadata; may be given several times."
)
@click.option("--created-after", type=Time(), help="Only those created then or later.")
@click.option("--created-before", type=Time(), help="Only those created then or earlier.")
@click.option("--updated-after", type=Time(), help="Only those active then or later.")
@click.option("--updated-before", type=Time(), help="Only those last active then or earlier.")
@click.option(
    "--order",
    "order_by",
    type=click.Choice(_ORDERS),
    default="-updated_at",
    show_default=True,
    help="By what; - descends.",
)
@click.option(
    "-n", "--limit", type=click.IntRange(min=0), default=50, show_default=True, help="At most so many; 0 is all."
)
@click.option("--offset", type=click.IntRange(min=0), default=0, help="Leave out the first so many.")
@click.pass_context
def sessions(
    context: click.Context, /, parent: str | None, archived: bool, everything: bool, limit: int, **filters: Any
) -> None:
    """List sessions, the latest active first.

    `fsstate sessions show ID` is `fsstate show ID`.
    """
    if context.invoked_subcommand is not None:
        return
    if archived and everything:
        raise click.UsageError("--archived and --all exclude each other")
    settings = context.ensure_object(Settings)
    settings.require_store()
    filters["metadata"] = dict(filters["metadata"])
    found = settings.opened.sessions.list(
        **filters,
        parent_id=None if parent is None else find_session(settings, parent).name,
        archived=None if everything else archived,
        limit=limit or None,
    )
    if settings.json:
        output.json_document({"sessions": [plain(summary) for summary in found]})
    elif not found:
        output.say("no sessions")
    else:
        _draw(found)


def _draw(found: list[Any]) -> None:
    heads = ("ID", "UPDATED (UTC)", "MSGS", "STATUS", "USER", "PROJECT", "LABEL", "TITLE")
    rows = (
        (
            each.id,
            output.shown_time(each.updated_at)[:16],
            str(each.message_count),
            each.status + ", archived" * each.archived + ", pinned" * each.pinned,
            each.user_id or "",
            each.project_id or "",
            each.label or "",
            each.title or "",
        )
        for each in found
    )
    output.table(heads, rows)


sessions.add_command(show)
