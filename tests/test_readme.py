"""What the README and the examples print for people to copy runs as printed."""

import os
import re
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def run(*command: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, cwd=cwd, env=environment, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_blocks_run_one_after_the_other(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        run(sys.executable, "-c", block, cwd=tmp_path)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"state/agents/planner.json", "state/.fsstate/store.json"} < files
    assert '"status": "idle"' in (tmp_path / "state/agents/planner.json").read_text()


def test_each_command_of_the_readme_exists() -> None:
    shown = set(re.findall(r"fsstate ([a-z]+)", "".join(re.findall(r"^```.*?^```", README, re.MULTILINE | re.DOTALL))))
    known = set(re.findall(r"^  ([a-z]+) ", run(sys.executable, "-m", "fsstate", "--help", cwd=ROOT), re.MULTILINE))
    assert {"demo", "ls", "show", "log", "import", "export"} <= shown <= known


def test_each_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


@pytest.mark.parametrize("example", ["quickstart.py", "quickstart_async.py asyncio", "quickstart_async.py trio"])
def test_quickstarts(example: str, tmp_path: Path) -> None:
    name, *arguments = example.split()
    printed = run(sys.executable, str(ROOT / "examples" / name), str(tmp_path / "state"), *arguments, cwd=tmp_path)
    assert "Traceback" not in printed
    assert (tmp_path / "state" / "sessions").is_dir()


def test_the_chat_service_survives_kill(tmp_path: Path) -> None:
    printed = run(sys.executable, str(ROOT / "examples" / "chat_service.py"), "demo", cwd=tmp_path)
    assert "assistant (complete): You said: remember the milk" in printed
    assert "user (complete): and the bread, and the butter, and the jam" in printed
    assert "assistant (interrupted): You said: and the" in printed


def test_every_example_is_told_of() -> None:
    told = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for example in (ROOT / "examples").glob("*.py"):
        assert example.name in told


def test_the_table_of_promises_is_that_of_the_page_of_guarantees() -> None:
    def table(text: str) -> list[str]:
        lines = text.splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("| operation | kill -9"))
        return list(takewhile(lambda line: line.startswith("|"), lines[start:]))

    promised = table(README)
    assert len(promised) > 10
    assert promised == table((ROOT / "tests/README.md").read_text(encoding="utf-8"))
