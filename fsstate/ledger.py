"""Records with a lifecycle, kept in a log: a line for the record, a line for each change.

A step is judged on the record as it is under the log's lock, so two callers never both take the last step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from fsstate.errors import AlreadyExistsError, NotFoundError
from fsstate.journal import Log
from fsstate.lifecycle import Lifecycle
from fsstate.projection import Projection, Projections, Row, fold_record
from fsstate.times import Clock, format_time

__all__ = ["Ledger"]


class Ledger:
    """Records with a lifecycle in one log, by id and in the order of their making.

    A record is a dict with `id`, `status`, `at` (when it was made) and fields of its own; `updated_at` and the
    lifecycle's stamps follow from the log. `check` raises for a record that must not come to be: then nothing is
    written. Every write is durable when it returns. Any thread may call.
    """

    def __init__(
        self,
        projections: Projections,
        log: Log,
        lifecycle: Lifecycle,
        clock: Clock,
        check: Callable[[Row], object] = lambda record: record,
    ) -> None:
        self.log = log
        self.lifecycle = lifecycle
        self._clock = clock
        self._check = check
        self._projections = projections

    def add(self, records: Iterable[Row]) -> list[Row]:
        """Add new records with one flush; return them as they are read. A missing `at` is now.

        Raises AlreadyExistsError for an id that is taken, and InvalidValueError for an unknown status; none is added.
        """
        now = format_time(self._clock())
        new = [record if record.get("at") is not None else {**record, "at": now} for record in records]
        for record in new:
            self._check(record)
            self.lifecycle.check_status(record["status"])
        if not new:
            return []

        def decide(known: dict[str, Row]) -> list[Row]:
            taken: set[str] = set()
            for record in new:
                if record["id"] in known or record["id"] in taken:
                    raise AlreadyExistsError(self._place(record["id"]))
                taken.add(record["id"])
            return new

        added: dict[str, Row] = {}
        for row in self._projection.append(decide):
            self._fold(added, row)
        return list(added.values())

    def change(self, name: str, fields: Mapping[str, object]) -> Row:
        """Lay fields over a record; a `status` among them is a step. Returns the record as it is then.

        Raises NotFoundError for an unknown id, and InvalidTransitionError for a step that its status forbids.
        """
        change: Row = {"update": name, **fields, "at": format_time(self._clock())}
        before: Row = {}

        def decide(known: dict[str, Row]) -> list[Row]:
            nonlocal before
            before = known.get(name, {})
            if not before:
                raise NotFoundError(self._place(name))
            if "status" in fields:
                self.lifecycle.check_step(self._place(name), before["status"], str(fields["status"]))
            before = dict(before)
            self._check(self._changed(before, change))
            return [change]

        (row,) = self._projection.append(decide)
        return self._changed(before, row)

    def get(self, name: str) -> Row | None:
        """The record, or None. What it holds must not be changed in place."""
        return self._projection.view(lambda known: dict(known[name]) if name in known else None)

    def list(self, *, status: str | None = None) -> list[Row]:
        """All records, or those with one status, in the order of their making."""
        return self._projection.view(
            lambda known: [dict(record) for record in known.values() if status in (None, record["status"])]
        )

    def count(self, *, status: str | None = None) -> int:
        """How many records there are, or how many with one status."""
        return self._projection.view(lambda known: sum(status in (None, record["status"]) for record in known.values()))

    @property
    def _projection(self) -> Projection[dict[str, Row]]:
        return self._projections.of(self.log, dict, self._fold)

    def _changed(self, record: Row, change: Row) -> Row:
        known = {change["update"]: dict(record)}
        self._fold(known, change)
        return known[change["update"]]

    def _place(self, name: str) -> str:
        return f"{self.log.path}: {name!r}"

    def _fold(self, known: dict[str, Row], row: Row) -> None:
        record = fold_record(known, row)
        if record is None:
            return
        at = row.get("at")
        if record is not row:
            record["updated_at"] = at
        # A line written by hand may lack it, and everything here asks for it.
        record.setdefault("status", self.lifecycle.initial)
        self.lifecycle.stamp(record, row.get("status"), at)
