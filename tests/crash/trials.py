"""Kills the programs of `scenes` after each change to the disk, cuts their power, goes on, and judges what comes of it.

`python -m tests.crash.trials DIRECTORY` takes an `Order` from its input and puts a `Verdict` into its output, pickled.

A program runs in a process of its own that records its calls, and is killed with SIGKILL after its n-th change. What a
power cut leaves of it is told by the models of a disk. Whatever is left:

  - Every file is as it was before the step that was under way, or after it; those of steps that were done are there,
    and no other. A session that is being imported may say that it is incomplete; a log may be cut short.
  - Everything reads, nothing is a problem, and what is in flight belongs to something.
  - Going on, from the step that was under way, ends where the program ends that nobody disturbs, with no file more.
  - To recover, migrate, import or mend once more changes not one file.
  - What a scene says is kept is somewhere, and what goes as one is whole, in its place or in the trash.
  - What an index answers is what the files hold, however the power cut left the index.
  - What another program has in flight that lives is as it was, to the byte.
"""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import random
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import fsstate
from fsstate.catalogue import BUILT_IN
from fsstate.doctor import documents
from tests.crash.caches import CACHE, of_an_earlier_run, reseal, torn
from tests.crash.mending import MENDING
from tests.crash.model import Budget, Disk, Model, Ordered, Posix, Tree, build, tree_of
from tests.crash.plants import PLANTS
from tests.crash.recorder import Call, Recorder, is_change, read_trace
from tests.crash.scenes import SCENES, TYPES, Hand, Scene

__all__ = ["ALL_SCENES", "Order", "Verdict"]

ALL_SCENES: Final[dict[str, Scene]] = {**SCENES, **MENDING}

# What lies in a store, by its path: bytes that are equal when they say the same.
Files: TypeAlias = dict[str, bytes]

_DONE: Final = 7
_DIRECTORY: Final = b"<directory>"
_MODELS: Final[tuple[type[Model], ...]] = (Posix, Ordered)
_PROCESS: Final = fsstate.StoreOptions(durability="process", lock_timeout=2.0)
# "The step was done already": what programs are told that repeat one.
_REPEATED: Final = (fsstate.AlreadyExistsError, fsstate.InvalidTransitionError, fsstate.NotFoundError)
# Names and times that are new in each run. Sources are of 2025.
_NEW: Final = re.compile(
    rb'[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|"20(?!25)\d\d-\d\d-\d\dT[0-9:.]+Z"'
    rb'|"duration_ms": ?\d+'
)
# Of conflict copies, the part that is new in each run.
_COPY: Final = re.compile(r"\.conflict-[0-9TZ-]+-[0-9a-f]{4}\.")
_TRASH: Final = re.compile(r"state/\.fsstate/trash/[^/]+/")
_SHOWN_CALLS: Final = 12
_CUTS_IN_WHAT_FOLLOWS: Final = 16


class Order(NamedTuple):
    """What one of `hands` processes is to try of a scene.

    Kills after all changes of names and data, and with `flushes` after all flushes, too, or after `kills` of them,
    evenly spread; `cuts` power cuts; after `twice` of the kills half as many power cuts in what follows, at most 16.
    """

    scene: str
    hand: int
    hands: int
    seed: int
    cuts: int
    twice: int = 0
    flushes: bool = False
    plant: str = ""
    kills: int | None = None


class Verdict(NamedTuple):
    """How many kills and power cuts were tried, how many of their states differed, and what was wrong."""

    kills: int
    cuts: int
    distinct: int
    failures: list[str]


class Course(NamedTuple):
    """How a scene goes that nobody disturbs: what it left after each step (first: before all) and in the end."""

    steps: list[Files]
    end: Files
    calls: list[Call]
    base: Path
    before: Tree


class Done(NamedTuple):
    """A step that came to its end, whether it was not done before, and what lay there then."""

    number: int
    is_new: bool
    files: Files
    caches: Tree


class Reached(NamedTuple):
    """How far a program was told that it got, and which of these steps had been done by the one that was killed."""

    steps: int
    repeated: tuple[int, ...] = ()


