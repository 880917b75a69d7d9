"""The environments that PBS's commands are run in.

Rule 1: pure. What would change a command behind our back is taken out; the rest is the user's. The server's name
(``PBS_SERVER``, ``PBS_DEFAULT``) and the time zone stay: dates are read in the zone that they are printed in.
"""

from __future__ import annotations

from collections.abc import Mapping

_OURS_TO_SAY = frozenset({"PBS_DPREFIX"})
"""It would make ``#PBS`` lines mere comments."""

_OF_AN_ENCLOSING_JOB = frozenset({"PBS_JOBID", "PBS_JOBNAME", "PBS_NODEFILE", "PBS_ARRAY_ID", "PBS_ARRAY_INDEX"})
"""A driver that is a job itself is not what it submits."""


def query_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of qstat, qselect and qdel: plain words."""
    return {**environ, "LC_ALL": "C"}


def submit_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of qsub; PBS hands none of it on to the job, as ``-V`` is not given."""
    kept = {
        name: value for name, value in environ.items() if name not in _OURS_TO_SAY and name not in _OF_AN_ENCLOSING_JOB
    }
    return {**kept, "LC_ALL": "C"}
