"""Which text may reach a directive line, a shell word or a variable name: one rule, for files and for templates."""

from __future__ import annotations

import re

_DIRECTIVE = re.compile(r"[A-Za-z0-9_./:,=@%+\[\]*&|()!-]+")
"""Names, paths, lists and constraint expressions; nothing that Slurm's own word splitting or a shell reads."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPTION = re.compile(r"--(?P<long>[a-z][a-z0-9-]*)(?:[= ].*)?|-(?P<short>[A-Za-z])(?:[ =]?.*)?")
_OURS = {
    "job-name": "it carries the run's id", "comment": "it carries the run's id", "output": "logs belong to the run",
    "nodes": "set allocations.nodes", "ntasks": "one worker runs on each node",
    "ntasks-per-node": "one worker runs on each node", "cpus-per-task": "set the component's cpus",
    "mem": "set the component's memory", "gpus-per-node": "set the component's gpus", "time": "set walltime",
    "partition": "set partition", "account": "set account", "qos": "set qos", "constraint": "set constraint",
    "gres": "set gres", "reservation": "set reservation", "exclusive": "set exclusive", "signal": "set signal_lead",
    "no-kill": "a job of several nodes goes on without one that it loses anyway",
    "requeue": "set requeue", "no-requeue": "it is given unless requeue is set",
    "licenses": "set licenses", "clusters": "set clusters", "cluster": "set clusters",
    "array": "set allocations.array", "wrap": "the script is ours", "parsable": "it is always given",
    "wait": "a submission must answer at once", "test-only": "plan shows what would be submitted",
    "help": "it submits nothing", "usage": "it submits nothing", "version": "it submits nothing",
    "chdir": "set work_dir", "exclude": "bad nodes are excluded by what is seen of them",
}  # fmt: skip
"""Options of sbatch that the template or the submission sets, and what to do instead."""
_SHORT = {
    "J": "job-name", "o": "output", "N": "nodes", "n": "ntasks", "c": "cpus-per-task", "t": "time", "p": "partition",
    "A": "account", "q": "qos", "C": "constraint", "a": "array", "D": "chdir", "x": "exclude",
    "L": "licenses", "M": "clusters", "W": "wait", "h": "help", "V": "version",
}  # fmt: skip


def control_problem(text: str) -> str | None:
    """Say why the text is not one printable line, or None."""
    return "holds a line break or a control character" if _CONTROL.search(text) else None


def directive_problem(text: str) -> str | None:
    """Say why the text may not stand in a directive line, or None."""
    if not text:
        return "is empty"
    if control := control_problem(text):
        return control
    if text.startswith("-"):
        return "starts with a dash, which would make it an option"
    if not _DIRECTIVE.fullmatch(text):
        return "holds a character that a directive line cannot carry (space, quote, $, ;, #, ...)"
    return None


def variable_problem(name: str) -> str | None:
    """Say why the text is not the name of an environment variable, or None."""
    return None if _VARIABLE_NAME.fullmatch(name) else "is not a variable name"


def option_shape_problem(line: str) -> str | None:
    """Say why the text is not an option of any batch system, or None."""
    if control := control_problem(line):
        return control
    return None if _OPTION.fullmatch(line) else "is not an option such as '--mail-type=END' or '-m abe'"


def option_problem(line: str) -> str | None:
    """Say why the text may not be one more option of sbatch, or None."""
    if control := control_problem(line):
        return control
    match = _OPTION.fullmatch(line)
    if match is None:
        return "is not an option such as '--mail-type=END'"
    name = match["long"] or _SHORT.get(match["short"], match["short"])
    return f"sets '--{name}', which is ours: {_OURS[name]}" if name in _OURS else None