# Running


class Runs:
    """The programs of one scene, each in a process and a directory of its own below `place`."""

    def __init__(self, scene: Scene, place: Path, plant: str = "") -> None:
        self.scene = scene
        self.source = place / "source"
        self._place = place
        self._plant = plant
        self._numbers = itertools.count()
        self._prepared = self._new_base()
        self._prepared.mkdir(parents=True)
        self.do(self._prepared, [scene.before] if scene.before else [])

    def hand(self, base: Path, options: fsstate.StoreOptions = _PROCESS) -> Hand:
        """A program at `base`."""
        indexing = options.indexing if self.scene.answers is None else "always"
        return Hand(base, self.source, options._replace(indexing=indexing))

    def fresh(self) -> Path:
        """A new directory, as things are before the scene. What lies beside it, such as git's, is copied with it."""
        base = self._new_base()
        shutil.copytree(self._prepared.parent, base.parent)
        return base

    def built(self, tree: Tree) -> Path:
        """A new directory that holds a tree."""
        base = self._new_base()
        beside = [path for path in self._prepared.parent.iterdir() if path != self._prepared]
        build(tree, base)
        for path in beside:
            shutil.copytree(path, base.with_name(path.name))
        return base

    def run(self, base: Path, trace: Path, *, kill: int = 0, since: int | None = None, show: bool = False) -> bool:
        """Run the steps in a process that records them; whether it came to its end. `since`: go on after a kill."""
        pid = os.fork()
        if pid == 0:
            try:
                self._record(base, Recorder(trace, base), kill, since, show=show)
            except BaseException:  # noqa: BLE001 - the child must not go on as its parent
                trace.with_suffix(".error").write_text(traceback.format_exc())
            os._exit(_DONE)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        error = trace.with_suffix(".error")
        if status not in (_DONE, -signal.SIGKILL) or error.exists():
            raise RuntimeError(f"ended with {status}: {error.read_text() if error.exists() else ''}")
        return status == _DONE

    def _record(self, base: Path, recorder: Recorder, kill: int, since: int | None, *, show: bool) -> None:
        recorder.install()
        if self._plant:
            PLANTS[self._plant]()
        if kill:
            recorder.kill_after(kill)
        recorder.mark("begin")
        do = self.hand(base, fsstate.StoreOptions())
        for number, step in [*enumerate([*self.scene.steps, Hand.close])][since or 0 :]:
            done = repeated(step, do, once=number != since)
            tree = tree_of(base) if show else {}
            recorder.mark("ack", Done(number, done, files_of(tree), caches_of(tree)))
        recorder.mark("end", tree_of(base))

    @contextmanager
    def living(self, base: Path) -> Iterator[None]:
        """Another program that has done its part and lives on."""
        if self.scene.living is None:
            yield
            return
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                # Kept: what a store works on is let go of when nobody has the store any more.
                hand = self.hand(base)
                self.scene.living(hand)
                os.write(tell, b"!")
                signal.pause()
            finally:
                os._exit(1)
        os.close(tell)
        told = os.read(ready, 1)
        os.close(ready)
        try:
            assert told, "the other program died"
            yield
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _new_base(self) -> Path:
        return self._place / str(next(self._numbers)) / "base"

    def do(self, base: Path, steps: Sequence[Callable[[Hand], object]]) -> None:
        """Do steps here, undisturbed."""
        do = self.hand(base)
        for step in steps:
            step(do)
        do.close()


def repeated(step: Callable[[Hand], object], do: Hand, *, once: bool = False) -> bool:
    """Do a step that may have been done (not with `once`); whether it was not."""
    try:
        step(do)
    except _REPEATED:
        if once:
            raise
        return False
    return True


def course_of(runs: Runs) -> Course:
    """The scene, undisturbed."""
    base = runs.fresh()
    with runs.living(base):
        before = tree_of(base)
        trace = base.with_suffix(".trace")
        runs.run(base, trace, show=True)
        runs.do(base, runs.scene.after)
    calls = list(read_trace(trace))
    steps = [files_of(before), *(call.mark.files for call in calls if call.kind == "ack")]
    return Course(steps, files_of(tree_of(base)), calls, base, before)


