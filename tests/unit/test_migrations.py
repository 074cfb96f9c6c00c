"""Versions of records, and the steps between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fsstate.errors import MigrationError, NewerFormatError, NewerVersionError, ValidationError
from fsstate.migrations import Migration, Versions

Fields = dict[str, Any]


def add(key: str) -> Callable[[Fields], None]:
    return lambda document: document.update({key: len(document)})


def test_without_migrations_there_is_one_version() -> None:
    versions = Versions("plans")
    assert versions.latest == 1
    document = {"a": 1}
    assert versions.migrated(document, "x") is document
    assert versions.of({"schema_version": 1}, "x") == 1


def test_the_steps_are_taken_in_order() -> None:
    versions = Versions("plans", [Migration(2, "two", add("two")), Migration(3, "three", add("three"))])
    assert versions.latest == 3
    document = {"a": [1]}
    assert versions.migrated(document, "x") == {"a": [1], "two": 1, "three": 2, "schema_version": 3}
    assert document == {"a": [1]}
    second: Fields = {"schema_version": 2}
    assert versions.migrated(second, "x") == {"schema_version": 3, "three": 1}
    assert [step.name for step in versions.pending(second, "x")] == ["three"]
    assert versions.pending({"schema_version": 3}, "x") == []


def test_a_step_may_give_a_new_document() -> None:
    versions = Versions("plans", [Migration(2, "anew", lambda old: {"was": old})])
    assert versions.migrated({"a": 1}, "x") == {"was": {"a": 1}, "schema_version": 2}


def test_a_step_never_changes_what_it_was_given_from_outside() -> None:
    def half(document: Fields) -> None:
        document["deep"]["list"].append(1)
        raise ZeroDivisionError("oh")

    document: Fields = {"deep": {"list": []}}
    with pytest.raises(MigrationError, match=r"x.*half.*ZeroDivisionError: oh"):
        Versions("plans", [Migration(2, "half", half)]).migrated(document, "x")
    assert document == {"deep": {"list": []}}


@pytest.mark.parametrize("nonsense", [[], 5, "x", True, [("a", 1)]])
def test_a_step_that_gives_nonsense(nonsense: Any) -> None:
    versions = Versions("plans", [Migration(2, "odd", lambda _: nonsense)])
    with pytest.raises(MigrationError, match=f"odd.*{type(nonsense).__name__}"):
        versions.migrated({}, "x")


def test_a_newer_version_is_refused() -> None:
    versions = Versions("plans", [Migration(2, "two", add("two"))])
    with pytest.raises(NewerVersionError, match=r"x.*3.*2") as caught:
        versions.migrated({"schema_version": 3}, "x")
    assert isinstance(caught.value, NewerFormatError)
    assert "plans" in str(caught.value)


@pytest.mark.parametrize("found", [0, -1, 1.0, "1", None, True, [], {}])
def test_what_is_no_version(found: Any) -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        Versions("plans").migrated({"schema_version": found}, "x")


def test_steps_that_are_no_longer_declared() -> None:
    versions = Versions("plans", [Migration(3, "three", add("three"))])
    assert versions.migrated({"schema_version": 2}, "x")["schema_version"] == 3
    with pytest.raises(MigrationError, match="version 2"):
        versions.migrated({}, "x")


@pytest.mark.parametrize("numbers", [[1], [2, 4], [3, 2], [2, 2], [0], [-1, 0]])
def test_declarations_that_make_no_sense(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="consecutive"):
        Versions("plans", [Migration(number, "x", add("x")) for number in numbers])
