"""The tables of examples/README.md: no function of a reference is left out, and all that they name exists.

`store` there is a store, `session` what `store.session(id)` gives. A function that is unique in its system may stand
without its type. Calls are not made, but their keywords are checked.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fsstate

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT.parent / "shared" / "reference"
SOURCES = {
    "oxios": "oxios_state_store.txt",
    "steer": "steer_sqlite.txt",
    "codewhale": "codewhale_state.txt",
    "soma": "soma_studio_storage.txt",
    "zero-session": "zero_session_store.txt",
}
# The sources are web pages: some have a number before each line, some no indentation.
IMPL = re.compile(r"^\d*\s*impl(?:<[^>]*>)?\s+(?:([\w:]+)(?:<[^>]*>)?\s+for\s+)?(\w+)")
FUNCTION = re.compile(r"^\d*\s*(pub\s+)?(?:async\s+)?fn\s+(\w+)")
TESTS = re.compile(r"^\d*\s*mod tests\b")
# What steer's store can do is the trait that it implements, whose functions are not marked as public.
TRAITS = {"SessionStore"}

# These are called, with any names, to go on from what they give.
GIVES_MORE = {"session", "collection", "markdown", "journal", "workflow", "owned_by"}


def functions(system: str) -> set[str]:
    """The public functions of a system's source, as `Type::name`."""
    path = REFERENCE / SOURCES[system]
    if not path.is_file():
        pytest.skip("needs the sources of the references in ../shared/reference")
    found: set[str] = set()
    owner, trait = "", None
    for line in path.read_text(encoding="utf-8").splitlines():
        if TESTS.match(line):
            break
        if (match := IMPL.match(line)) is not None:
            trait, owner = match.groups()
        elif (match := FUNCTION.match(line)) is not None and (match[1] or trait in TRAITS):
            found.add(f"{owner}::{match[2]}")
    return found


def rows(system: str) -> list[tuple[list[str], list[str]]]:
    """A system's rows: the functions that a row is about, and the pieces of code that stand for them."""
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    section = re.search(rf"^#+ {system}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"examples/README.md has no section {system!r}"
    cells = [line.strip("|").split(" | ") for line in section[1].splitlines() if line.startswith("| `")]
    assert all(len(row) == 2 for row in cells), f"{system}: a row has two cells"
    return [(code_in(left), code_in(right)) for left, right in cells]


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def is_named(function: str, named: set[str], known: set[str]) -> bool:
    bare = function.partition("::")[2]
    return function in named or (bare in named and sum(each.endswith(f"::{bare}") for each in known) == 1)


@pytest.mark.parametrize("system", SOURCES)
def test_every_public_function_has_a_row(system: str) -> None:
    known = functions(system)
    assert len(known) >= 10
    named = {name for names, _ in rows(system) for name in names}
    assert [function for function in sorted(known) if not is_named(function, named, known)] == []
    bare = {function.partition("::")[2] for function in known}
    assert sorted(named - known - bare) == [], "no such functions"


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("system", SOURCES)
def test_every_call_in_a_row_exists(system: str, kind: str) -> None:
    with fsstate.Store.in_memory() as sync:
        store: Any = sync if kind == "sync" else fsstate.AsyncStore.of(sync)
        roots = {"fsstate": fsstate, "store": store, "session": store.session("s")}
        for names, pieces in rows(system):
            calls = [call for piece in pieces for call in calls_in(piece, roots)]
            assert calls, f"{names}: no call of fsstate in its row"
            for call in calls:
                resolve(call, roots)


def calls_in(piece: str, roots: dict[str, Any]) -> Iterator[ast.expr]:
    """What of a piece of code is about fsstate: the outermost names, with what they are called with."""
    for node in _outermost(ast.parse(piece)):
        root: ast.AST = node
        while isinstance(root, ast.Attribute | ast.Call | ast.Subscript):
            root = root.func if isinstance(root, ast.Call) else root.value
        if isinstance(root, ast.Name) and root.id in roots:
            yield node


def _outermost(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Attribute | ast.Call | ast.Subscript):
            yield child
        # A call's arguments may name something of their own.
        yield from _outermost(child)


def resolve(node: ast.expr, roots: dict[str, Any]) -> Any:
    """What the expression names. A call that ends it is not made."""
    if isinstance(node, ast.Name):
        return roots[node.id]
    if isinstance(node, ast.Attribute):
        return getattr(reached(node.value, roots), node.attr)
    if isinstance(node, ast.Subscript):
        # The async side says `require` for it.
        return reached(node.value, roots).require
    assert isinstance(node, ast.Call)
    function = resolve(node.func, roots)
    _check_keywords(function, [keyword.arg for keyword in node.keywords if keyword.arg is not None])
    return function


def reached(node: ast.expr, roots: dict[str, Any]) -> Any:
    """What the expression gives, to go on from."""
    found = resolve(node, roots)
    if not isinstance(node, ast.Call):
        return found
    assert isinstance(node.func, ast.Attribute)
    assert node.func.attr in GIVES_MORE, f"{ast.unparse(node)}: it is not known what this gives"
    parameters = inspect.signature(found).parameters.values()
    return found(*["n" for parameter in parameters if parameter.default is parameter.empty])


def _check_keywords(function: Callable[..., Any], keywords: list[str]) -> None:
    parameters = inspect.signature(function).parameters.values()
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        assert set(keywords) <= {parameter.name for parameter in parameters}, f"{function}: {keywords}"