def kills_of(calls: Sequence[Call], steps: int, *, flushes: bool) -> list[int]:
    """After which changes to kill: those of the steps."""
    end = next(n for n, call in enumerate(calls) if call.kind == "ack" and call.mark.number == steps)
    changes = [call for call in calls[:end] if is_change(call)]
    return [n for n, call in enumerate(changes, 1) if flushes or call.kind != "flushed"]


def reached(calls: Sequence[Call]) -> Reached:
    acks: list[Done] = [call.mark for call in calls if call.kind == "ack"]
    return Reached(len(acks), tuple(ack.number for ack in acks if not ack.is_new))


# Looking


def files_of(tree: Tree) -> Files:
    """What people see of a store, without what is new in each run."""
    seen = {path: data for path, data in tree.items() if path.startswith("state/") and "/.fsstate" not in path}
    return {
        _COPY.sub(".conflict-*.", path): _DIRECTORY if data is None else _NEW.sub(b"*", data)
        for path, data in seen.items()
    }


def caches_of(tree: Tree) -> Tree:
    """What lies in a store's cache."""
    return {path: data for path, data in tree.items() if path.startswith(CACHE)}


def without_caches(tree: Tree) -> Tree:
    """The same without that: SQLite writes there, which nobody records."""
    return {path: data for path, data in tree.items() if not path.startswith(CACHE)}


