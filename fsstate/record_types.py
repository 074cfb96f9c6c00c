"""What a kind of record is, declared as data: where its files are, how they are seen, and which rules they follow.

A declaration takes a few lines, and everything else follows from it: `fsstate.rules` says what the rules make of a
change, `fsstate.records` keeps the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeAlias, TypeVar

from fsstate import names
from fsstate.conditions import values_in
from fsstate.lazy import lazy_property
from fsstate.lifecycle import ANY_OTHER, Lifecycle
from fsstate.migrations import VERSION, Migration, Versions
from fsstate.models import Model
from fsstate.queries import plain

__all__ = ["HOLDER", "Derive", "RecordType", "Recovery"]

T = TypeVar("T")

Fields: TypeAlias = dict[str, Any]
# Given a record before (None: a new one) and after a change, and the present time: sets in `after` what follows.
Derive: TypeAlias = Callable[[Fields | None, Fields, str], None]

# On disk: do not rename. Who works on a record in flight.
HOLDER: Final = "held_by"

_USUAL_ORDER: Final = "-created_at"
# What `Records.list` is called with besides fields.
_PARAMETERS: Final = ("order_by", "limit", "offset")

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Recovery(NamedTuple):
    """What becomes of records that were under way when the program that worked on them died.

    - `status`: what they become; the lifecycle must allow it from each that is in flight.
    - `in_flight`: the statuses of records that somebody works on.
    - `fields`: what they are given where they have nothing, such as an `error_code`.
    """

    status: str
    in_flight: Sequence[str]
    fields: Mapping[str, Any] = _NOTHING


class RecordType(Generic[T]):
    """A kind of record.

    - `category`: the folder of its files, `<category>/<id>.json`.
    - `model`: how they are seen: a dataclass, TypedDict, msgspec.Struct or pydantic model. Where it has datetimes
      `created_at` and `updated_at`, those are set by the store.
    - `key`: the field that a file is named after (quoted by `quote_name`).
    - `group_by`: a field with a folder for each of its values, `<category>/<value>/<id>.json`: listing one group, and
      keeping its newest, looks at no other.
    - `parent`: the category of the documents that the records belong to: "sessions" puts them into
      `sessions/<id>/<category>/`, where they go with the session.
    - `indexed`: the fields that `list` and `count` can be asked for, besides the key, the group and the status.
    - `order_by`: the usual order of lists, such as "-created_at"; equal ones are ordered by key in the same direction.
    - `lifecycle`: which `status` may follow which, and the times that are kept of each. A record without a status has
      the first one.
    - `keep`: only the newest this many of each group stay, by `order_by`, when one is added. Records in flight go only
      when there are too many of them alone.
    - `recovery`: what becomes of records in flight whose program died.
    - `migrations`: the steps from older versions of the documents.
    - `derive`: computes fields from others at each save: called with the document before (None: a new one) and after
      the change, and the present time as it is stored. It changes the latter in place.

    A model has no fields `held_by` and `schema_version`: fsstate keeps its own there. Raises ValueError for one that
    has, and for a declaration that contradicts itself or names fields that the model does not have.
    """

    def __init__(
        self,
        category: str,
        model: type[T],
        *,
        key: str = "id",
        group_by: str | None = None,
        parent: str | None = None,
        indexed: Sequence[str] = (),
        order_by: str = _USUAL_ORDER,
        lifecycle: Lifecycle | None = None,
        keep: int | None = None,
        recovery: Recovery | None = None,
        migrations: Sequence[Migration] = (),
        derive: Derive | None = None,
    ) -> None:
        self.category = names.check_category(category)
        self.model = model
        self.key = key
        self.group_by = group_by
        self.parent = parent
        if isinstance(indexed, str):
            raise TypeError(f"{category}: indexed is a sequence of names, got {indexed!r}")
        if not isinstance(lifecycle, Lifecycle | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"{category}: lifecycle must be a fsstate.Lifecycle, got {lifecycle!r}")
        self.indexed = tuple(indexed)
        self.order_by = order_by
        self.lifecycle = lifecycle
        self.keep = keep
        self.recovery = recovery
        self.versions = Versions(category, migrations)
        self.derive = derive
        self._check()

    def __repr__(self) -> str:
        return f"RecordType({self.category!r}, {self.model.__name__})"

    @lazy_property
    def signs(self) -> Signs:
        """How records in flight look."""
        return Signs(self)

    @lazy_property
    def view(self) -> Model[T]:
        """The model as documents are read and written by it."""
        return Model.of(self.model)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    @property
    def filters(self) -> tuple[str, ...]:
        """The fields that lists can be asked for."""
        named = (self.key, self.group_by, "status" if self.lifecycle is not None else None)
        return tuple(dict.fromkeys(name for name in (*named, *self.indexed) if name is not None))

    @property
    def in_flight(self) -> Sequence[str]:
        """The statuses of records that somebody works on."""
        return () if self.recovery is None else self.recovery.in_flight

    def status_of(self, document: Mapping[str, Any]) -> str | None:
        """The status of a record; None for a type without a lifecycle."""
        if self.lifecycle is None:
            return None
        status = document.get("status")
        return self.lifecycle.initial if status is None else status

    def check_filters(self, where: Mapping[str, object]) -> None:
        """Raise ValueError for a field that lists cannot be asked for, and for a status that does not exist."""
        unknown = next((name for name in where if name not in self.filters), None)
        if unknown is not None:
            known = ", ".join(self.filters)
            raise ValueError(f"{self.category} are listed by {known}, not by {unknown!r}; declare it as indexed")
        for status in values_in(where["status"]) if "status" in where else ():
            self._check_status(plain(status))

    def _check_status(self, status: object) -> None:
        if self.lifecycle is not None and not self.lifecycle.knows(status):
            statuses = ", ".join(self.lifecycle.steps)
            raise ValueError(f"{status!r} is no status of {self.category}; it is one of {statuses}")

    def _check(self) -> None:
        if self.group_by is not None and self.parent is not None:
            raise ValueError(f"{self.category}: what belongs to a parent is grouped by it; leave out group_by")
        if self.keep is not None and self.keep < 1:
            raise ValueError(f"{self.category}: keep must be 1 or more, got {self.keep!r}; None means all")
        self._check_names()
        if self.lifecycle is not None:
            self._check_lifecycle(self.lifecycle)
        if self.recovery is not None:
            self._check_recovery(self.recovery)

    def _check_names(self) -> None:
        keys = self.view.keys
        for name in (HOLDER, VERSION):
            if name in keys:
                raise self._wrong(f"{name!r} is fsstate's own; call the model's field otherwise")
        for name in self._named():
            if keys and name not in keys:
                renamed = ", by this name in the document, too" if name in self.view.renamed else ""
                raise self._wrong(f"{self.model.__name__} has no field {name!r}{renamed}")
        for name in ("created_at", "updated_at"):
            if name in self.view.renamed:
                raise self._wrong(f"{name!r} has another name in the document, where fsstate would not find it")
        taken = next((name for name in self.indexed if name in _PARAMETERS), None)
        if taken is not None:
            raise self._wrong(f"a field {taken!r} cannot be asked for: lists have a parameter of that name")

    def _named(self) -> Iterator[str]:
        """The fields that the declaration names."""
        yield from self.indexed
        if self.group_by is not None:
            yield self.group_by
        if self.keep is not None or self.order_by != _USUAL_ORDER:
            yield self.order_by.removeprefix("-")
        if self.lifecycle is not None:
            yield "status"

    def _check_lifecycle(self, lifecycle: Lifecycle) -> None:
        known = {*lifecycle.steps, ANY_OTHER}
        following = {status for steps in lifecycle.steps.values() for status in steps}
        unknown = sorted((following | lifecycle.stamps.keys()) - known)
        if not lifecycle.steps or unknown:
            raise self._wrong(f"the lifecycle has no steps for {', '.join(unknown) or 'any status'}")
        default = plain(self.view.defaults().get("status", lifecycle.initial))
        if default not in (None, lifecycle.initial):
            name = self.model.__name__
            raise self._wrong(f"a {name} begins as {default!r}, and the lifecycle with {lifecycle.initial!r}")

    def _wrong(self, reason: str) -> ValueError:
        return ValueError(f"{self.category}: {reason}")

    def _check_recovery(self, recovery: Recovery) -> None:
        if self.lifecycle is None:
            raise ValueError(f"{self.category}: a recovery needs a lifecycle")
        if not recovery.in_flight:
            raise ValueError(f"{self.category}: a recovery needs statuses that are in flight")
        for name in ("status", self.key):
            if name in recovery.fields:
                raise ValueError(f"{self.category}: a recovery cannot set {name!r} by its fields")
        wanted = recovery.status
        for status in recovery.in_flight:
            if status != wanted and not self.lifecycle.allows(status, wanted):
                raise ValueError(f"{self.category}: the lifecycle allows no step from {status!r} to {wanted!r}")


class Signs:
    """How the files of records in flight look: most of the others are told from them without parsing.

    A file that fsstate wrote has its status and its version each in a line of its own.
    """

    def __init__(self, kind: RecordType[Any]) -> None:
        statuses = () if kind.lifecycle is None else kind.lifecycle.steps
        self._version = _line(VERSION, str(kind.versions.latest)) if kind.versions.latest > 1 else b""
        self._in_flight = [f'"{status}"'.encode() for status in kind.in_flight]
        self._at_rest = [_line("status", f'"{one}"') for one in statuses if one not in kind.in_flight]
        self._starts_in_flight = kind.lifecycle is not None and kind.lifecycle.initial in kind.in_flight

    def may_be_in_flight(self, data: bytes) -> bool:
        """Whether a file may hold a record in flight; it is to be parsed then."""
        # What is spelled with escapes, or will be spelled otherwise once it is migrated, tells nothing yet.
        if self._version not in data or b"\\u" in data or any(sign in data for sign in self._in_flight):
            return True
        return self._starts_in_flight and not any(sign in data for sign in self._at_rest)


def _line(field: str, value: str) -> bytes:
    return f'\n  "{field}": {value}'.encode()
