"""What all tests share: the public data sets, Hypothesis profiles, and a check that nothing stays open.

The whole suite runs in a few processes, where pytest-xdist is installed; `-n 0` keeps it in one.
"""

import compileall
import gc
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import fsstate
from tests.crash.tally import CrashTally
from tests.faults.tally import FaultTally
from tests.nonsense.counts import Count
from tests.storms.tally import StormTally

# No deadlines: a durable write takes as long as the disk likes.
hypothesis.settings.register_profile("fast", max_examples=50, deadline=None)
hypothesis.settings.register_profile("soak", max_examples=2000, deadline=None)
hypothesis.settings.load_profile("fast")  # pytest --hypothesis-profile=soak chooses the other

DESCRIPTORS = "/dev/fd"
# Idle for some seconds after use by design, then gone.
KEPT_THREADS = ("Trio thread",)
PATIENCE = 2.0
MOMENT = 0.03
# A test waits for the disk, or for programs, about as long as it works; more would take each other's time.
WORKERS_FOR_EACH_CORE = 2
MOST_WORKERS = 4
# The tests start hundreds of programs. Where PYTHONDONTWRITEBYTECODE is set, each would compile fsstate anew.
sys.dont_write_bytecode = False


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Share the files of the whole suite out to some workers; a part of it would be done before they have started."""
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput") or option.numprocesses is not None:
        return
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not option.keyword
    # Soaks fill the cores by themselves; a debugger, and what is printed, need the one process.
    if not is_whole or option.markexpr != "not soak" or option.usepdb or option.capture == "no":
        return
    option.numprocesses = min(WORKERS_FOR_EACH_CORE * (os.cpu_count() or 1), MOST_WORKERS)
    # What a module's fixtures prepare is prepared once; and the modules of few long tests do not come last.
    option.dist, option.loadscopereorder = "loadfile", False


def pytest_configure(config: pytest.Config) -> None:
    """Compile fsstate once, before several processes find that they must."""
    if not hasattr(config, "workerinput"):
        compileall.compile_dir(Path(fsstate.__file__).parent, quiet=2)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how much was tried: by the tests of crashes, of faults, with random input, and in storms.

    Here, as what shares tests out loads no other conftest.
    """
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    for kind in (CrashTally, FaultTally, Count, StormTally):
        tried = kind.sum_of(reports)
        if tried is not None:
            terminalreporter.write_line(str(tried))


def pytest_collection_finish() -> None:
    """Let no collection of garbage look again at what was there before the tests: their code, and the libraries'."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The public data sets, which lie beside the project and are not part of it."""
    path = Path(__file__).parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("needs the public data sets in ../shared/data")
    return path


@pytest.fixture(scope="session")
def soak_seconds() -> float:
    """How long one test marked `soak` should go on."""
    return float(os.environ.get("FSSTATE_SOAK_SECONDS", "20"))


def open_files() -> dict[tuple[int, int, int], str]:
    """The descriptors of files and directories that are open now, told by number, device and inode."""
    found = {}
    for name in os.listdir(DESCRIPTORS):
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor that listed the others
            continue
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            found[int(name), status.st_dev, status.st_ino] = name
    return found


def path_of(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        return f"descriptor {descriptor}"


def left_open(files: dict[tuple[int, int, int], str], threads: set[threading.Thread]) -> list[str]:
    """What is open now and was not then."""
    more_files = [path_of(name) for key, name in open_files().items() if key not in files]
    more_threads = [t.name for t in threading.enumerate() if t not in threads and not t.name.startswith(KEPT_THREADS)]
    return more_files + more_threads


@pytest.fixture(autouse=True)
def nothing_stays_open(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves descriptors of files or threads behind; `may_leak` excuses one."""
    if request.node.get_closest_marker("may_leak") or not os.path.isdir(DESCRIPTORS):
        yield
        return
    files, threads = open_files(), set(threading.enumerate())
    yield
    began = time.monotonic()
    while left := left_open(files, threads):
        waited = time.monotonic() - began
        if waited > PATIENCE:
            pytest.fail(f"left open: {', '.join(left)}", pytrace=False)
        # What only a forgotten object holds goes with it, which most likely is young: to look at all takes far longer.
        gc.collect(1 if waited < MOMENT else 2)
        # Threads that were told to end need a moment.
        time.sleep(0.001)