def stats_of(base: Path) -> dict[str, tuple[int, ...]]:
    """What any write would change, outside of what is fsstate's own."""
    found: dict[str, tuple[int, ...]] = {}
    for path in [base / "state", *(base / "state").rglob("*")]:
        if ".fsstate" not in path.parts and path.exists():
            status = path.stat()
            # A new lock file changes the time of a directory only inside of .fsstate.
            found[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def as_promised(tree: Tree, course: Course, reached: Reached, scene: Scene) -> list[str]:
    """Which files are neither as before the step that was under way nor as after it, and what is lost or mixed."""
    now, then = course.steps[reached.steps], course.steps[min(reached.steps + 1, len(course.steps) - 1)]
    versions = [now, then, *(course.steps[number] for number in reached.repeated)]
    left, in_trash = files_of(tree), {_TRASH.sub("state/", path) for path in tree}
    problems = [f"{text!r} is nowhere" for text in lost(tree, scene)]
    for path in sorted({*left, *now, *then}):
        allowed = [files.get(path) for files in versions]
        if left.get(path) in allowed:
            continue
        if _is_on_its_way(path, left.get(path), now.get(path), then.get(path)):
            # What was being written counts for written, as one with the rest.
            left[path] = then[path]
        elif path in left or path not in in_trash or not path.startswith(scene.wholes):
            problems.append(f"{path} is {left.get(path)!r}, not one of {allowed}")
    return problems + [f"{whole} is of several versions" for whole in scene.wholes if _is_mixed(left, versions, whole)]


def _is_mixed(left: Files, versions: Sequence[Files], whole: str) -> bool:
    """Whether a document is there with what belongs to it, and these are not of one version."""
    return f"{whole}.json" in left and _part(left, whole) not in [_part(files, whole) for files in versions]


def lost(tree: Tree, scene: Scene) -> list[bytes]:
    """What is to be kept, and is in no file below the store."""
    files = [data for path, data in tree.items() if data is not None and path.startswith("state/")]
    return [text for text in scene.kept if not any(text in data for data in files)]


def _part(files: Files, whole: str) -> Files:
    return {path: data for path, data in files.items() if path == f"{whole}.json" or path.startswith(f"{whole}/")}


def _is_on_its_way(path: str, left: bytes | None, now: bytes | None, then: bytes | None) -> bool:
    if left is None or then is None:
        return False
    if path.endswith(".jsonl"):
        # Zeros where data was on its way, also at first and with data behind them.
        sound = left.partition(b"\0")[0]
        return left.startswith(now or b"") and then.startswith(sound[: sound.rfind(b"\n") + 1])
    return path.count("/") == 2 and path.startswith("state/sessions/") and b'"is_incomplete": true' in left


def problems_in(store: fsstate.Store) -> list[str]:
    """What cannot be read or does not fit."""
    found: list[Any] = []
    for kind in (*BUILT_IN, *TYPES):
        if kind.parent is None:
            records = store.records(kind)
            found += records.problems()
            found += [f"{kind.category}: a list is short"] * (len(records.list()) != len(records.ids()))
    for name in store.sessions.ids():
        found += _in_session(store.session(name))
    for name in store.workflows.ids():
        flow = store.workflow(name)
        for part in (flow.branches, flow.leaves, flow.nodes, flow.candidates):
            found += [*part.problems(), *part.list()[:0]]
    report = store.migrate(dry_run=True)
    found += [*store.sources.problems(), *store.settings.problems(), *report.problems]
    paths = [*(each.path for each in store.in_flight()), *(each.path for each in report.migrated)]
    found += [f"{path} belongs to nothing" for path in paths if not _has_owner(path)]
    return [str(problem) for problem in found]


def _has_owner(path: str) -> bool:
    """Whether a record belongs to nothing, or to something that is there."""
    *above, _category, _name = path.rpartition("/state/")[2].split("/")
    if len(above) != 2 or above[0] not in ("sessions", "workflows"):
        return True
    return os.path.exists(f"{path.rpartition('/state/')[0]}/state/{above[0]}/{above[1]}.json")


def _in_session(one: fsstate.SessionHandle) -> list[Any]:
    one.document()
    one.goal.get()
    one.config.get()
    one.tools.list()
    one.messages.list()
    cards = [one.records(kind) for kind in TYPES if kind.parent]
    parts = (one.checkpoints, *cards)
    return [problem for part in parts for problem in part.problems()]


# Judging


class Judge:
    """Looks at what is left of a scene, goes on from there, and says what is wrong. The same is looked at once."""

    def __init__(self, runs: Runs, course: Course) -> None:
        self.runs = runs
        self.course = course
        self.seen: dict[object, list[str]] = {}

    def judge(self, base: Path, reached: Reached, *, ends: bool = True) -> list[str]:
        """What is wrong at `base`, which is used up."""
        tree = tree_of(base)
        key = frozenset(tree.items()), reached
        if self.runs.scene.living is not None or key not in self.seen:
            promised = as_promised(tree, self.course, reached, self.runs.scene)
            self.seen[key] = [*promised, *self._use(base, reached, ends=ends)]
        return [*self.seen[key]]

    def judge_tree(self, tree: Tree, reached: Reached, *, ends: bool = True) -> list[str]:
        """The same for a state that is not on the disk."""
        key = frozenset(tree.items()), reached
        if key in self.seen:
            return self.seen[key]
        base = self.runs.built(tree)
        try:
            if self.runs.scene.answers is None:
                return self.judge(base, reached, ends=ends)
            reseal(base)
            with of_an_earlier_run():
                return self.judge(base, reached, ends=ends)
        finally:
            shutil.rmtree(base.parent)

    def _use(self, base: Path, reached: Reached, *, ends: bool) -> list[str]:
        do = self.runs.hand(base)
        problems: list[str] = []
        for name, part in (
            ("ask", lambda: self._ask(do, base)),
            ("read", lambda: [] if self.runs.scene.is_damaged else problems_in(do.open())),
            ("go on", lambda: self._go_on(do, base, reached, ends=ends)),
            ("ask in the end", lambda: self._ask(do, base)),
            ("read in the end", lambda: problems_in(do.open())),
            ("do it again", lambda: self._again(do, base)),
            # What another program that lives has staged is its own.
            ("sweep", lambda: _leftovers(do, base) if self.runs.scene.living is None else []),
        ):
            try:
                problems += [f"{name}: {problem}" for problem in part()]
            except Exception:  # noqa: BLE001 - any is a finding
                problems.append(f"cannot {name}: {traceback.format_exc(limit=-6)}")
                break
        do.close()
        return problems

    def _go_on(self, do: Hand, base: Path, reached: Reached, *, ends: bool) -> Iterator[str]:
        # A step that was found done is the work of one who was killed, and may be undone now.
        first = min((reached.steps, *reached.repeated))
        for number, step in [*enumerate([*self.runs.scene.steps, Hand.close])][first:]:
            repeated(step, do, once=number > reached.steps)
        for step in (*self.runs.scene.after, Hand.close):
            step(do)
        end, wanted = files_of(tree_of(base)), self.course.end
        for path in sorted({*end, *wanted} if ends else ()):
            if end.get(path) != wanted.get(path):
                yield f"{path} ends as {end.get(path)!r}, not as {wanted.get(path)!r}"
        yield from (f"{text!r} is nowhere in the end" for text in lost(tree_of(base), self.runs.scene))

    def _ask(self, do: Hand, base: Path) -> Iterator[str]:
        ask = self.runs.scene.answers
        if ask is not None:
            found = ask(do.open())
            plain = base.with_name("plain")
            build(without_caches(tree_of(base)), plain)
            with fsstate.Store(plain / "state", _PROCESS._replace(indexing="never"), types=TYPES) as store:
                wanted = ask(store)
            shutil.rmtree(plain)
            if found != wanted:
                yield f"the answers are {found}, not {wanted}"

    def _again(self, do: Hand, base: Path) -> Iterator[str]:
        before = stats_of(base)
        for step in self.runs.scene.again:
            step(do)
        do.close()
        after = stats_of(base)
        for path in sorted({*before, *after}):
            if before.get(path) != after.get(path):
                yield f"{path} was {before.get(path)}, is {after.get(path)}"


def _leftovers(do: Hand, base: Path) -> list[str]:
    """What those who died had staged, and is there when another has written since and has gone."""
    do.store.collection("others").put("one", 1)
    do.close()
    return [f"left over: {path}" for path in (base / "state/.fsstate/staging").rglob("*")]


class Trial:
    """One order, carried out."""

    def __init__(self, order: Order, place: Path) -> None:
        self.order = order
        self.kills = self.cuts = 0
        self.failures: list[str] = []
        self._random = random.Random(f"{order.seed} {order.hand}")
        self._runs = Runs(ALL_SCENES[order.scene], place, order.plant)
        self._course = course_of(self._runs)
        self._judge = Judge(self._runs, self._course)

    def run(self) -> Verdict:
        if not self.order.plant:
            self._kill()
        if self._runs.scene.living is None:
            course = self._course
            disk = Disk(course.base, course.calls, course.before)
            disk.require_same_as(course.calls[-1].mark, but_for=CACHE)
            self._cut(disk, self.order.cuts)
        return Verdict(self.kills, self.cuts, len(self._judge.seen), self.failures)

    def _kill(self) -> None:
        order = self.order
        kills = kills_of(self._course.calls, len(self._runs.scene.steps), flushes=order.flushes)
        kills = kills[order.hand :: order.hands]
        step = 1 if order.kills is None else max(1, len(kills) // order.kills)
        for kill in kills[order.seed % step :: step]:
            self._kill_at(kill)
        if self._runs.scene.living is None:
            for kill in self._random.sample(kills, min(order.twice, len(kills))):
                self._kill_and_cut(kill)

    def _kill_at(self, kill: int) -> None:
        base = self._runs.fresh()
        with self._runs.living(base):
            alive = _living(base)
            calls = self._killed(base, kill)
            if calls is None:
                return
            problems = self._judge.judge(base, reached(calls))
            problems += ["what lives was touched"] * (alive != _living(base))
        if alive:
            problems += self._when_it_died(base)
        self._fail(f"killed after change {kill}", calls, base, problems)
        shutil.rmtree(base.parent)

    def _kill_and_cut(self, kill: int) -> None:
        """Kill it, let another go on, and cut the power while that does."""
        base = self._runs.fresh()
        before = tree_of(base)
        calls = self._killed(base, kill)
        if calls is None:
            return
        steps = reached(calls).steps
        trace = base.with_suffix(".trace")
        self._runs.run(base, trace, since=steps)
        disk, unsure = Disk(base, list(read_trace(trace)), before), (steps,) if self._runs.scene.is_mended else ()
        self._cut(disk, min(self.order.cuts // 2, _CUTS_IN_WHAT_FOLLOWS), kill, unsure)

    def _killed(self, base: Path, kill: int) -> list[Call] | None:
        """What it did; None where it came to its end this time."""
        trace = base.with_suffix(".trace")
        if self._runs.run(base, trace, kill=kill):
            assert self._runs.scene.is_uneven, f"{self.order.scene} was not killed at {kill}"
            return None
        self.kills += 1
        return list(read_trace(trace))

    def _when_it_died(self, base: Path) -> list[str]:
        with fsstate.Store(base / "state", _PROCESS, types=TYPES, recover=True) as store:
            return [f"not settled: {flight}" for flight in store.in_flight() if flight.held_by is not None]

    def _cut(self, disk: Disk, count: int, kill: int = 0, unsure: tuple[int, ...] = ()) -> None:
        budget = Budget(names=6, data=4, total=6)
        kinds = _MODELS[1:] if self._runs.scene.has_whole_renames else _MODELS
        models = [kind(disk, lambda folder: "/.fsstate" in folder, budget, self._random) for kind in kinds]
        points = [(model, point) for model in models for point in model.points()][self.order.hand :: self.order.hands]
        share = max(1, -(-count // max(1, len(points))))
        for model, point in self._random.sample(points, min(count, len(points))):
            states = model.states(point)
            for tree in self._random.sample(states, min(share, len(states))):
                at = reached(disk.calls[: point + 1])
                at = at._replace(repeated=at.repeated + unsure)
                self.cuts += 1
                tree = self._with_caches(tree, disk.calls[: point + 1])  # noqa: PLW2901
                problems = self._judge.judge_tree(tree, at, ends=not at.repeated)
                what = f"killed after change {kill}, then " if kill else ""
                self._fail(f"{what}cut after call {point} under {model.name}", disk.calls[: point + 1], tree, problems)
                if self.order.plant and self.failures:
                    return

    def _with_caches(self, tree: Tree, calls: Sequence[Call]) -> Tree:
        if self._runs.scene.answers is None:
            return tree
        versions = [call.mark.caches for call in calls if call.kind == "ack"]
        return {**without_caches(tree), **torn(versions, self._random)}

    def _fail(self, what: str, calls: Sequence[Call], left: Path | Tree, problems: Sequence[str]) -> None:
        if not problems:
            return
        shown = [f"  {each.kind} {each.path} {each.new_path} {each.data[:50]!r}" for each in calls]
        tree = left if isinstance(left, dict) else tree_of(left)
        names = [f"  {path} {(data or b'')[-60:]!r}" for path, data in sorted(tree.items())]
        head = f"{self.order.scene}, {what}, {reached(calls)}"
        self.failures.append("\n".join([head, *problems, "its last calls:", *shown[-_SHOWN_CALLS:], "left:", *names]))


def _living(base: Path) -> dict[str, object]:
    """What the other program has in flight, as any write would change it."""
    stats = stats_of(base)
    return {path: stat for path, stat in stats.items() if "/living-" in path and path.endswith(".json")}


def main(directory: Path) -> None:
    """Carry out orders as they come, one after the other."""
    logging.getLogger("fsstate").disabled = True
    os.environ |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    # What is looked at here was built a moment ago, and stands for what was left long before.
    documents._YOUNG = 0  # type: ignore[misc]
    for number in itertools.count():
        try:
            order = Order(*pickle.load(sys.stdin.buffer))  # noqa: S301 - our own parent
        except EOFError:
            return
        place = directory / str(number)
        verdict = Trial(order, place).run()
        shutil.rmtree(place)
        sys.stdout.buffer.write(pickle.dumps(tuple(verdict)))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
