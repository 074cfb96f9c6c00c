"""Search: brings the index up to date with the files, and asks it.

Each search first looks at all files that it is about (a stat each, no read), reads those that look other than the index
knows them, and asks the index in the same transaction. So an answer is never older than the search, whoever changed the
files: this program, another one, an editor, or git.

- The index is shared by all processes, and each may find it gone, or begun anew by another version, at any moment.
- A long update is entered in pieces, so that nobody waits for all of it, and what is done stays done if it is cut off.
- What `StoreOptions.search_exclude` leaves out is not in the index, and is taken out of one that had it, to the last
  byte.

Any thread may search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from fsstate import names
from fsstate.backends.base import JSON, LOG, MARKDOWN, Backend, Cache, Ref, State, Suffix, Survey, Visit
from fsstate.errors import StorageError
from fsstate.queries import checked_page
from fsstate.search import SCHEMA, Index, PrivateCache, Query, Scope, SearchHit, ask, require_fts5
from fsstate.searchable import Searchable, hides_others, pass_over
from fsstate.session_documents import CATEGORY as SESSIONS
from fsstate.shared import Shared

__all__ = ["Searcher", "close_searches"]

# On disk: the name of the cache.
_NAME: Final = "search"
# So much text is entered in one transaction, a second's work or two.
_PIECE: Final = 8 * 1024 * 1024
# Each attempt fails only because others wrote to the index in between; then it is asked while nobody can.
_ATTEMPTS: Final = 3

# A category with what is left out of it, and the kind of its documents.
_Place: TypeAlias = tuple[str, str]
_Looks: TypeAlias = Mapping[_Place, Mapping[int, bytes]]
_Surveys: TypeAlias = Mapping[_Place, tuple[str, Suffix, Survey]]
_Hits: TypeAlias = list[SearchHit]
_Answer: TypeAlias = Callable[[Visit], _Hits]


class _Known(NamedTuple):
    """How the categories looked when the index was in this state."""

    state: State | None
    looks: _Looks


_NOTHING: Final = _Known(None, {})


class _Plan(NamedTuple):
    """What is to be entered: how the categories look beside what is known, and what of it was entered already.

    It holds as long as nobody else writes to the index: a file that changes after the surveys looks other to the next.
    """

    known: _Known
    surveys: _Surveys
    done: frozenset[Ref]

    @property
    def has_news(self) -> bool:
        """Whether there is anything to enter."""
        looks = self.known.looks
        # Without anything that is remembered, a category that is gone cannot be missed.
        if not looks or looks.keys() - self.surveys.keys():
            return True
        return any(
            survey.changed or survey.gone or survey.stretches or len(survey.kept) < len(looks.get(place, {}))
            for place, (_, _, survey) in self.surveys.items()
        )


class _Target(NamedTuple):
    """What a search asks about: part of what is always in the index, and the logs that were named."""

    scope: Scope
    logs: tuple[Ref, ...]


class _Held:
    """What all searches of one store share."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        # Used where the backend keeps no cache. Empty, it costs nothing.
        self.private = PrivateCache(SCHEMA)
        self.known = _NOTHING

    @property
    def cache(self) -> Cache:
        """The index. Raises StoreClosedError, rather than open it again."""
        return self._backend.cache(_NAME, SCHEMA) or self.private


