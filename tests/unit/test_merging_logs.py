"""Logs merged by entry: nothing is lost, nothing stands there twice, and seqs grow."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsstate.errors import CorruptRecordError
from fsstate.merging.logs import merge_log
from fsstate.merging.versions import Markers, Merged, Versions
from tests.unit.test_merging_lines import sides

Row = dict[str, Any]
EVENTS, MESSAGES = "state/audit/trail.jsonl", "state/sessions/s/messages.jsonl"


def encoded(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def merge(base: list[Row], ours: list[Row], theirs: list[Row], file: str = EVENTS) -> Merged:
    return merge_log(Versions(base, ours, theirs).map(encoded), Markers(), file)


def rows(merged: Merged) -> list[Row]:
    assert merged.conflicts == ()
    return [json.loads(line) for line in merged.data.splitlines()]


def entry(seq: int, what: str, **fields: Any) -> Row:
    return {"seq": seq, "kind": "k", "what": what, **fields}


def entries(first: int, *whats: str) -> list[Row]:
    return [entry(seq, what) for seq, what in enumerate(whats, first)]


def told(merged: Merged) -> list[tuple[int, str]]:
    return [(row["seq"], row["what"]) for row in rows(merged)]


BASE = entries(1, "a", "b")


def test_ours_come_first_and_theirs_are_numbered_on() -> None:
    merged = merge(BASE, [*BASE, *entries(3, "o", "p")], [*BASE, *entries(3, "t", "u")])
    assert told(merged) == [(1, "a"), (2, "b"), (3, "o"), (4, "p"), (5, "t"), (6, "u")]


def test_a_seq_stays_where_it_can() -> None:
    assert told(merge(BASE, BASE[:1], [*BASE, *entries(7, "t")])) == [(1, "a"), (7, "t")]
    assert told(merge(BASE, [*BASE, *entries(3, "o")], [*BASE, *entries(9, "t")])) == [
        (1, "a"), (2, "b"), (3, "o"), (9, "t"),
    ]  # fmt: skip


def test_an_entry_is_the_same_under_another_number() -> None:
    ours = [*BASE, *entries(3, "o", "t")]
    theirs = [*BASE, *entries(3, "t", "u")]
    assert told(merge(BASE, ours, theirs)) == [(1, "a"), (2, "b"), (3, "o"), (4, "t"), (5, "u")]


def test_an_entry_is_the_same_in_another_layout() -> None:
    ours = encoded([*BASE, {"seq": 3, "kind": "k", "what": "t"}])
    theirs = encoded(BASE) + b'{ "what": "t", "kind": "k", "seq": 4 }\r\n{"seq":5,"kind":"k","what":"u"}\n'
    merged = merge_log(Versions(encoded(BASE), ours, theirs), Markers(), EVENTS)
    assert told(merged) == [(1, "a"), (2, "b"), (3, "t"), (5, "u")]


def test_equal_entries_are_counted() -> None:
    base = entries(1, "tick")
    assert told(merge(base, entries(1, "tick", "tick"), entries(1, "tick", "tick", "tick"))) == [
        (1, "tick"), (2, "tick"), (3, "tick"),
    ]  # fmt: skip


def test_long_numbers_are_told_apart() -> None:
    ours, theirs = ([entry(1, "a", n=10**20 + n)] for n in (1, 2))
    assert [row["n"] for row in rows(merge([], ours, theirs))] == [10**20 + 1, 10**20 + 2]


def test_removed_and_changed_entries() -> None:
    base = entries(1, "a", "b", "c", "d")
    ours = [entry(1, "A"), *base[2:]]
    theirs = [*base[:2], entry(3, "C"), *entries(5, "t")]
    assert told(merge(base, ours, theirs)) == [(1, "A"), (3, "C"), (5, "t")]
    assert told(merge(base, theirs, ours)) == [(1, "A"), (3, "C"), (5, "t")]


def test_fields_of_one_entry_that_both_changed() -> None:
    base, ours, theirs = ([entry(4, "a", x=x, y=y)] for x, y in ((0, 0), (1, 0), (0, 1)))
    assert rows(merge(base, ours, theirs)) == [entry(4, "a", x=1, y=1)]


def test_one_field_that_both_changed_is_a_conflict() -> None:
    base, ours, theirs = ([entry(4, "a", x=x), *entries(5, "b")] for x in (0, 1, 2))
    data, conflicts = merge(base, ours, theirs)
    assert conflicts == ("entry 4",)
    kept = [[json.loads(line) for line in side.splitlines()] for side in sides(data.decode())]
    assert kept == [ours, theirs]


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_an_entry_that_one_side_changed_and_the_other_removed_is_a_conflict(side: str) -> None:
    changed = [*BASE[:1], entry(2, "B"), *entries(3, "x")]
    versions = Versions(BASE, BASE[:1], BASE[:1])._replace(**{side: changed})
    data, conflicts = merge(versions.base, versions.ours, versions.theirs)
    assert conflicts == ("entry 2",)
    without, with_it = (side_text.count('"B"') for side_text in sorted(sides(data.decode()), key=len))
    assert (without, with_it) == (0, 1)
    assert data.decode().count('"x"') == 1


def test_records_of_one_id_that_differ_are_a_conflict() -> None:
    base: list[Row] = [{"seq": 1, "id": "m", "role": "user"}]
    ours, theirs = ([*base, {"seq": 2, "id": "n", "role": role}] for role in ("user", "tool"))
    data, conflicts = merge(base, ours, theirs, MESSAGES)
    assert conflicts == ("entry 2",)
    assert [side.count('"id":"n"') for side in sides(data.decode())] == [1, 1]


def test_entries_of_other_logs_may_share_an_id() -> None:
    ours, theirs = ([{"seq": 1, "id": "sensor", "value": value}] for value in (1, 2))
    assert [row["value"] for row in rows(merge([], ours, theirs))] == [1, 2]


def test_a_trim_and_an_append() -> None:
    base = entries(1, "a", "b", "c")
    assert told(merge(base, base[2:], [*base, *entries(4, "t")])) == [(3, "c"), (4, "t")]


MARK: Row = {"seq": 5, "fsstate": "trimmed"}


def test_what_was_numbered_before_a_trim_of_all_is_not_numbered_so_again() -> None:
    for merged in (merge(BASE, [MARK], [*BASE, *entries(3, "t")]), merge(BASE, [*BASE, *entries(3, "t")], [MARK])):
        assert rows(merged) == [MARK, entry(6, "t")]
    assert rows(merge(BASE, [MARK, *entries(6, "o")], [MARK, *entries(6, "t")])) == [MARK, *entries(6, "o", "t")]
    assert rows(merge([MARK], [MARK, *entries(6, "o")], [MARK, *entries(6, "t")])) == [MARK, *entries(6, "o", "t")]


def test_a_log_of_which_nothing_is_left_knows_its_last_seq() -> None:
    assert rows(merge(BASE, BASE[1:], BASE[:1])) == [{"seq": 2, "fsstate": "trimmed"}]
    assert rows(merge(BASE, [MARK], [{**MARK, "seq": 4}])) == [MARK]


def test_a_marker_that_a_later_trim_removed_stays_away() -> None:
    base = [MARK, *entries(6, "a", "b")]
    assert told(merge(base, base[2:], [*base, *entries(8, "t")])) == [(7, "b"), (8, "t")]


def test_lines_that_are_no_entries_stay() -> None:
    base = encoded(BASE)
    ours = base + b"garbage\n" + encoded(entries(3, "o"))
    theirs = base + b"\xff\n" + encoded(entries(3, "t")) + b'{"seq":4,"ki'
    data, conflicts = merge_log(Versions(base, ours, theirs), Markers(), EVENTS)
    assert conflicts == ()
    assert data == ours + b'\xff\n{"seq":4,"kind":"k","what":"t"}\n{"seq":4,"ki\n'


def test_a_byte_order_mark_is_no_part_of_the_first_entry() -> None:
    base = encoded(BASE)
    versions = Versions(base, b"\xef\xbb\xbf" + base + encoded(entries(3, "o")), base + encoded(entries(3, "t")))
    data, _ = merge_log(versions, Markers(), EVENTS)
    assert data == b"\xef\xbb\xbf" + base + encoded(entries(3, "o", "t"))


def test_a_base_with_conflicts_removes_nothing() -> None:
    base = merge([entry(4, "a", x=0)], [entry(4, "a", x=1)], [entry(4, "a", x=2)])
    assert base.conflicts
    versions = Versions(base.data, encoded([entry(4, "a", x=1)]), encoded([entry(4, "a", x=2)]))
    merged = merge_log(versions, Markers(), EVENTS)
    assert sorted(row["x"] for row in rows(merged)) == [1, 2]


@pytest.mark.parametrize("data", [b"{}\n", b"hello\nworld\n", b'{"kind":"x"}\n', b'{"seq":0}\n'])
def test_what_is_no_log_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptRecordError):
        merge_log(Versions(b"", data, encoded(BASE)), Markers(), EVENTS)


def test_a_number_that_is_too_large_ends_it() -> None:
    last = 10**18 - 1
    with pytest.raises(CorruptRecordError, match="no number left"):
        merge([], [entry(last, "o")], [entry(last, "t")])


# -- conversations


def message(seq: int, name: str, parent: str | None = None) -> Row:
    return {"seq": seq, "id": name, "role": "user", "content": name, **({} if parent is None else {"parent": parent})}


TALK = [message(1, "a"), message(2, "b", "a")]


def test_a_head_that_is_there_stays() -> None:
    ours, theirs = [*TALK, message(3, "o", "b")], [*TALK, {"seq": 3, "head": "a"}]
    assert rows(merge(TALK, ours, theirs, MESSAGES))[-1] == {"seq": 4, "head": "a"}


def test_a_lost_head_becomes_the_last_message() -> None:
    ours = [{"seq": 2, "fsstate": "trimmed"}, message(3, "o")]
    theirs = [*TALK, {"seq": 3, "head": "a", "at": "2026-01-01T00:00:00.000000Z"}]
    merged = rows(merge(TALK, ours, theirs, MESSAGES))
    assert merged[-1] == {"seq": 5, "head": "o", "at": "2026-01-01T00:00:00.000000Z"}
    # Of another log, nobody knows what a head is.
    assert rows(merge(TALK, ours, theirs))[-1]["head"] == "a"


def test_no_message_is_left_to_be_the_head() -> None:
    merged = rows(merge(TALK, [{"seq": 2, "fsstate": "trimmed"}], [*TALK, {"seq": 3, "head": "a"}], MESSAGES))
    assert merged == [{"seq": 2, "fsstate": "trimmed"}, {"seq": 3, "head": "a"}, {"seq": 4, "head": None}]


# -- any histories

WHATS = st.lists(st.sampled_from("abcdefg"), max_size=5)
GROWN = st.tuples(WHATS, WHATS, WHATS)


@given(GROWN)
def test_both_orders_hold_the_same_and_a_second_merge_changes_nothing(grown: tuple[list[str], ...]) -> None:
    start, mine, other = grown
    base, ours, theirs = (entries(1, *start, *more) for more in ([], mine, other))
    one, two = rows(merge(base, ours, theirs)), rows(merge(base, theirs, ours))
    wanted = Counter(start) + (Counter(mine) | Counter(other))
    for merged in (one, two):
        assert Counter(row["what"] for row in merged) == wanted
        seqs = [row["seq"] for row in merged]
        assert seqs == sorted(set(seqs))
    assert one[: len(ours)] == ours
    # Merged once more: with theirs as the base, as git has it, and by way of a branch that knows of no merge.
    assert rows(merge(theirs, one, theirs)) == one
    assert rows(merge(base, one, theirs)) == one
    assert rows(merge(base, one, two)) == one
    crossed = rows(merge(ours, [*one, entry(one[-1]["seq"] + 1, "x")] if one else [entry(1, "x")], two))
    assert Counter(row["what"] for row in crossed) == wanted + Counter("x")


@given(st.lists(st.tuples(st.sampled_from("oxt-"), st.sampled_from("oxt-")), max_size=6))
def test_what_becomes_of_each_entry(fates: list[tuple[str, str]]) -> None:
    """Each entry is left alone (x), changed by either side (o, t) or removed (-)."""
    base = [entry(seq, "x", at=seq) for seq in range(1, len(fates) + 1)]
    ours, theirs = (
        [{**row, "what": fate[side]} for row, fate in zip(base, fates, strict=True) if fate[side] != "-"]
        for side in (0, 1)
    )
    data, conflicts = merge(base, ours, theirs)
    meeting = {f"entry {seq}" for seq, (one, two) in enumerate(fates, 1) if one != two and "x" not in (one, two)}
    assert set(conflicts) == meeting
    for text, side in zip(sides(data.decode()), (0, 1), strict=True):
        left = {row["at"]: row["what"] for row in map(json.loads, text.splitlines()) if "at" in row}
        for seq, fate in enumerate(fates, 1):
            wanted = (
                fate[side]
                if f"entry {seq}" in meeting or fate[0] == fate[1]
                else fate[0]
                if fate[1] == "x"
                else fate[1]
            )
            assert left.get(seq, "-") == wanted
