"""The index of one store: looks at the files at each question, reads again what looks other than before, and answers.

- A question is answered from one state of the database, in which every file stands as the survey found it: between the
  survey and the answer nobody else's writing comes in.
- Reading, keeping and answering are one transaction where anything changed. Of several processes that ask at once, one
  reads what is new, and the others find it done.
- Small categories are asked directly, record by record: below some hundred that is as fast, and leaves no file behind.

Any thread may ask.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple, TypeVar

from fsstate.backends.base import Backend, Cache, Stamps, State, Survey, Visit
from fsstate.document_changes import PROBLEMS
from fsstate.index.tables import MOST_FIELDS, SCHEMA, Found, Stretches, Table
from fsstate.index.views import Kept, View
from fsstate.lazy import lazy_property
from fsstate.options import Indexing
from fsstate.queries import Question

__all__ = ["Freshness", "Index"]

R = TypeVar("R")
T = TypeVar("T")

# From so many records on, "auto" keeps an index.
_WORTH_IT: Final = 200
# What is known of so many views is held in memory; of others it is in the database.
_MOST_VIEWS: Final = 64
# So many records are read before what was read is kept.
_BATCH: Final = 500

_log: Final = logging.getLogger("fsstate")


class _Known(NamedTuple):
    """What is remembered of a view's directories, as the database holds it in this state."""

    state: State
    stretches: Stretches


class Freshness(NamedTuple):
    """How much an index knows: of so many `records`; and `outdated`, how many look other than when they were read."""

    records: int
    outdated: int


