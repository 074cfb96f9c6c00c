"""Places and systems that refuse: every refusal is a clear error, nothing is lost, and work goes on when it can."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsstate.backends.base import JSON, LOG, MARKDOWN, Blob, Ref
from fsstate.backends.files import FileBackend
from fsstate.errors import CorruptRecordError, NewerFormatError, StorageError, UnsafePathError
from fsstate.options import StoreOptions
from tests.files.processes import run

DOC = Ref("agents", "a", JSON)
OWNER = Ref("sessions", "s", JSON)
LOG_REF = Ref("audit", "t", LOG)
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def save(backend: FileBackend, ref: Ref = DOC, data: bytes = b"{}") -> Blob | None:
    return backend.change(ref, lambda _: data)


def append(backend: FileBackend, data: bytes = b"{}") -> range:
    return backend.append(LOG_REF, lambda _: [data])


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# -- something else in a record's place


def make_symlink(path: Path) -> None:
    target = path.parents[2] / "outside" / path.name
    target.parent.mkdir()
    target.write_bytes(b"outside")
    path.symlink_to(target)


def make_dangling(path: Path) -> None:
    path.symlink_to("/nonexistent/place")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        os.chdir(path.parent)
        bound.bind(path.name)


def make_directory(path: Path) -> None:
    path.mkdir()


INTRUDERS: list[Callable[[Path], object]] = [make_symlink, make_dangling, make_directory, os.mkfifo, make_socket]


@pytest.fixture(params=INTRUDERS, ids=["symlink", "dangling", "directory", "fifo", "socket"])
def intrude(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], object]:
    monkeypatch.chdir("/")
    intruder: Callable[[Path], object] = request.param
    return intruder


def test_an_intruder_in_a_documents_place_is_refused(
    backend: FileBackend, root: Path, intrude: Callable[[Path], object]
) -> None:
    (root / "agents").mkdir(parents=True)
    intrude(root / "agents" / "a.json")
    kind = os.lstat(root / "agents" / "a.json").st_mode
    attempts: list[Callable[[], object]] = [
        lambda: backend.read(DOC),
        lambda: save(backend),
        lambda: backend.change(DOC, lambda _: None),
    ]
    for attempt in attempts:
        with pytest.raises(UnsafePathError, match=r"agents/a\.json"):
            attempt()
    outcome = backend.change_many([(DOC, lambda _: b"1"), (Ref("agents", "b", JSON), lambda _: b"2")])
    assert isinstance(outcome[0], UnsafePathError)
    assert isinstance(outcome[1], Blob)
    assert os.lstat(root / "agents" / "a.json").st_mode == kind
    assert backend.names("agents", JSON) == ["b"]
    assert not (root.parent / "outside").exists() or (root.parent / "outside" / "a.json").read_bytes() == b"outside"


def test_an_intruder_in_a_logs_place_is_refused(
    backend: FileBackend, root: Path, intrude: Callable[[Path], object]
) -> None:
    (root / "audit").mkdir(parents=True)
    intrude(root / "audit" / "t.jsonl")
    attempts: list[Callable[[], object]] = [
        lambda: append(backend),
        lambda: list(backend.entries(LOG_REF)),
        lambda: list(backend.entries_backwards(LOG_REF)),
        lambda: backend.trim(LOG_REF, 2),
        lambda: backend.delete_log(LOG_REF),
        lambda: backend.claim_log(LOG_REF).__enter__(),
        lambda: backend.is_claimed(LOG_REF),
    ]
    for attempt in attempts:
        with pytest.raises(UnsafePathError, match=r"audit/t\.jsonl"):
            attempt()
    assert os.path.lexists(root / "audit" / "t.jsonl")


def write_to(backend: FileBackend, place: str) -> None:
    if place.startswith("sessions"):
        backend.append(Ref(place, "m", LOG), lambda _: [b"{}"], owner=OWNER)
    else:
        save(backend)


@pytest.mark.parametrize("place", ["agents", "sessions/s", ".fsstate", ".fsstate/locks", ".fsstate/staging"])
def test_a_symlink_in_a_directorys_place_is_refused(root: Path, place: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).symlink_to(outside)
    if place.startswith("sessions"):
        (root / "sessions" / "s.json").write_bytes(b"{}")
    with pytest.raises(UnsafePathError, match=place), contextlib.closing(FileBackend(root)) as backend:
        write_to(backend, place)
    assert list(outside.iterdir()) == []


def test_a_directory_that_becomes_a_symlink_to_itself_elsewhere_is_refused(backend: FileBackend, root: Path) -> None:
    save(backend)
    os.rename(root / "agents", root.parent / "moved")
    (root / "agents").symlink_to(root.parent / "moved")
    with pytest.raises(UnsafePathError):
        save(backend, data=b"new")
    assert (root.parent / "moved" / "a.json").read_bytes() == b"{}"


def test_a_file_in_a_directorys_place(backend: FileBackend, root: Path) -> None:
    root.mkdir()
    (root / "agents").write_bytes(b"mine")
    assert backend.read(DOC) is None
    assert backend.names("agents", JSON) == []
    with pytest.raises(UnsafePathError, match="agents"):
        save(backend)
    assert (root / "agents").read_bytes() == b"mine"


def test_a_symlink_in_a_locks_place_is_refused(backend: FileBackend, root: Path) -> None:
    save(backend, Ref("agents", "b", JSON))
    victim = root.parent / "victim"
    (root / ".fsstate" / "locks" / "agents+a.json.lock").symlink_to(victim)
    with pytest.raises(StorageError):
        save(backend)
    assert not victim.exists()


def test_a_file_as_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        FileBackend(tmp_path / "file")


# -- the root


def test_the_root_may_be_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    backend = FileBackend(tmp_path / "link")
    save(backend)
    backend.close()
    assert (tmp_path / "real" / "agents" / "a.json").exists()


def test_a_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backend = FileBackend("deep/state/")
    monkeypatch.chdir("/")
    save(backend)
    append(backend)
    backend.close()
    assert (tmp_path / "deep" / "state" / "agents" / "a.json").exists()


def test_a_root_that_is_removed_and_made_again(backend: FileBackend, root: Path) -> None:
    for _ in range(2):
        save(backend)
        append(backend)
        subprocess.run(["rm", "-r", root], check=True)
        assert backend.read(DOC) is None
        assert list(backend.entries(LOG_REF)) == []
    (root / "agents").mkdir(parents=True)
    (root / "agents" / "a.json").write_bytes(b"other")
    assert save(backend, data=b"x") is not None
    assert (root / "agents" / "a.json").read_bytes() == b"x"
    assert append(backend) == range(1, 2)


@pytest.mark.parametrize(
    ("text", "error"), [('{"format": 2}', NewerFormatError), ("{}", CorruptRecordError), ("", CorruptRecordError)]
)
def test_a_store_of_another_format_is_refused_also_after_opening(
    backend: FileBackend, root: Path, text: str, error: type[Exception]
) -> None:
    (root / ".fsstate").mkdir(parents=True)
    (root / ".fsstate" / "store.json").write_text(text)
    with pytest.raises(error):
        FileBackend(root)
    for _ in range(2):
        with pytest.raises(error):
            save(backend)
        with pytest.raises(error):
            append(backend)
    assert not (root / "agents" / "a.json").exists()


# -- modes, links, names


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(root: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        backend = FileBackend(root, StoreOptions(file_mode=0o640, directory_mode=0o750))
        save(backend)
        append(backend)
        backend.close()
        private = FileBackend(root.parent / "private")
        save(private)
        append(private)
        private.close()
    finally:
        os.umask(before)
    for path, expected in (("agents/a.json", 0o640), ("audit/t.jsonl", 0o640), ("agents", 0o750), (".", 0o750)):
        assert mode(root / path) == expected, path
    for path, expected in (("agents/a.json", 0o600), ("audit/t.jsonl", 0o600), ("agents", 0o700), (".", 0o700)):
        assert mode(root.parent / "private" / path) == expected, path


def test_a_replaced_file_keeps_its_mode_and_loses_its_hard_links(backend: FileBackend, root: Path) -> None:
    save(backend)
    path = root / "agents" / "a.json"
    path.chmod(0o664)
    os.link(path, root.parent / "link")
    save(backend, data=b"new")
    assert mode(path) == 0o664
    assert (root.parent / "link").read_bytes() == b"{}"


@is_root
def test_a_replaced_file_keeps_its_owner(backend: FileBackend, root: Path) -> None:
    save(backend)
    path = root / "agents" / "a.json"
    os.chown(path, 65534, 65534)
    save(backend, data=b"new")
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (65534, 65534, 0o600)


def test_names_at_the_length_limit(backend: FileBackend) -> None:
    name = "ü" * 100
    assert save(backend, Ref("agents", name, JSON)) is not None
    assert save(backend, Ref("agents", name, MARKDOWN)) is not None
    assert backend.append(Ref("agents", name, LOG), lambda _: [b"{}"]) == range(1, 2)
    assert backend.names("agents", JSON) == [name]
    with pytest.raises(StorageError, match="too long"):
        save(backend, Ref("agents", "x" * 255, JSON))


# -- systems that refuse

AS_NOBODY = """
import ctypes, pathlib
# What is loaded at the first write may not be readable to others.
import fsstate.backends.files.guarding
os.setgid(65534); os.setuid(65534)
b = FileBackend(root)
"""


@pytest.fixture
def public_root() -> Iterator[Path]:
    """A store's directory to which every user finds the way: none does to those that pytest makes."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "state"
        root.mkdir()
        for directory in (root, root.parent):
            directory.chmod(0o755)
        yield root