class Searcher:
    """Searches one store. Cheap to make: nothing is read."""

    def __init__(self, shared: Shared) -> None:
        self._backend = shared.backend
        self._excluded = shared.search_exclude
        self._searchable = Searchable(shared, self._is_excluded)
        held: _Held | None = shared.parts.get(_NAME)
        # Of two threads that are the first at once, both get the same.
        self._held: _Held = shared.parts.setdefault(_NAME, _Held(shared.backend)) if held is None else held

    def search(
        self, query: str, in_: str | Iterable[str] | None, limit: int | None, offset: int, user: str | None = None
    ) -> _Hits:
        """The answers, the best first; see `Store.search`. With a `user`, only of this user's sessions."""
        question = Query.parse(query)
        checked_page(limit, offset)
        target = self._target(in_, user)
        require_fts5()
        answer = partial(self._answer, question=question, target=target, limit=limit, offset=offset)
        found = self._ask_as_it_is(target, answer)
        return self._carry_out(found, target, answer) if isinstance(found, _Plan) else found

    # Asking

    def _ask_as_it_is(self, target: _Target, answer: _Answer) -> _Hits | _Plan:
        """The answers, or what is to be entered first."""
        plan = self._plan()
        for _ in range(_ATTEMPTS):
            ask_it = partial(self._if_current, known=plan.known, target=target, answer=answer)
            hits = None if plan.has_news else self._held.cache.read(ask_it)
            if not isinstance(hits, State):
                return plan if hits is None else hits
            self._held.known = _NOTHING
            plan = self._plan()
        return plan

    def _if_current(self, visit: Visit, *, known: _Known, target: _Target, answer: _Answer) -> _Hits | State | None:
        """The answers; None if a log has to be read first, and the index's state if others wrote to it."""
        if visit.state != known.state:
            return visit.state
        index = Index(visit.db)
        are_current = all(self._searchable.is_current(ref, index.source(str(ref))) for ref in target.logs)
        return answer(visit) if are_current else None

    def _answer(self, visit: Visit, *, question: Query, target: _Target, limit: int | None, offset: int) -> _Hits:
        index = Index(visit.db)
        logs = (index.source(str(ref)) for ref in target.logs)
        corpora = tuple(known.id for known in logs if known is not None)
        return ask(visit.db, question, target.scope._replace(corpora=corpora), limit, offset)

    # Bringing it up to date

    def _plan(self) -> _Plan:
        """What is to be done, by what the index was in last."""
        known = self._held.known
        if known.state is None:
            known = self._held.known = self._held.cache.read(_remembered)
        return _Plan(known, self._survey(known.looks), frozenset())

    def _carry_out(self, plan: _Plan, target: _Target, answer: _Answer) -> _Hits:
        """Enter what is new, piece by piece, and answer in one go with the last piece."""
        while True:
            plan, hits = self._held.cache.write(partial(self._update, plan=plan, target=target, answer=answer))
            self._held.known = plan.known
            if hits is not None:
                return hits

    def _update(self, visit: Visit, *, plan: _Plan, target: _Target, answer: _Answer) -> tuple[_Plan, _Hits | None]:
        """Enter a piece; gives what is left to do, or the answers."""
        index = Index(visit.db)
        index.overwrite_what_goes()
        if visit.state != plan.known.state:
            known = _remembered(visit)
            plan = _Plan(known, self._survey(known.looks), frozenset())
        looks, surveys = plan.known.looks, plan.surveys
        if not plan.done:
            self._drop(index, looks, surveys)
        done = self._enter(index, plan)
        if any(self._is_excluded(_ref_of(ref).category) for ref in index.removed):
            index.forget_words()
        if done is not None:
            return _Plan(_Known(visit.after, looks), surveys, plan.done | done), None
        self._enter_logs(index, target.logs)
        looks = _remember(index, looks, surveys)
        return _Plan(_Known(visit.after, looks), surveys, frozenset()), answer(visit)

    def _survey(self, looks: _Looks) -> _Surveys:
        found: dict[_Place, tuple[str, Suffix, Survey]] = {}
        for category in self._categories():
            try:
                found |= self._survey_one(category, looks)
            except StorageError as error:
                pass_over(error)
        return found

    def _survey_one(self, category: str, looks: _Looks) -> dict[_Place, tuple[str, Suffix, Survey]]:
        found: dict[_Place, tuple[str, Suffix, Survey]] = {}
        left_out = (f" -{each}" for each in self._excluded if each.startswith(f"{category}/"))
        called = "".join((category, *left_out))
        for suffix in (JSON, MARKDOWN):
            known = looks.get((called, suffix), {})
            survey = self._backend.survey(category, suffix, known, belongings=suffix == JSON, documents=True)
            found[called, suffix] = category, suffix, survey
        return found

    def _categories(self, above: str = "") -> Iterator[str]:
        """All categories that are searched, nested ones too. What belongs to a document goes with it."""
        try:
            below = self._backend.categories(above)
        except StorageError as error:
            if not above or hides_others(error):
                raise
            # Its survey has said so.
            return
        for name in below:
            category = f"{above}/{name}".lstrip("/")
            is_owned = above and self._backend.look(Ref(above, name, JSON)) is not None
            if not is_owned and not self._is_excluded(category):
                yield category
                if category != SESSIONS:
                    yield from self._categories(category)

    def _is_excluded(self, category: str) -> bool:
        return any(category == each or category.startswith(f"{each}/") for each in self._excluded)

    def _drop(self, index: Index, looks: _Looks, surveys: _Surveys) -> None:
        """Take out what is gone: documents, whole categories, and logs that were asked for once."""
        for category, suffix, survey in surveys.values():
            for name in survey.gone:
                self._drop_record(index, Ref(category, name, suffix))
        # Where everything counts as changed, and nothing is remembered, what is gone is what does not.
        told = {(category, suffix): survey for category, suffix, survey in surveys.values()}
        is_remembered = any(survey.kept or survey.stretches for survey in told.values())
        if looks.keys() - surveys.keys() or not is_remembered:
            for ref in map(_ref_of, index.units()):
                place = told.get((ref.category, ref.suffix))
                is_there = place is not None and (place.kept or place.stretches or ref.name in place.changed)
                if ref.suffix != LOG and not is_there:
                    self._drop_record(index, ref)
        for known in index.named_logs().values():
            ref = _ref_of(known.source.ref)
            if self._is_excluded(ref.category) or self._backend.look(ref) is None:
                index.remove(known)

    def _drop_record(self, index: Index, ref: Ref) -> None:
        for known in index.sources(str(ref)).values():
            index.remove(known)

    def _enter(self, index: Index, plan: _Plan) -> set[Ref] | None:
        """Enter what changed. Gives the records that were, when there are more than fit into one piece."""
        room = _PIECE
        entered: set[Ref] = set()
        for category, suffix, survey in plan.surveys.values():
            for ref in sorted({Ref(category, name, suffix) for name in survey.changed} - plan.done):
                if room < 0:
                    return entered
                for reading in self._searchable.record(ref, index.sources(str(ref))):
                    reading.enter(index)
                    room -= reading.size
                entered.add(ref)
        return None

    def _enter_logs(self, index: Index, logs: Iterable[Ref]) -> None:
        for ref in logs:
            reading = self._searchable.log(ref, index.source(str(ref)))
            if reading is not None:
                reading.enter(index)

    # What is asked about

    def _target(self, in_: str | Iterable[str] | None, user: str | None) -> _Target:
        if in_ is None:
            return _Target(Scope(user=user), ())
        within: list[str] = []
        sessions: list[str] = []
        logs: list[Ref] = []
        for each in (in_,) if isinstance(in_, str) else in_:
            path = each.rstrip("/")
            log = self._log_of(path)
            if log is not None:
                logs.append(log)
            elif "/" not in path and self._is_session(path):
                sessions.append(path)
            if log is None or not path.endswith(LOG):
                within.append(path)
        wanted = (ref for ref in logs if not self._is_excluded(ref.category))
        return _Target(Scope(tuple(within), tuple(sessions), user=user), tuple(dict.fromkeys(wanted)))

    def _log_of(self, path: str) -> Ref | None:
        """The log that is meant, if it is one that is searched only when it is named."""
        category, _, name = path.rpartition("/")
        ref = Ref(names.check_category(category or path), name.removesuffix(LOG), LOG)
        if category:
            names.check_name(name)
        is_conversation = category.startswith(f"{SESSIONS}/") and (
            (category.count("/") == 1 and ref.name == "messages") or category.split("/")[2:] == ["streams"]
        )
        return None if not category or is_conversation or self._backend.look(ref) is None else ref

    def _is_session(self, name: str) -> bool:
        return name not in self._backend.categories() and self._backend.look(Ref(SESSIONS, name, JSON)) is not None


def close_searches(shared: Shared) -> None:
    """Give back what searches of a store hold in memory."""
    held: _Held | None = shared.parts.get(_NAME)
    if held is not None:
        held.private.close()


def _remembered(visit: Visit) -> _Known:
    return _Known(visit.state, Index(visit.db).looks())


def _remember(index: Index, looks: _Looks, surveys: _Surveys) -> _Looks:
    """Note what the surveys gave to remember, and forget the rest."""
    new: dict[_Place, Mapping[int, bytes]] = {}
    for place in looks.keys() - surveys.keys():
        index.remember(place, looks[place], {})
    for place, (_, _, survey) in surveys.items():
        known = looks.get(place, {})
        index.remember(place, known.keys() - survey.kept, survey.stretches)
        new[place] = {key: known[key] for key in survey.kept} | survey.stretches
    return {place: found for place, found in new.items() if found}


def _ref_of(text: str) -> Ref:
    category, _, name = text.rpartition("/")
    suffix: Suffix = LOG if name.endswith(LOG) else MARKDOWN if name.endswith(MARKDOWN) else JSON
    return Ref(category, name.removesuffix(suffix), suffix)
