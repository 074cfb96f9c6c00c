"""What a disk may hold after a power cut, given what a process did: two models, and the states that they allow.

A trace is replayed once. It becomes a list of *name changes* (an entry of a directory is set to a file, a directory or
nothing) and, for each file, a list of *data changes* (bytes are written, the length is cut). Each is there from the
call that made it, and *lasts* from the end of the first flush that had to include it. A power cut after some call
leaves what lasts, and of the rest:

`Posix`, the weak model: whatever POSIX does not exclude in its words on fsync, fdatasync and rename.
  - A name lasts once its directory was flushed. To flush a file says nothing about its name; to flush a directory says
    nothing about the directory's own name.
  - Of the names that do not last yet any may be there and any not, in every combination, in whatever order they came.
  - A rename inside one directory is one change. From one directory to another it is two, one in each: the file may
    stand in both, or in neither. So is an exchange: either file may have both names, or one of them none.
  - A write that does not last yet may be whole, missing, cut short, zeros, or zeros at first and data behind. A later
    one may be there without an earlier one: a hole, which reads as zeros. A cut of the length may be missing.

`Ordered`, like ext4 with data=ordered: a journal keeps the order of all name changes, renames are whole, and to flush
anything makes all names last up to the last change that concerns it. Data does not wait for names (delayed
allocation), but a file grows in the order of its writes and shows no zeros: it holds a prefix of what was written.

Not modelled: random bytes in the place of data, lost permissions, damage to what was flushed, failing calls. Where all
states are too many, the extreme ones are taken (all, nothing, all but one, only one) and then a seeded choice.

Sources: Pillai et al., "All File Systems Are Not Created Equal" (ALICE), OSDI'14, sections 3 and 4; Mohan et al.,
"Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing" (CrashMonkey), OSDI'18; fsync(2), rename(2) and
their POSIX.1-2017 pages; ext4(5).
"""

from __future__ import annotations

import itertools
import math
import os
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from tests.crash.recorder import Call

__all__ = ["Budget", "Disk", "Model", "Ordered", "Posix", "Tree", "build", "tree_of"]

# What lies below the base: the bytes of each file, None for each directory.
Tree: TypeAlias = dict[str, bytes | None]

_BEFORE: Final = -1
_NEVER: Final = 1 << 60
_PAGE: Final = 4096


class DataChange:
    """A write of `data` at `offset`, or (None) a cut to `offset` bytes."""

    __slots__ = ("data", "index", "lasts_from", "offset")

    def __init__(self, index: int, offset: int, data: bytes | None) -> None:
        self.index = index
        self.offset = offset
        self.data = data
        self.lasts_from = _NEVER


class File:
    """A file, whatever its names are."""

    __slots__ = ("changes", "options")

    def __init__(self) -> None:
        self.changes: list[DataChange] = []
        # What it may hold, by how many of its changes were made and how many last.
        self.options: dict[tuple[str, int, int], list[bytes]] = {}


