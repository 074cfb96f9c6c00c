"""Texts merged by line: what is sure of any merge, and the same outcome as git's."""

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.merging.lines import merge_bytes, merge_lines, merge_text, split, stretches
from fsstate.merging.versions import Markers, Versions

MARKERS = Markers()
TEXTS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n", "d\r\n"]), max_size=8).map("".join)
ENDS = st.sampled_from(["", "e", "é"])
VERSIONS = st.builds(Versions, *[st.builds(str.__add__, TEXTS, ENDS)] * 3)


def sides(text: str, size: int = 7) -> tuple[str, str]:
    """What is left when one side is kept everywhere."""
    kept: tuple[list[str], list[str]] = ([], [])
    side: int | None = None
    for line in split(text):
        if line.startswith("<" * size + " "):
            side = 0
        elif line.rstrip("\r\n") == "=" * size and side is not None:
            side = 1
        elif line.startswith(">" * size + " ") and side is not None:
            side = None
        else:
            for number in (0, 1):
                if side in (None, number):
                    kept[number].append(line)
    return "".join(kept[0]), "".join(kept[1])


@given(VERSIONS)
def test_lines_come_back(versions: Versions[str]) -> None:
    for text in versions:
        assert "".join(split(text)) == text


@given(VERSIONS)
def test_what_one_side_changed_is_taken(versions: Versions[str]) -> None:
    base, changed, _ = versions
    for each in (Versions(base, changed, base), Versions(base, base, changed), Versions(base, changed, changed)):
        assert merge_text(each, MARKERS) == (changed, ())


@given(VERSIONS)
def test_both_orders_are_mirrored(versions: Versions[str]) -> None:
    base, ours, theirs = versions
    one, met = merge_text(versions, MARKERS)
    other, met_too = merge_text(Versions(base, theirs, ours), MARKERS)
    assert bool(met) == bool(met_too)
    if not met:
        assert one == other
    else:
        assert sides(one) == sides(other)[::-1]


@given(VERSIONS)
def test_the_places_of_conflicts_are_told(versions: Versions[str]) -> None:
    text, places = merge_text(versions, MARKERS, first=5)
    begins = [number for number, line in enumerate(split(text), 5) if line.startswith("<<<<<<< ours")]
    assert places == tuple(f"line {number}" for number in begins)


@given(VERSIONS)
def test_two_versions_are_told_apart(versions: Versions[str]) -> None:
    _, ours, theirs = versions
    found = stretches(split(ours), split(theirs))
    assert "".join("".join(each.lines) for each in found) == ours
    assert "".join("".join(each.lines if each.theirs is None else each.theirs) for each in found) == theirs


def test_bytes_that_are_no_text_are_merged_too() -> None:
    versions = Versions(b"\xff\na\nb\nc\n", b"\xff\na\nb\n\xfe\n", b"\xfd\na\nb\nc\n")
    assert merge_bytes(versions, MARKERS) == (b"\xfd\na\nb\n\xfe\n", ())


def test_markers_have_the_size_and_the_line_ends_that_are_wanted() -> None:
    text, _ = merge_text(Versions("a\r\n", "b\r\n", "c"), Markers(9, "mine", "other"))
    assert text == "<<<<<<<<< mine\r\nb\r\n=========\r\nc\r\n>>>>>>>>> other\r\n"


def test_what_both_sides_changed_alike_is_outside_the_markers() -> None:
    versions = Versions("a\nb\nc\n", "A\nb1\nC\n", "A\nb2\nC\n")
    assert merge_text(versions, MARKERS)[0] == "A\n<<<<<<< ours\nb1\n=======\nb2\n>>>>>>> theirs\nC\n"


def test_changes_of_neighbouring_lines_meet() -> None:
    assert merge_text(Versions("a\nb\n", "A\nb\n", "a\nB\n"), MARKERS)[1] == ("line 1",)


def test_long_texts_take_no_long_time() -> None:
    base = [f"line {number % 50}\n" if number % 3 else "\n" for number in range(20_000)]
    ours, theirs = [*base], [*base]
    ours[100:110], theirs[19_000:19_005] = ["ours\n"], ["theirs\n"]
    merged = merge_lines(Versions(base, ours, theirs))
    assert all(each.theirs is None for each in merged)
    assert sum(len(each.lines) for each in merged) == 20_000 - 9 - 4


def edited(chance: random.Random, lines: list[str], name: str) -> list[str]:
    """Lines of which some were removed, replaced by others or joined by others, all of them unlike any other."""
    found: list[str] = []
    for number, line in enumerate(lines):
        what = chance.random()
        if what < 0.1:
            found.append(f"{name} {number}\n")
        if what < 0.9:
            found.append(line)
        elif what < 0.95:
            found.append(f"{name} instead of {number}\n")
    return found


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_merges_the_same_texts_in_the_same_way(tmp_path: Path) -> None:
    """Clean where git's merge is, with the same outcome; else with the same text on either side of the conflicts."""
    chance = random.Random(1)
    clean = 0
    for _ in range(80):
        base = [f"line {number}\n" for number in range(chance.randrange(1, 16))]
        versions = Versions("".join(base), *("".join(edited(chance, base, name)) for name in ("o", "t")))
        for name, text in zip(versions._fields, versions, strict=True):
            (tmp_path / name).write_text(text)
        done = subprocess.run(
            ["git", "merge-file", "-p", "-L", "ours", "-L", "base", "-L", "theirs", "ours", "base", "theirs"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        text, conflicts = merge_text(versions, MARKERS)
        assert bool(conflicts) == bool(done.returncode), versions
        assert sides(text) == sides(done.stdout), versions
        clean += not conflicts
    assert 10 < clean < 70
