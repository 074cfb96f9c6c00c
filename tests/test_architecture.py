"""Imports go down floors only, never in circles, and never into the insides of another room."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

# A room is a module, or a package with its insides; the rooms of an open house are its modules. `.` is what
# `import fsstate` gives.
FLOORS = """
errors
codec forks lazy layout mounts names times visible ids merge models yaml_text yaml_edits frontmatter options keys \
conditions \
merging merging.versions merging.lines merging.stamps merging.notes \
backends backends.base backends.contents backends.files backends.memory
queries cursors retention merging.entries merging.marked merging.documents diff_text
trash conflict_copies
sweeper trimming prunable document_changes
documents collection markdown journal
index migrations search projection lifecycle ledger belongings auto_prune \
record_types rules ownership shared record_documents record_places record_view recovery migrator records \
owning_records single
conversation streams digests session session_documents session_view session_lists session_retention session_scope \
owned_sessions sessions messages message_reader tool_calls events steps embedded seeded_log summaries checkpoints \
goals searchable searcher stats \
merging.logs merging.files \
dynamic_tools session_config runs audits jobs sources settings agents workflows \
catalogue conflicts git
doctor
store
aio
.
cli __main__ integrations integrations.claude_code integrations.codewhale integrations.files \
integrations.items integrations.landing integrations.lineage integrations.oxios integrations.pages \
integrations.session_json integrations.sqlite integrations.whole
"""
OPEN = {"fsstate", "fsstate.backends", "fsstate.integrations", "fsstate.merging"}

FLOOR_OF = {
    f"fsstate.{room}".rstrip("."): floor for floor, rooms in enumerate(FLOORS.splitlines()) for room in rooms.split()
}
ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "fsstate").rglob("*.py"))
}


def room_of(module: str) -> str:
    if module in FLOOR_OF:
        return module
    parent = module.rpartition(".")[0]
    assert parent not in OPEN, f"{module} has no floor yet: give it one"
    return room_of(parent)


def imports(module: str) -> Iterator[str]:
    """What a module imports of the package, wherever in it: in functions and for type checkers only, too."""
    for node in ast.walk(ast.parse(MODULES[module].read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "fsstate")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} line {node.lineno}: import by the whole name"
            source = node.module or ""
            for name in (f"{source}.{alias.name}" for alias in node.names if source.partition(".")[0] == "fsstate"):
                private = name.rpartition(".")[2].startswith("_") and not name.endswith("__")
                yield name if name in MODULES or private else source


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_and_not_into_insides(module: str) -> None:
    room = room_of(module)
    for target in imports(module):
        there = room_of(target)
        assert FLOOR_OF[there] <= FLOOR_OF[room], f"{module} imports upward: {target}"
        assert there in {room, target}, f"{module} imports the insides of {there}: {target}"


def test_imports_run_in_no_circle() -> None:
    TopologicalSorter({module: set(imports(module)) - {module} for module in MODULES}).prepare()
