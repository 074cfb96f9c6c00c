"""The doctor: looks at every file of a store, says what is wrong with it, and mends what can be mended without loss.

- `findings`: what is found, and why it matters
- `examination`: the pass over the files
- `documents`, `logs`, `places`: judging what is found there
- `quarantine`: where that goes which can only be taken away
"""

from fsstate.doctor.examination import examine
from fsstate.doctor.findings import KINDS, DoctorReport, Finding, Severity

__all__ = ["KINDS", "DoctorReport", "Finding", "Severity", "examine"]