@is_root
def test_no_permission_is_an_error_and_not_absence(public_root: Path) -> None:
    root, backend = public_root, FileBackend(public_root)
    save(backend)
    append(backend)
    code = (
        AS_NOBODY
        + """
attempts = [
    lambda: b.change(Ref("agents", "a", JSON), lambda x: b"[]"),
    lambda: b.append(Ref("audit", "t", LOG), lambda _: [b"{}"]),
    lambda: b.read(Ref("agents", "a", JSON)),
    lambda: b.names("agents", JSON),
    lambda: list(b.entries(Ref("audit", "t", LOG))),
    lambda: b.log_stamp(Ref("audit", "t", LOG)),
    lambda: b.delete_with(Ref("agents", "a", JSON), "agents/a", lambda: True),
]
for attempt in attempts:
    try:
        print(attempt())
    except StorageError as error:
        print(error.errno, error)
"""
    )
    (root / ".fsstate").chmod(0o755)
    (root / ".fsstate" / "store.json").chmod(0o644)
    out = run(code, root).splitlines()
    assert [line.split()[0] for line in out] == [str(errno.EACCES)] * 7, out
    assert backend.read(DOC) is not None
    backend.close()


def mount(path: Path, options: str) -> None:
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("cannot mount here")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    mount(path, "size=256k")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@is_root
def test_a_read_only_file_system_is_fully_readable(small_disk: Path) -> None:
    backend = FileBackend(small_disk / "state")
    save(backend)
    append(backend)
    backend.close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    backend = FileBackend(small_disk / "state")
    assert backend.read(DOC) is not None
    assert len(list(backend.entries(LOG_REF))) == len(list(backend.entries_backwards(LOG_REF))) == 1
    assert backend.names("agents", JSON) == ["a"]
    assert not backend.is_locked(DOC)
    assert not backend.is_claimed(LOG_REF)
    attempts: list[Callable[[], object]] = [
        lambda: save(backend),
        lambda: append(backend),
        lambda: backend.trim(LOG_REF, 2),
        lambda: backend.lock(DOC),
        lambda: backend.delete_log(LOG_REF),
        lambda: backend.discard("agents"),
    ]
    for attempt in attempts:
        with pytest.raises(StorageError) as caught:
            attempt()
        assert caught.value.errno == errno.EROFS
    backend.close()


