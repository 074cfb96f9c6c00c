"""Log files as crashes, editors, merges and other processes leave them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import resource
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.backends.base import LOG, BadLine, LogLine, Ref
from fsstate.backends.files import FileBackend, log_writing
from fsstate.backends.files.log_lines import LARGEST_SEQ, entries, entries_backwards
from fsstate.backends.files.tree import write_all
from fsstate.errors import StorageError
from tests.files.processes import run

REF = Ref("audit", "t", LOG)


@pytest.fixture
def path(root: Path) -> Path:
    (root / "audit").mkdir(parents=True)
    return root / "audit" / "t.jsonl"


def line(seq: int, text: str = "x") -> bytes:
    return b'{"seq":%d,"text":"%s"}\n' % (seq, text.encode())


def append(backend: FileBackend, text: str = "new") -> int:
    return backend.append(REF, lambda _: [b'{"text":"%s"}' % text.encode()])[0]


def seqs(backend: FileBackend, after: int = 0) -> list[int | None]:
    """The seqs of the entries; None for a bad line."""
    return [found.seq if isinstance(found, LogLine) else None for found in backend.entries(REF, after=after)]


THREE = line(1) + line(2) + line(3)


def test_a_tail_torn_at_any_byte_is_reported_and_cut_off(root: Path, path: Path) -> None:
    last = line(4, "ü€")
    for cut in range(len(last) - 1):
        path.write_bytes(THREE + last[:cut])
        # Some time ago: nobody is about to go on with it.
        os.utime(path, (0, 0))
        # Another process: one that gave out seq 4 before would not do so again.
        with contextlib.closing(FileBackend(root)) as backend:
            assert seqs(backend) == [1, 2, 3, None] if cut else [1, 2, 3]
            backwards = list(backend.entries_backwards(REF))
            assert backwards == list(backend.entries(REF, after=0))[::-1] or cut == 0
            assert append(backend) == 4
        assert path.read_bytes() == THREE + line(4, "new")


@pytest.mark.parametrize("zeros", [1, 20, 5000, 700_000])
def test_a_tail_of_zeros_is_reported_and_cut_off(backend: FileBackend, path: Path, zeros: int) -> None:
    path.write_bytes(THREE + bytes(zeros))
    assert seqs(backend) == [1, 2, 3, None]
    assert append(backend) == 4
    assert path.read_bytes() == THREE + line(4, "new")


def test_a_torn_line_with_zeros_is_cut_off_whole(backend: FileBackend, path: Path) -> None:
    path.write_bytes(THREE + line(4)[:-5] + bytes(100))
    assert seqs(backend) == [1, 2, 3, None]
    append(backend)
    assert path.read_bytes() == THREE + line(4, "new")


@pytest.mark.parametrize("zeros", [bytes(1), bytes(20) + line(4)])
def test_zeros_in_a_newlines_place_leave_the_entry(backend: FileBackend, path: Path, zeros: bytes) -> None:
    # An editor left no newline, and the power went when the next append had added one.
    path.write_bytes(THREE[:-1] + zeros)
    assert seqs(backend) == [1, 2, 3, None]
    assert append(backend) == 4
    assert path.read_bytes() == THREE + line(4, "new")


def test_zeros_that_swallowed_a_newline_take_the_last_line_along(backend: FileBackend, path: Path) -> None:
    path.write_bytes(THREE + bytes(40) + line(5))
    assert seqs(backend) == [1, 2, 3, None]
    assert append(backend) == 4


def test_lines_behind_zeros_were_not_acknowledged_and_are_kept_aside(
    backend: FileBackend, path: Path, root: Path
) -> None:
    behind = bytes(40) + b"\n" + line(5)
    path.write_bytes(THREE + behind)
    assert seqs(backend) == [1, 2, 3, None]
    assert append(backend) == 4
    assert path.read_bytes() == THREE + line(4, "new")
    kept = next((root / ".fsstate" / "quarantine").iterdir())
    assert kept.read_bytes() == behind


def test_zeros_far_from_the_end_are_damage_and_stay(backend: FileBackend, path: Path) -> None:
    data = line(1) + b"a\0b\n" + b"".join(line(seq, "x" * 1000) for seq in range(2, 1302))
    path.write_bytes(data)
    assert seqs(backend)[:3] == [1, None, 2]
    assert append(backend) == 1302
    assert path.read_bytes() == data + line(1302, "new")


def test_what_is_cut_off_is_logged(backend: FileBackend, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_bytes(THREE + b'{"seq":4,"te')
    append(backend)
    assert "removed 12 bytes" in caplog.text
    assert '{"seq":4,"te' in caplog.text


@pytest.mark.parametrize(
    "bad",
    [
        b"rubbish",
        b'{"seq":2}{"seq":9}',
        b"[1]",
        b'{"seq":"2"}',
        b'{"seq":0}',
        b'{"seq":true}',
        b'{"seq":1000000000000000000}',
        b'{"seq":18446744073709551615}',
        b"{}",
        b"\xff\xfe",
    ],
)
def test_a_bad_middle_line_is_reported_and_hides_nothing(backend: FileBackend, path: Path, bad: bytes) -> None:
    data = line(1) + bad + b"\n" + line(3)
    path.write_bytes(data)
    found = list(backend.entries(REF))
    assert seqs(backend) == [1, None, 3]
    assert isinstance(found[1], BadLine)
    assert (found[1].line, found[1].offset, found[1].data) == (2, len(line(1)), bad)
    assert append(backend) == 4
    assert path.read_bytes() == data + line(4, "new")


def test_git_conflict_markers_are_named(backend: FileBackend, path: Path) -> None:
    path.write_bytes(line(1) + b"<<<<<<< HEAD\n" + line(2) + b"=======\n" + line(2, "y") + b">>>>>>> b\n")
    assert seqs(backend) == [1, None, 2, None, 2, None]
    assert [found.reason[:5] for found in backend.entries(REF) if isinstance(found, BadLine)] == ["a git"] * 3
    assert append(backend) == 3


def test_seqs_that_run_backwards_are_shown_and_not_given_out_again(backend: FileBackend, path: Path) -> None:
    path.write_bytes(line(1) + line(9) + line(2) + line(3))
    assert seqs(backend) == [1, 9, 2, 3]
    assert append(backend) == 10


def test_when_the_numbers_are_used_up_nothing_is_appended(backend: FileBackend, path: Path) -> None:
    data = line(LARGEST_SEQ - 1)
    path.write_bytes(data)
    assert append(backend) == LARGEST_SEQ
    with pytest.raises(StorageError, match="another entry"):
        append(backend)
    assert seqs(backend) == [LARGEST_SEQ - 1, LARGEST_SEQ]


def test_what_somebody_writes_behind_an_append_is_not_written_onto(
    backend: FileBackend, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_and_be_followed(fd: int, data: bytes) -> None:
        write_all(fd, data)
        with path.open("ab") as editor:
            editor.write(b'{"seq":9}')

    append(backend)
    with monkeypatch.context() as during:
        during.setattr(log_writing, "write_all", write_and_be_followed)
        assert append(backend) == 2
    assert append(backend) == 10
    assert seqs(backend) == [1, 2, 9, 10]


def test_a_last_line_without_newline_gets_one(backend: FileBackend, path: Path) -> None:
    path.write_bytes(THREE.rstrip(b"\n"))
    assert seqs(backend) == [1, 2, 3]
    assert append(backend) == 4
    assert path.read_bytes() == THREE + line(4, "new")


def test_crlf_bom_and_blank_lines_are_accepted(backend: FileBackend, path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + THREE.replace(b"\n", b"\r\n") + b"\r\n\n")
    found = list(backend.entries(REF))
    assert found == [LogLine(n, line(n)[:-1]) for n in (1, 2, 3)]
    assert found[::-1] == list(backend.entries_backwards(REF))
    assert append(backend) == 4


def test_an_empty_file_is_an_empty_log(backend: FileBackend, path: Path) -> None:
    path.write_bytes(b"")
    assert seqs(backend) == []
    assert append(backend) == 1


def test_huge_lines(backend: FileBackend, path: Path) -> None:
    big = "x" * 5_000_000
    assert append(backend, big) == 1
    assert append(backend) == 2
    assert seqs(backend, after=1) == [2]
    with contextlib.closing(FileBackend(path.parents[1])) as other:
        assert seqs(other) == [1, 2]
    assert [found.seq for found in backend.entries_backwards(REF) if isinstance(found, LogLine)] == [2, 1]


# -- trims


def test_a_trim_of_everything_keeps_the_seq(backend: FileBackend, path: Path) -> None:
    path.write_bytes(THREE)
    assert backend.trim(REF, 100) == 3
    assert seqs(backend) == []
    assert backend.trim(REF, 100) == 0
    with contextlib.closing(FileBackend(path.parents[1])) as other:
        assert append(other) == 4
    assert backend.trim(REF, 4) == 0
    assert seqs(backend) == [4]


def test_a_trim_that_leaves_only_a_bad_line_keeps_the_seq(backend: FileBackend, path: Path) -> None:
    path.write_bytes(THREE + b"rubbish\n")
    assert backend.trim(REF, 4) == 3
    with contextlib.closing(FileBackend(path.parents[1])) as other:
        assert append(other) == 4
    assert seqs(backend) == [None, 4]


def test_a_trim_removes_what_it_says(backend: FileBackend, path: Path) -> None:
    path.write_bytes(THREE)
    os.chmod(path, 0o640)
    assert backend.trim(REF, 3) == 2
    assert path.read_bytes() == line(3)
    assert path.stat().st_mode & 0o777 == 0o640
    assert append(backend) == 4


def test_a_trim_of_nothing_does_not_make_a_log(backend: FileBackend, root: Path) -> None:
    assert backend.trim(REF, 5) == 0
    assert not root.exists()


# -- changes behind the writer's back


def test_a_trim_works_after_a_flush_that_failed(
    backend: FileBackend, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    path.write_bytes(THREE)
    with monkeypatch.context() as patched:
        patched.setattr("fsstate.backends.files.log_writing.flush_data", fail)
        with pytest.raises(StorageError):
            append(backend)
    assert backend.trim(REF, 3) == 2
    assert seqs(backend) == [3]


def test_appends_follow_a_file_that_others_replace_edit_or_remove(backend: FileBackend, path: Path) -> None:
    append(backend)
    (path.parent / "other").write_bytes(line(41))
    os.rename(path.parent / "other", path)
    assert append(backend) == 42
    path.write_bytes(line(7))
    # No seq is given out twice, whatever became of the entry.
    assert append(backend) == 43
    with path.open("r+b") as file:
        file.write(line(9)[: len(line(7))])
    assert append(backend) == 44
    assert seqs(backend) == [9, 43, 44]
    path.unlink()
    assert append(backend) == 1
    assert seqs(backend) == [1]


def test_a_claimed_log_that_is_replaced_is_not_written_to_its_ghost(backend: FileBackend, path: Path) -> None:
    with backend.claim_log(REF):
        append(backend)
        (path.parent / "other").write_bytes(line(41))
        os.rename(path.parent / "other", path)
        assert append(backend) == 42
        assert backend.is_claimed(REF)
    assert not backend.is_claimed(REF)
    assert seqs(backend) == [41, 42]


def test_other_processes_entries_are_counted(backend: FileBackend, root: Path) -> None:
    code = 'FileBackend(root).append(Ref("audit", "t", LOG), lambda _: [b\'{"text":"other"}\'] * 3)'
    append(backend)
    run(code, root)
    assert append(backend) == 5
    assert seqs(backend) == [1, 2, 3, 4, 5]


def test_a_failed_compose_leaves_its_neighbours_alone(backend: FileBackend) -> None:
    def fail(_: LogLine | None) -> list[bytes]:
        raise ZeroDivisionError

    outcomes = backend.append_many(REF, [lambda _: [b"{}"], fail, lambda last: [b"{}"] * (last.seq if last else 9)])
    assert outcomes[0] == range(1, 2)
    assert isinstance(outcomes[1], ZeroDivisionError)
    assert outcomes[2] == range(2, 3)


# -- finding without reading


BAD = st.sampled_from([b"", b"rubbish", b"{}", b'{"seq":-1}', b"x" * 40_000])
GOOD = st.tuples(st.integers(1, 4), st.sampled_from([0, 10, 300, 3_000, 50_000]))


@given(st.lists(st.one_of(BAD, GOOD), max_size=80), st.data())
def test_seek_and_backwards_agree_with_reading_it_all(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes | tuple[int, int]], data: st.DataObject
) -> None:
    written, last = [], 0
    for one in lines:
        if isinstance(one, tuple):
            last += one[0]
            written.append(line(last, "x" * one[1]))
        else:
            written.append(one + b"\n")
    file = tmp_path_factory.getbasetemp() / "log"
    file.write_bytes(b"".join(written))
    after = data.draw(st.integers(0, last + 1))
    naive = [n for raw in written if (n := json.loads(raw).get("seq", 0) if raw.startswith(b'{"seq"') else 0) > after]
    with file.open("rb") as opened:
        fd, size = opened.fileno(), file.stat().st_size
        found = [one.seq for one in entries(fd, size, size, after) if isinstance(one, LogLine)]
        whole = [one._replace(line=None) if isinstance(one, BadLine) else one for one in entries(fd, size, size, 0)]
        assert found == naive
        assert list(entries_backwards(fd, size, size)) == whole[::-1]


@pytest.fixture(scope="module")
def big_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("big")
    (root / "audit").mkdir()
    text = "x" * 480
    with (root / "audit" / "t.jsonl").open("wb") as file:
        file.writelines(line(seq, text) for seq in range(1, 200_001))
    return root


COUNT_READS = """
import resource
def read_bytes():
    return int(open("/proc/self/io").read().split("rchar: ")[1].split()[0])
