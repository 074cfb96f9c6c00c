"""Runs workloads and records them: `python -m tests.crash DIRECTORY`, which reads jobs: `number:workload:kill:plant`.

Where there is a `DIRECTORY/<n>.tree`, what it holds is there before job number n, which then writes to all records that
the workload is about.
"""

from __future__ import annotations

import os
import pickle
import sys
import traceback
from pathlib import Path

from tests.crash.model import build, tree_of
from tests.crash.plants import PLANTS
from tests.crash.recorder import Recorder
from tests.crash.sessions import SESSION_WORKLOADS, Talks, look_at_sessions
from tests.crash.workloads import WORKLOADS, Job, Records, write_all_again


def _record(directory: Path, number: str, job: Job) -> None:
    base = directory / f"{number}.base"
    left = directory / f"{number}.tree"
    build(pickle.loads(left.read_bytes()) if left.exists() else {}, base)  # noqa: S301 - our own file
    recorder = Recorder(directory / f"{number}.trace", base)
    recorder.install()
    if job.plant:
        PLANTS[job.plant]()
    if left.exists():
        write_all_again(Records(base, recorder, 0), WORKLOADS[job.workload].refs)
    elif job.workload in WORKLOADS:
        WORKLOADS[job.workload].run(Records(base, recorder, job.kill))
    else:
        SESSION_WORKLOADS[job.workload].run(Talks(base, recorder, job.kill))
    recorder.mark("end", tree_of(base))


def main(directory: Path) -> None:
    """Carry out jobs as they come, one after the other, and tell the number of each that is done."""
    # Loads what the first use of a store loads, which each fork would for itself else.
    look_at_sessions({}, directory / f"{os.getpid()}.first")
    for line in sys.stdin:
        number, workload, kill, plant = line.rstrip("\n").split(":")
        pid = os.fork()
        if pid == 0:
            try:
                _record(directory, number, Job(workload, int(kill), plant))
            except BaseException:  # noqa: BLE001 - the child must not go on as its parent
                (directory / f"{number}.error").write_text(traceback.format_exc())
            os._exit(0)
        os.waitpid(pid, 0)
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


main(Path(sys.argv[1]))