@is_root
def test_a_full_disk_leaves_everything_as_it_was(small_disk: Path) -> None:
    backend = FileBackend(small_disk / "state")
    save(backend)
    append(backend)
    big = b"x" * 100_000
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    os.truncate(small_disk / "filler", (small_disk / "filler").stat().st_size - 8 * 4096)
    attempts: list[Callable[[], object]] = [
        lambda: save(backend, data=big),
        lambda: save(backend, Ref("other", "a", JSON), big),
        lambda: append(backend, b'{"x":"%s"}' % big),
    ]
    for attempt in attempts:
        with pytest.raises(StorageError, match="space left") as caught:
            attempt()
        assert caught.value.errno == errno.ENOSPC
    outcomes = backend.change_many([(DOC, lambda _: big), (Ref("agents", "b", JSON), lambda _: b"small")])
    assert isinstance(outcomes[0], StorageError)
    assert isinstance(outcomes[1], Blob)
    assert backend.read(DOC).data == b"{}"  # type: ignore[union-attr]
    assert len(list(backend.entries(LOG_REF))) == 1
    staged = [path for path in (small_disk / "state" / ".fsstate" / "staging").rglob("*") if path.is_file()]
    assert staged == []
    (small_disk / "filler").unlink()
    assert save(backend, data=big) is not None
    assert append(backend) == range(2, 3)
    backend.close()


