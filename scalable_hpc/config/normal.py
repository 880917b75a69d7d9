"""Makes a section's keys the ones the schema knows: other spellings are renamed, keys without effect are told.

Rule 1: nothing is dropped without a warning that says what is done instead.
Rule 2: no value of a variable becomes shell code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from scalable_hpc.config.issues import Mark, ValidationIssue
from scalable_hpc.config.yaml_lines import Items, Scalar, Section

_NO_CODE = re.compile(r"[\w@%+=:,./-]*")
"""What a shell takes as it stands, quoted or not."""

OTHER_SPELLINGS = {"queue": "partition", "queues": "partitions"}
"""Words of other batch systems, and ours."""

_WITHOUT_EFFECT = {
    "name": "allocations are named scalable-<run>-<allocation>, so that a lost driver's are found again",
    "comm_port": "batch commands are called directly, there is no communicator to reach",
    "threads_per_worker": "each slot is a process; set the component's slots",
    "processes": "tasks always run in processes of their own",
    "dashboard_address": "a session starts no dashboard; progress is shown where the driver runs",
    "logs_location": "job logs lie in the run directory, under logs/",
    "suppress_logs": "logs of allocations that ended cleanly are removed anyway, unless keep_logs is set",
}
"""Keys of a target that manifests of Scalable carry, and what is done instead."""

_SLURM, _PBS, _BOTH, _LOCAL = ("slurm",), ("pbs",), ("slurm", "pbs"), ("local",)
ONLY_FOR = {
    "partition": _BOTH, "account": _BOTH, "exclusive": _BOTH, "extra_directives": _BOTH, "submit_timeout": _BOTH,
    "commands": _BOTH, "inside": _BOTH,
    "qos": _SLURM, "constraint": _SLURM, "gres": _SLURM, "reservation": _SLURM, "mpi": _SLURM,
    "licenses": _SLURM, "clusters": _SLURM, "requeue": _SLURM,
    "signal_lead": ("slurm", "local"),
    "project": _PBS, "place": _PBS, "select_extras": _PBS, "resources": _PBS,
    "capacity": _LOCAL, "max_workers": _LOCAL, "queue_wait": _LOCAL, "kill_wait": _LOCAL,
}  # fmt: skip
"""Settings that not every provider understands, and those that do."""


def normalise(section: Section, where: tuple[str, ...], provider: str | None = None) -> list[ValidationIssue]:
    """Rename and drop keys of a target or a site in place, and return what to say about it.

    Args:
        section: the target or site.
        where: its path in the file.
        provider: the target's; None for a site, which may hold settings of any.
    """
    said: list[ValidationIssue] = []
    for other, ours in OTHER_SPELLINGS.items():
        if other not in section:
            continue
        mark = section.key_marks[other]
        if section.get(ours) is not None:
            text = f"'{other}' and '{ours}' mean the same: write one of them"
            section.issues.append(_issue((*where, other), text, "E_DUPLICATE_KEY", mark))
        section.put(ours, section.drop(other), mark)
    section.issues.extend(_code_from_variables(section.get("setup"), (*where, "setup")))
    for key in list(section):
        reason = None
        if key in _WITHOUT_EFFECT and where:
            reason = _WITHOUT_EFFECT[key]
        elif provider is not None and provider not in ONLY_FOR.get(key, (provider,)):
            reason = f"only targets of provider {' or '.join(ONLY_FOR[key])} use it"
        if reason is not None:
            said.append(
                _issue((*where, key), f"'{key}' has no effect here: {reason}", "W_NO_EFFECT", section.key_marks[key])
            )
            section.drop(key)
    return said


def _code_from_variables(code: Any, where: tuple[str, ...]) -> Iterator[ValidationIssue]:
    """Yield what a variable would put into shell code that is not a plain word there."""
    for part in code if isinstance(code, Items) else [code]:
        for name, value in part.inserted if isinstance(part, Scalar) else ():
            if not _NO_CODE.fullmatch(value):
                text = f"the variable '{name}' holds more than a plain word, which would become shell code: {value!r}"
                issue = _issue(where, text, "E_BAD_VARIABLE", part.mark)
                yield replace(issue, hint=f"write $${{{name}}}: the shell of the job reads it then, and nothing runs")


def _issue(where: tuple[str, ...], message: str, code: str, mark: Mark) -> ValidationIssue:
    return ValidationIssue(".".join(where), message, code, mark.line, mark.file)