b, ref = FileBackend(root), Ref("audit", "t", LOG)
before, peak = read_bytes(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
%s
print(read_bytes() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="needs /proc")
@pytest.mark.parametrize(
    "code",
    [
        "import itertools; assert [e.seq for e in itertools.islice(b.entries_backwards(ref), 20)][-1] == 199_981",
        "assert next(b.entries(ref, after=123_456)).seq == 123_457",
        "assert b.append(ref, lambda last: [b'{}'])[0] > last_seq if (last_seq := 200_000) else 0",
    ],
    ids=["tail", "seek", "append"],
)
def test_little_of_a_large_log_is_read(big_log: Path, code: str) -> None:
    read, kilobytes = map(int, run(COUNT_READS % code, big_log).split())
    assert read < 2_000_000
    assert kilobytes < 10_000


def test_reading_a_large_log_takes_little_memory(big_log: Path) -> None:
    code = COUNT_READS % "assert sum(1 for _ in b.entries(ref)) >= 200_000"
    assert int(run(code, big_log).split()[1]) < 10_000


def test_a_reader_that_stops_early_keeps_nothing_open(backend: FileBackend, path: Path) -> None:
    path.write_bytes(THREE)
    before = len(os.listdir("/dev/fd"))
    for _ in range(50):
        assert next(iter(backend.entries(REF))).data
    assert len(list(itertools.islice(backend.entries_backwards(REF), 1))) == 1
    assert len(os.listdir("/dev/fd")) <= before + 3
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_log_is_replaced_while_others_append_to_it(backend: FileBackend, root: Path) -> None:
    """Nothing that was acknowledged is lost: each replacement takes exactly the first entry away."""
    append(backend)
    others = FileBackend(root)
    threads = [
        threading.Thread(target=lambda each=each: [append(each) for _ in range(50)]) for each in (backend, others)
    ]
    for _ in range(20):
        append(backend)
    for thread in threads:
        thread.start()
    for _ in range(20):
        backend.replace_log(REF, lambda data: data.partition(b"\n")[2])
    for thread in threads:
        thread.join()
    others.close()
    assert seqs(backend) == list(range(21, 122))


def test_a_replaced_log_goes_on_behind_the_highest_seq(backend: FileBackend, path: Path) -> None:
    path.write_bytes(THREE)
    backend.replace_log(REF, lambda _: line(1))
    assert path.read_bytes() == line(1) + b'{"seq":3,"fsstate":"trimmed"}\n'
    assert [found.seq for found in backend.entries_backwards(REF) if isinstance(found, LogLine)] == [1]
    backend.append(REF, lambda last: [b'{"behind":%d}' % (last.seq if last else 0)])
    assert path.read_bytes().endswith(b'\n{"seq":4,"behind":1}\n')
    # The same again is no change; and one that has higher seqs of its own needs no marker.
    before = path.stat()
    backend.replace_log(REF, lambda data: data)
    assert path.stat() == before
    backend.replace_log(REF, lambda _: line(1) + line(9)[:-1])
    assert path.read_bytes() == line(1) + line(9)[:-1]
    assert append(backend) == 10


def test_what_a_replacement_raises_leaves_the_log_alone(backend: FileBackend, path: Path) -> None:
    path.write_bytes(THREE)
    with pytest.raises(ZeroDivisionError):
        backend.replace_log(REF, lambda _: bytes(1 // 0))
    assert path.read_bytes() == THREE
    assert append(backend) == 4


def test_a_log_that_is_absent_can_be_replaced(backend: FileBackend, path: Path) -> None:
    backend.replace_log(REF, lambda data: data + line(7))
    assert path.read_bytes() == line(7)
    assert append(backend) == 8