LIMITED = """
import resource
b, doc, log = FileBackend(root), Ref("agents", "a", JSON), Ref("audit", "t", LOG)
b.change(doc, lambda _: b"1"); b.append(log, lambda _: [b"{}"])
"""


KEPT = """
import resource, signal
import fsstate
from fsstate.record_types import RecordType
runs = fsstate.Store(root).records(RecordType("plans", dict, keep=3))
for name in "abc":
    runs.create(name)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    runs.create("d", title="x" * 50_000)
except StorageError:
    print(*runs.ids())
"""


def test_an_addition_that_the_disk_refuses_costs_no_record_its_place(root: Path) -> None:
    assert run(KEPT, root).split() == ["a", "b", "c"]


def test_no_descriptors_left_is_an_error_and_not_absence(root: Path) -> None:
    code = (
        LIMITED
        + """
fresh, told, seen = Ref("agents", "fresh", JSON), set(), []
refs = [Ref("agents", f"m{n}", JSON) for n in range(40)]
taken = []
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
b.change(fresh, lambda _: b"1")
while True:
    try:
        taken.append(os.open("/", os.O_RDONLY))
    except OSError:
        break
while taken:
    for what in (lambda: b.change(fresh, lambda blob: blob.data + b"0" if blob else 1 / 0),
                 lambda: b.read(doc).data,
                 lambda: b.append(log, lambda last: [b"{}"] if last else 1 / 0),
                 lambda: b.names("agents", JSON) or 1 / 0,
                 lambda: b.change_many([(ref, lambda _: b"2") for ref in refs]) and None):
        try:
            seen.append(what())
        except StorageError as error:
            told.add(error.errno)
    os.close(taken.pop())
assert b.change(doc, lambda blob: blob.data + b"0").data == b"10"
print(told, len(list(b.entries(log))) > 1)
b.close()
"""
    )
    assert run(code, root).split() == ["{24}", "True"]


def test_a_file_size_limit_leaves_everything_as_it_was(root: Path) -> None:
    code = (
        LIMITED
        + """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, resource.RLIM_INFINITY))
big = b'{"x":"%s"}' % (b"x" * 20_000)
for attempt in (lambda: b.change(doc, lambda _: big), lambda: b.append(log, lambda _: [big])):
    try:
        attempt()
    except StorageError as error:
        print(error.errno)
assert b.read(doc).data == b"1" and len(list(b.entries(log))) == 1
assert b.append(log, lambda _: [b"{}"]) == range(2, 3)
b.close()
"""
    )
    assert run(code, root).split() == [str(errno.EFBIG)] * 2
