"""What is remembered of contents that were handed out: the last of them, within bounds."""

import subprocess
import threading
from pathlib import Path

import pytest

from fsstate.backends.base import Blob
from fsstate.backends.contents import RecentContents


def test_a_content_is_found_by_its_revision(tmp_path: Path) -> None:
    contents = RecentContents()
    revision = contents.remember(Blob(b"hello\n"))
    assert revision == "ce013625030ba8dba906f756967f9e9ca394464a"
    found = contents.find(revision)
    assert found is not None
    assert found.data == b"hello\n"
    assert contents.find("0" * 40) is None
    (tmp_path / "file").write_bytes(b"hello\n")
    done = subprocess.run(["git", "hash-object", tmp_path / "file"], capture_output=True, check=False, text=True)
    assert done.returncode or done.stdout.strip() == revision


def test_the_oldest_are_forgotten() -> None:
    contents = RecentContents(most=3)
    first, second, third = (contents.remember(Blob(text)) for text in (b"1", b"2", b"3"))
    # Handed out again, it counts as new.
    contents.remember(Blob(b"1"))
    fourth = contents.remember(Blob(b"4"))
    assert [contents.find(each) is not None for each in (first, second, third, fourth)] == [True, False, True, True]


def test_their_bytes_are_bounded() -> None:
    contents = RecentContents(most_bytes=10)
    small = contents.remember(Blob(b"12345"))
    assert contents.find(contents.remember(Blob(b"x" * 11))) is None
    assert contents.find(small) is not None
    large = contents.remember(Blob(b"123456"))
    assert (contents.find(small), contents.find(large) is not None) == (None, True)
    for _ in range(5):
        contents.remember(Blob(b"123456"))
    assert contents.find(contents.remember(Blob(b"1234"))) is not None
    assert contents.find(large) is not None


@pytest.mark.parametrize("limit", [{"most": 50}, {"most_bytes": 100}])
def test_threads_share_them(limit: dict[str, int]) -> None:
    contents = RecentContents(**limit)
    errors: list[Exception] = []

    def work(first: int) -> None:
        try:
            for number in range(2_000):
                contents.remember(Blob(b"%d" % (first + number % 97)))
        except Exception as error:  # noqa: BLE001 - told below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in (0, 50, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    kept = sum(contents.find(Blob(b"%d" % number).revision) is not None for number in range(200))
    assert 0 < kept <= 50
