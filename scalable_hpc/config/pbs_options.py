"""Which options, resources and placements a manifest may hand on to qsub.

Rule 1: pure; a problem is told in words that name what to do instead, and None means that there is none.
"""

from __future__ import annotations

import re

from scalable_hpc.config.safety import control_problem, directive_problem

_OPTION = re.compile(r"-(?P<letter>[A-Za-z])(?:\s*(?P<value>.*))?")
_RESOURCE = re.compile(r"(?P<name>[A-Za-z][A-Za-z0-9_.-]*)=(?P<value>.+)")
_PLACE = re.compile(
    r"(?:(?P<arrangement>free|pack|scatter|vscatter)(?::|$))?"
    r"(?:(?P<sharing>excl|exclhost|shared)(?::|$))?(?:group=[A-Za-z][A-Za-z0-9_.-]*)?"
)

_OPTIONS_OF_OURS = {
    "N": "it carries the run's id", "o": "logs belong to the run", "e": "logs belong to the run",
    "j": "logs belong to the run", "k": "logs belong to the run", "R": "logs belong to the run",
    "q": "set queue", "A": "set account", "P": "set project",
    "r": "a lost allocation is replaced under a new name", "J": "each allocation is a job of its own",
    "I": "nobody sits at an allocation", "X": "nobody sits at an allocation", "h": "it would never start",
    "z": "the job's id must be printed", "C": "the script is ours", "S": "the script is bash's",
}  # fmt: skip
"""Options of qsub that the template or the submission sets, and what to do instead."""

_RESOURCES_OF_OURS = {
    "select": "set the component's cpus, memory and gpus, and select_extras", "place": "set place",
    "walltime": "set walltime", "nodes": "set allocations.nodes", "nodect": "set allocations.nodes",
    "ncpus": "set the component's cpus", "ppn": "set the component's cpus", "mem": "set the component's memory",
}  # fmt: skip
_BLOCKS = re.compile(r"\bblock\s*=")


def pbs_option_problem(line: str) -> str | None:
    """Say why the text may not be one more option of qsub, or None."""
    if control := control_problem(line):
        return control
    match = _OPTION.fullmatch(line)
    if match is None:
        return "is not an option of qsub such as '-m abe'"
    letter, value = match["letter"], match["value"] or ""
    if letter in _OPTIONS_OF_OURS:
        return f"sets '-{letter}', which is ours: {_OPTIONS_OF_OURS[letter]}"
    if letter == "W" and _BLOCKS.search(value):
        return "sets '-W block', and a submission must answer at once"
    if letter == "l":
        problems = (resource_problem(one) for one in value.split(","))
        return next((problem for problem in problems if problem is not None), None)
    return None


def resource_problem(text: str) -> str | None:
    """Say why the text may not be a resource of the whole job (``-l name=value``), or None."""
    if problem := directive_problem(text):
        return problem
    match = _RESOURCE.fullmatch(text)
    if match is None:
        return "is not a resource such as 'filesystems=home'"
    if match["name"] in _RESOURCES_OF_OURS:
        return f"sets '{match['name']}', which is ours: {_RESOURCES_OF_OURS[match['name']]}"
    return None


def chunk_problem(text: str) -> str | None:
    """Say why the text may not be a resource of each node (in the select statement), or None."""
    if problem := resource_problem(text):
        return problem
    return "holds ':', '+' or ',', which would begin another resource or chunk" if re.search("[:+,]", text) else None


def place_problem(text: str) -> str | None:
    """Say why the text is not a place statement, or None."""
    if not text or text.endswith(":") or not _PLACE.fullmatch(text):
        return "is not a placement such as 'scatter', 'excl' or 'scatter:excl'"
    return None