class Folder:
    """A directory. `path` is its first one, by which the sampling knows the folders that matter less."""

    __slots__ = ("entries", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        # As they are before any power cut.
        self.entries: dict[str, Node] = {}


Node: TypeAlias = File | Folder


class NameChange:
    """Entries that one call set together (None: removed)."""

    __slots__ = ("index", "lasts_from", "sets", "whole")

    def __init__(self, index: int, whole: int, *sets: tuple[Folder, str, Node | None]) -> None:
        self.index = index
        # Changes with one number come from one call.
        self.whole = whole
        self.sets = sets
        self.lasts_from = _NEVER


class Budget(NamedTuple):
    """How many states to build after one call, at most: of names, of data for each, and in all; and after which calls.

    `points` is the share of the calls; those after which a promise is broken most easily, acknowledgements, all count.
    """

    names: int
    data: int
    total: int
    points: float = 1.0


class Disk:
    """The replayed trace. `root` stands for the directory that was recorded; what was in it `before` lasts."""

    def __init__(self, base: Path, calls: Sequence[Call], before: Tree | None = None) -> None:
        self.base = str(base)
        self.calls = calls
        self.root = Folder("")
        self.files: list[File] = []
        self.names: list[NameChange] = []
        # Of names, with the first flush of whatever a journal would flush them with.
        self.journalled: dict[int, int] = {}
        self.unseen: list[str] = []
        self._open: dict[tuple[int, int], Node] = {}
        self._flushes: dict[tuple[int, int, int], tuple[int, Node]] = {}
        for path, data in sorted((before or {}).items()):
            self._put(path, data)
        for index, call in enumerate(calls):
            step = getattr(self, f"_on_{call.kind}", None)
            if step is not None:
                step(index, call)

    def _put(self, path: str, data: bytes | None) -> None:
        place = self._parent(0, f"{self.base}/{path}", None)
        assert place is not None
        node: Node = Folder(path)
        if data is not None:
            node = File()
            node.changes.append(DataChange(_BEFORE, 0, data))
            _last(_BEFORE, node.changes)
        self.journalled[len(self.names)] = _BEFORE
        self._set(_BEFORE, (*place, node))
        _last(_BEFORE, self.names[-1:])

    # -- paths

    def _parent(self, call_pid: int, path: str, dir_fd: int | None) -> tuple[Folder, str] | None:
        """The folder and name that a path means; None when it lies elsewhere."""
        if os.path.isabs(path):
            if not path.startswith(self.base + "/"):
                return None
            node: Node | None = self.root
            path = path[len(self.base) + 1 :]
        else:
            node = self._open.get((call_pid, -1 if dir_fd is None else dir_fd))
        *above, name = [part for part in path.split("/") if part not in ("", ".")] or ["."]
        for part in above:
            node = node.entries.get(part) if isinstance(node, Folder) else None
        if node is None:
            return None
        assert isinstance(node, Folder), path
        assert ".." not in (*above, name), path
        return node, name

    def _lookup(self, call: Call) -> Node | None:
        if call.path == self.base:
            return self.root
        found = self._parent(call.pid, call.path, call.dir_fd)
        if found is None:
            return None
        return found[0] if found[1] == "." else found[0].entries.get(found[1])

    def _set(self, index: int, *sets: tuple[Folder, str, Node | None]) -> None:
        for folder, name, node in sets:
            if node is None:
                folder.entries.pop(name, None)
            else:
                folder.entries[name] = node
        if len(sets) == 2 and sets[0][0] is sets[1][0]:
            self.names.append(NameChange(index, len(self.names), *sets))
            return
        whole = len(self.names)
        self.names += [NameChange(index, whole, one) for one in sets]

    # -- one method for each kind of call

    def _on_open(self, index: int, call: Call) -> None:
        node = self._lookup(call)
        if node is None and call.flags & os.O_CREAT:
            place = self._parent(call.pid, call.path, call.dir_fd)
            if place is not None:
                node = File()
                self.files.append(node)
                self._set(index, (*place, node))
        elif isinstance(node, File) and call.flags & os.O_TRUNC and _content(node.changes):
            node.changes.append(DataChange(index, 0, None))
        if call.flags & (os.O_SYNC | os.O_DSYNC) and isinstance(node, File):
            self.unseen.append(f"O_SYNC, which the model does not know: {call.path}")
        self._open.pop((call.pid, call.fd), None)
        if node is not None:
            self._open[call.pid, call.fd] = node

    def _on_close(self, _: int, call: Call) -> None:
        self._open.pop((call.pid, call.fd), None)

    def _on_dup(self, _: int, call: Call) -> None:
        node = self._open.get((call.pid, call.fd))
        if node is not None:
            self._open[call.pid, call.offset] = node

    def _on_fork(self, _: int, call: Call) -> None:
        self._open.update({(call.pid, fd): node for (pid, fd), node in self._open.items() if pid == call.offset})

    def _on_write(self, index: int, call: Call) -> None:
        node = self._open.get((call.pid, call.fd))
        if isinstance(node, File) and call.data:
            node.changes.append(DataChange(index, call.offset, call.data))

    def _on_truncate(self, index: int, call: Call) -> None:
        node = self._open.get((call.pid, call.fd))
        if isinstance(node, File):
            node.changes.append(DataChange(index, call.offset, None))

    def _on_mkdir(self, index: int, call: Call) -> None:
        place = self._parent(call.pid, call.path, call.dir_fd)
        if place is not None:
            folder, name = place
            self._set(index, (folder, name, Folder(f"{folder.path}/{name}".lstrip("/"))))

    def _on_unlink(self, index: int, call: Call) -> None:
        place = self._parent(call.pid, call.path, call.dir_fd)
        if place is not None:
            self._set(index, (*place, None))

    _on_rmdir = _on_unlink

    def _on_rename(self, index: int, call: Call) -> None:
        old = self._parent(call.pid, call.path, call.dir_fd)
        new = self._parent(call.pid, call.new_path, call.new_dir_fd)
        if old is None and new is None:
            return
        assert old is not None, call
        assert new is not None, call
        self._set(index, (*new, old[0].entries[old[1]]), (*old, None))

    def _on_exchange(self, index: int, call: Call) -> None:
        old = self._parent(call.pid, call.path, call.dir_fd)
        new = self._parent(call.pid, call.new_path, call.new_dir_fd)
        assert old is not None, call
        assert new is not None, call
        self._set(index, (*new, old[0].entries[old[1]]), (*old, new[0].entries[new[1]]))

    def _on_link(self, index: int, call: Call) -> None:
        old = self._parent(call.pid, call.path, call.dir_fd)
        new = self._parent(call.pid, call.new_path, call.new_dir_fd)
        if old is not None and new is not None:
            self._set(index, (*new, old[0].entries[old[1]]))

    def _on_flush(self, index: int, call: Call) -> None:
        node = self._open.get((call.pid, call.fd))
        if node is not None:
            self._flushes[call.pid, call.fd, call.offset] = (index, node)

    def _on_flushed(self, index: int, call: Call) -> None:
        begin, node = self._flushes.pop((call.pid, call.fd, call.offset), (0, None))
        if node is None:
            return
        if isinstance(node, File):
            _last(index, (change for change in node.changes if change.index < begin))
        else:
            _last(index, (change for change in self.names if change.index < begin and change.sets[0][0] is node))
        concerned = [n for n, change in enumerate(self.names) if change.index < begin and _concerns(change, node)]
        for n in range(concerned[-1] + 1 if concerned else 0):
            self.journalled.setdefault(n, index)

    def _on_settle(self, index: int, _: Call) -> None:
        for file in self.files:
            _last(index, file.changes)
        _last(index, self.names)
        for n in range(len(self.names)):
            self.journalled.setdefault(n, index)

    def _on_unseen(self, _: int, call: Call) -> None:
        self.unseen.append(call.path)

    # -- what it says

    def points(self) -> Iterator[int]:
        """The calls after which a power cut may leave what it could not leave before, or breaks another promise."""
        skipped = {"open", "close", "dup", "fork", "flush", "flushed"}
        made = {change.index for change in self.names} | {c.index for file in self.files for c in file.changes}
        begun = False
        for index, call in enumerate(self.calls):
            begun = begun or call.kind == "begin"
            if begun and (index in made or call.kind not in skipped):
                yield index

    def require_same_as(self, real: Tree, but_for: str | None = None) -> None:
        """Raise AssertionError when the trace does not explain what lies on the disk, or not all was seen.

        `but_for`: a folder that does not matter.
        """
        assert not self.unseen, f"calls that were not recorded: {self.unseen}"
        live = _tree(self.root, lambda folder: folder.entries, lambda file: _content(file.changes))
        different = {path for path, _ in live.items() ^ real.items() if but_for is None or not path.startswith(but_for)}
        assert not different, f"the trace does not explain {sorted(different)}"


def _last(index: int, changes: Iterable[NameChange | DataChange]) -> None:
    for change in changes:
        change.lasts_from = min(change.lasts_from, index)


def _concerns(change: NameChange, node: Node) -> bool:
    return any(folder is node or entry is node for folder, _, entry in change.sets)


def _content(changes: Iterable[DataChange], start: bytes = b"") -> bytes:
    content = bytearray(start)
    for change in changes:
        _apply(content, change.offset, change.data)
    return bytes(content)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _tree(root: Folder, entries: Callable[[Folder], dict[str, Node]], data: Callable[[File], bytes]) -> Tree:
    tree: Tree = {}
    waiting = [("", root)]
    while waiting:
        path, folder = waiting.pop()
        for name, node in entries(folder).items():
            below = f"{path}{name}"
            if isinstance(node, File):
                tree[below] = data(node)
            elif path.count("/") < 20:
                tree[below] = None
                waiting.append((f"{below}/", node))
    return tree


class Model(ABC):
    """Which states a power cut after a call may leave. Names in `quiet` folders are tried together, not one by one."""

    name: str

    def __init__(self, disk: Disk, quiet: Callable[[str], bool], budget: Budget, random: random.Random) -> None:
        self.disk = disk
        self._quiet = quiet
        self._budget = budget
        self._random = random

    def points(self) -> Iterator[int]:
        """The calls to cut the power after."""
        for point in self.disk.points():
            if self.disk.calls[point].kind == "ack" or self._random.random() < self._budget.points:
                yield point

    def states(self, point: int) -> list[Tree]:
        """The states after call number `point`; different ones."""
        built: list[Tree] = []
        for entries in self._namespaces(point):
            files = self._reachable(entries)
            options = {file: self._contents(file, point, quiet=quiet) for file, quiet in files.items()}
            for contents in self._choose(list(options.values())):
                held = dict(zip(options, contents, strict=True))
                built.append(_tree(self.disk.root, lambda folder: entries.get(folder, {}), held.__getitem__))  # noqa: B023
        distinct = list({frozenset(tree.items()): tree for tree in built}.values())
        if len(distinct) <= self._budget.total:
            return distinct
        sure = self._budget.total // 2
        return distinct[:sure] + self._random.sample(distinct[sure:], self._budget.total - sure)

    @abstractmethod
    def _namespaces(self, point: int) -> Iterator[dict[Folder, dict[str, Node]]]:
        """Which names may be there, the extreme cases first."""

    @abstractmethod
    def _made(self, file: File, point: int) -> list[bytes]:
        """What a file may hold."""

    def _reachable(self, entries: dict[Folder, dict[str, Node]]) -> dict[File, bool]:
        """The files that have a name, and whether all their names are in quiet folders."""
        found: dict[File, bool] = {}
        waiting, seen = [self.disk.root], {self.disk.root}
        while waiting:
            folder = waiting.pop()
            quiet = self._quiet(folder.path)
            for node in entries.get(folder, {}).values():
                if isinstance(node, File):
                    found[node] = found.get(node, True) and quiet
                elif node not in seen:
                    seen.add(node)
                    waiting.append(node)
        return found

    def _contents(self, file: File, point: int, *, quiet: bool) -> list[bytes]:
        made = sum(change.index <= point for change in file.changes)
        lasting = sum(change.lasts_from <= point for change in file.changes)
        key = (self.name, made, lasting)
        if key not in file.options:
            file.options[key] = list(dict.fromkeys(self._made(file, point)))
        found = file.options[key]
        return [self._random.choice(found)] if quiet else found

    def _choose(self, options: list[list[bytes]]) -> Iterator[tuple[bytes, ...]]:
        """Combinations of what each file may hold: all of them, or the extreme ones and some others."""
        if math.prod(map(len, options)) <= self._budget.data:
            yield from itertools.product(*options)
            return
        # The first of each is all of its data, the second is none.
        whole = [found[0] for found in options]
        yield tuple(whole)
        yield tuple(found[min(1, len(found) - 1)] for found in options)
        single = [(n, content) for n, found in enumerate(options) for content in found[1:]]
        for n, content in self._random.sample(single, min(len(single), self._budget.data // 2)):
            yield (*whole[:n], content, *whole[n + 1 :])
        for _ in range(self._budget.data // 2):
            yield tuple(self._random.choice(found) for found in options)


def _apply_names(changes: Iterable[NameChange]) -> dict[Folder, dict[str, Node]]:
    entries: dict[Folder, dict[str, Node]] = {}
    for change in changes:
        for folder, name, node in change.sets:
            below = entries.setdefault(folder, {})
            if node is None:
                below.pop(name, None)
            else:
                below[name] = node
    return entries


class Posix(Model):
    """The weak model."""

    name = "posix"

    def _namespaces(self, point: int) -> Iterator[dict[Folder, dict[str, Node]]]:
        made = [change for change in self.disk.names if change.index <= point]
        for chosen in self._subsets(self._units([change for change in made if change.lasts_from > point])):
            yield _apply_names(change for change in made if change.lasts_from <= point or change in chosen)

    def _units(self, pending: list[NameChange]) -> list[list[NameChange]]:
        units: list[list[NameChange]] = []
        quiet: dict[Folder, list[NameChange]] = {}
        for change in pending:
            folder = change.sets[0][0]
            if not self._quiet(folder.path):
                units.append([change])
            elif folder in quiet:
                quiet[folder].append(change)
            else:
                quiet[folder] = [change]
                units.append(quiet[folder])
        return units

    def _subsets(self, units: list[list[NameChange]]) -> Iterator[set[NameChange]]:
        numbers = range(len(units))
        if 2 ** len(units) <= self._budget.names:
            choices: Iterable[Iterable[int]] = (
                chosen for size in range(len(units), -1, -1) for chosen in itertools.combinations(numbers, size)
            )
        else:
            choices = itertools.chain([numbers, []], self._near_extremes(len(units)))
        for chosen in choices:
            yield {change for n in chosen for change in units[n]}
        everything = [change for unit in units for change in unit]
        for _ in range(self._budget.names // 4 if len(everything) > len(units) else 0):
            yield {change for change in everything if self._random.random() < 0.5}

    def _near_extremes(self, count: int) -> Iterator[list[int]]:
        near = [[n for n in range(count) if (n == one) == only] for one in range(count) for only in (False, True)]
        yield from self._random.sample(near, min(len(near), self._budget.names // 2))
        for _ in range(self._budget.names // 2):
            odds = self._random.choice((0.2, 0.5, 0.8))
            yield [n for n in range(count) if self._random.random() < odds]

    def _made(self, file: File, point: int) -> list[bytes]:
        made = [change for change in file.changes if change.index <= point]
        lasting = max((n + 1 for n, change in enumerate(made) if change.lasts_from <= point), default=0)
        start, pending = _content(made[:lasting]), made[lasting:]
        return [_torn(start, fates) for fates in self._fates([_fates_of(change) for change in pending])]

    def _fates(self, fates: list[list[_Fate]]) -> Iterator[tuple[_Fate, ...]]:
        whole = tuple(each[0] for each in fates)
        nothing = tuple(each[1] for each in fates)
        yield whole
        yield nothing
        if math.prod(map(len, fates)) <= self._budget.data:
            yield from itertools.product(*fates)
            return
        for n, each in enumerate(fates):
            for fate in each[2:]:
                yield (*whole[:n], fate, *nothing[n + 1 :])
        for _ in range(self._budget.data):
            yield tuple(self._random.choice(each) for each in fates)


class _Fate(NamedTuple):
    """What a change left: bytes at an offset, a length at least, or a cut (data None)."""

    offset: int
    data: bytes | None
    length: int


def _fates_of(change: DataChange) -> list[_Fate]:
    offset, data = change.offset, change.data
    nothing = _Fate(0, b"", 0)
    if data is None:
        return [_Fate(offset, None, offset), nothing]
    end = offset + len(data)
    fates = [_Fate(offset, data, end), nothing, _Fate(0, b"", end)]
    if len(data) > 1:
        pages = len(data) - end % _PAGE if 0 < end % _PAGE < len(data) else 0
        for cut in {len(data) // 2, pages or 1, len(data) - 1}:
            fates += [
                _Fate(offset, data[:cut], offset + cut),
                _Fate(offset, data[:cut], end),
                _Fate(offset + cut, data[cut:], end),
            ]
    return fates


def _torn(start: bytes, fates: Iterable[_Fate]) -> bytes:
    content = bytearray(start)
    for offset, data, length in fates:
        if data is None or data:
            _apply(content, offset, data)
        if len(content) < length:
            content.extend(bytes(length - len(content)))
    return bytes(content)


class Ordered(Model):
    """The model with a journal, like ext4's."""

    name = "ordered"

    def _namespaces(self, point: int) -> Iterator[dict[Folder, dict[str, Node]]]:
        names = self.disk.names
        made = sum(change.index <= point for change in names)
        lasting = max((n + 1 for n in range(made) if self.disk.journalled.get(n, _NEVER) <= point), default=0)
        ends = [n for n in range(made, lasting - 1, -1) if n == len(names) or names[n].whole == n]
        kept = self._budget.names
        for end in ends if len(ends) <= kept else [*ends[: kept // 2], ends[-1], *self._random.sample(ends, kept // 2)]:
            yield _apply_names(names[:end])

    def _made(self, file: File, point: int) -> list[bytes]:
        made = [change for change in file.changes if change.index <= point]
        lasting = max((n + 1 for n, change in enumerate(made) if change.lasts_from <= point), default=0)
        found = [_content(made), _content(made[:lasting])]
        for n in range(lasting, len(made)):
            before, data = _content(made[:n]), made[n].data
            found.append(before)
            if data:
                found.append(_torn(before, [_Fate(made[n].offset, data[: len(data) // 2], 0)]))
        return found


def tree_of(path: Path) -> Tree:
    """What lies below a directory."""
    tree: Tree = {}
    for above, folders, files in os.walk(path):
        below = os.path.relpath(above, path)
        start = "" if below == "." else f"{below}/"
        tree.update({start + name: None for name in folders})
        tree.update({start + name: (Path(above) / name).read_bytes() for name in files})
    return tree


_LONG_AGO: Final = 1_700_000_000_000_000_000


def build(tree: Tree, path: Path) -> None:
    """Make a directory that holds just this."""
    path.mkdir(mode=0o700, parents=True)
    for below, data in sorted(tree.items()):
        target = f"{path}/{below}"
        if data is None:
            os.mkdir(target, 0o700)
        else:
            with open(target, "wb", opener=_private) as file:
                file.write(data)
            # Who comes after a power cut finds nothing that somebody may be writing still.
            os.utime(target, ns=(_LONG_AGO, _LONG_AGO))


def _private(path: Any, flags: int) -> int:
    return os.open(path, flags, 0o600)