class Index:
    """The index of one store."""

    def __init__(self, backend: Backend, mode: Indexing) -> None:
        self._backend = backend
        self._mode: Indexing = mode
        self._known: dict[tuple[str, str], _Known] = {}

    def serves(self, view: View) -> bool:
        """Whether questions about this kind of record are to be put to the index, rather than to each record."""
        if self._cache is None or len(view.fields) > MOST_FIELDS:
            return False
        if self._mode == "always" or view.identity in self._known:
            return True
        return self._is_kept(view) or self._is_worth_it(view)

    def select(self, view: View, question: Question, read: Callable[[Found], R]) -> list[R]:
        """What `read` makes of each of the records that a question asks for."""
        return self.ask(view, lambda table: [read(found) for found in table.select(question)])

    def count(self, view: View, question: Question) -> int:
        """How many records fit, on whatever page."""
        return self.ask(view, lambda table: table.count(question))

    def ask(self, view: View, ask: Callable[[Table], R]) -> R:
        """Put any questions to the records as they are at one moment. `ask` may be called more than once."""
        cache = self._cache
        assert cache is not None
        known = cache.read(lambda visit: self._learnt(view, visit))
        surveys = None if known is None else self._surveys(view, known.stretches)
        if known is not None and surveys is not None and not any(map(_is_news, surveys.values())):
            answered = cache.read(lambda visit: self._answer(view, visit, known, ask))
            if answered is not None:
                return answered[0]
        result, learnt = cache.write(lambda visit: self._refreshed(view, visit, known, surveys, ask))
        self._remember(view, learnt)
        return result

    def freshness(self, view: View) -> Freshness | None:
        """How much is known of a kind of record before the next question; None if nothing is. Writes nothing."""
        cache = self._cache
        if cache is None or not self._is_kept(view):
            return None
        known = cache.read(lambda visit: self._learnt(view, visit))
        if known is None:
            return None
        surveys = self._surveys(view, known.stretches).values()
        outdated = sum(len(survey.changed) + len(survey.gone) for survey in surveys)
        counted = cache.read(lambda visit: _count(Table.find(visit.db, view)))
        return Freshness(counted, outdated)

    # Inside

    @lazy_property
    def _cache(self) -> Cache | None:
        # Opened for the first list: it brings SQLite along, which most programs do without.
        return None if self._mode == "never" else self._backend.cache("index", SCHEMA)

    def _is_kept(self, view: View) -> bool:
        cache = self._cache
        return cache is not None and cache.exists() and cache.read(lambda visit: Table.find(visit.db, view) is not None)

    def _is_worth_it(self, view: View) -> bool:
        # A survey that remembers nothing costs a look at each file; the names alone cost less.
        names = (name for folder in view.folders() for name in self._backend.names(folder, view.suffix))
        return sum(1 for _ in islice(names, _WORTH_IT)) == _WORTH_IT

    def _learnt(self, view: View, visit: Visit) -> _Known | None:
        """What is remembered of the directories now; None if nothing was ever kept."""
        known = self._known.get(view.identity)
        if known is not None and known.state == visit.state:
            return known
        table = Table.find(visit.db, view)
        if table is None:
            self._known.pop(view.identity, None)
            return None
        known = _Known(visit.state, table.stretches())
        self._remember(view, known)
        return known

    def _remember(self, view: View, known: _Known) -> None:
        if len(self._known) >= _MOST_VIEWS:
            # Each group of records may be one, and of groups there may be any number.
            self._known.clear()
        self._known[view.identity] = known

    def _surveys(self, view: View, stretches: Stretches) -> dict[str, Survey]:
        # What is no longer among the folders is looked for, too: it is gone, and so is all that was in it.
        folders = dict.fromkeys([*view.folders(), *stretches])
        return {
            folder: self._backend.survey(folder, view.suffix, stretches.get(folder, {}), belongings=view.belongings)
            for folder in folders
        }

    def _answer(self, view: View, visit: Visit, known: _Known, ask: Callable[[Table], R]) -> tuple[R] | None:
        """The answer, if the database is still as it was when the directories were looked at."""
        table = Table.find(visit.db, view)
        if table is None or visit.state != known.state:
            return None
        self._warn(table)
        return (ask(table),)

    def _refreshed(
        self,
        view: View,
        visit: Visit,
        known: _Known | None,
        surveys: Mapping[str, Survey] | None,
        ask: Callable[[Table], R],
    ) -> tuple[R, _Known]:
        """Keep what is new, and then answer."""
        table = Table.make(visit.db, view)
        if known is None or surveys is None or visit.state != known.state:
            # Somebody else wrote meanwhile: what they kept may be older than what we saw.
            known = _Known(visit.state, table.stretches())
            surveys = self._surveys(view, known.stretches)
        stretches = dict(known.stretches)
        for folder, survey in surveys.items():
            stretches[folder] = self._take_in(view, table, folder, stretches.get(folder, {}), survey)
        if table.is_new:
            table.arrange()
        self._warn(table)
        return ask(table), _Known(visit.after, stretches)

    def _take_in(
        self, view: View, table: Table, folder: str, known: dict[int, bytes], survey: Survey
    ) -> dict[int, bytes]:
        if not table.is_new:
            table.remove([view.place_of(folder, name) for name in survey.gone])
        for names in _batches(sorted(survey.changed), _BATCH):
            self._read_again(view, table, folder, {name: survey.changed[name] for name in names})
        table.remember(folder, known.keys() - survey.kept, survey.stretches)
        return {**{key: known[key] for key in survey.kept}, **survey.stretches}

    def _read_again(self, view: View, table: Table, folder: str, logs: Mapping[str, Stamps | None]) -> None:
        places = {name: view.place_of(folder, name) for name in logs}
        before = {} if table.is_new else table.values([*places.values()])
        kept: list[tuple[str, Kept]] = []
        flaws: list[tuple[str, str]] = []
        gone: list[str] = []
        for name, place in places.items():
            try:
                found = view.read(folder, name, before=before.get(place), logs=logs[name])
            except PROBLEMS as error:
                flaws.append((place, str(error)))
            else:
                if found is None:
                    gone.append(place)
                else:
                    kept.append((place, found))
        if not table.is_new:
            table.remove(gone)
        table.put(kept)
        table.put_flaws(flaws)

    def _warn(self, table: Table) -> None:
        for _, flaw in table.flaws():
            _log.warning("skipped: %s", flaw)


def _count(table: Table | None) -> int:
    return 0 if table is None else table.count(Question())


def _is_news(survey: Survey) -> bool:
    return bool(survey.changed or survey.gone or survey.stretches)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
