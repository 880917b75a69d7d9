"""What the stand-in's qstat and pbsnodes print: folded text, and JSON in the dialects of several builds."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from tests.standins.pbs_job import SERVER, Job, date

WIDTH = 78
"""Where qstat breaks a line, the tab counted as eight."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+|inf(inity)?|nan)", re.IGNORECASE)


def records(jobs: Iterable[Job], *, wide: bool = False) -> str:
    """``qstat -f``."""
    text = []
    for job in jobs:
        lines = [f"Job Id: {job.id}", *(attribute(name, value, wide=wide) for name, value in job.attributes())]
        text.append("\n".join(lines) + "\n\n")
    return "".join(text)


def attribute(name: str, value: str, *, wide: bool = False) -> str:
    """One attribute, broken as qstat breaks it: at commas where a piece no longer fits, else anywhere."""
    text = f"    {name} = "
    if wide:
        return text + value
    column, is_first = len(text), True
    for number, piece in enumerate(value.split(",")):
        if number:
            text += ","
            column += 1
        if column + len(piece) + (number < value.count(",")) <= WIDTH + 1:
            text += piece
            column += len(piece)
        else:
            if not is_first:
                text, column = text + "\n\t", 8
            for letter in piece:
                if column > WIDTH:
                    text, column = text + "\n\t", 8
                text += letter
                column += 1
        is_first = False
    return text


def table(jobs: Iterable[Job]) -> str:
    """``qstat``; names and ids are cut, which is why nobody should read it."""
    rows = [f"{job.id:<17.17} {job.name:<16.16} {job.user:<16.16}  {'0':>8} {job.state:>1} {job.queue:<16.16}"
            for job in jobs]  # fmt: skip
    head = ["Job id            Name             User              Time Use S Queue",
            "----------------  ---------------- ----------------  -------- - -----"]  # fmt: skip
    return "\n".join([*head, *rows]) + "\n" if rows else ""


def as_json(jobs: list[Job], dialect: str, version: str, *, asked_by_id: bool) -> str:
    """``qstat -f -F json``."""
    if dialect == "first-only" and asked_by_id:
        jobs = jobs[:1]
    plain = {"timestamp": int(time.time()), "pbs_version": version, "pbs_server": SERVER}
    if dialect != "release":
        if jobs:
            plain["Jobs"] = {job.id: _nested(job) for job in jobs}
        return json.dumps(plain, indent="\t", ensure_ascii=False, separators=(",", ":\t")) + "\n"
    body = ",\n".join(f'        "{job.id}":{{\n' + _release(_nested(job), 12) + "\n        }" for job in jobs)
    head = ",\n".join(f'    "{name}":{json.dumps(value)}' for name, value in plain.items())
    return "{\n" + head + (',\n    "Jobs":{\n' + body + "\n    }" if jobs else "") + "\n}"


def _nested(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in job.attributes():
        outer, _, inner = name.partition(".")
        if inner:
            found.setdefault(outer, {})[inner] = int(value) if value.isdigit() else value
        elif name == "Variable_List":
            found[name] = dict(pair.partition("=")[::2] for pair in value.split(","))
        else:
            found[name] = int(value) if name in ("substate", "Priority", "run_count", "Exit_status") else value
    return found


def _release(value: Mapping[str, Any], indent: int) -> str:
    """As the encoder of 23.06.06 does: what looks like a number is printed bare, other bytes in caret notation."""
    lines = []
    for name, one in value.items():
        if isinstance(one, dict):
            lines.append(f'{" " * indent}"{name}":{{\n{_release(one, indent + 4)}\n{" " * indent}}}')
        else:
            text = str(one)
            bare = _NUMBER.fullmatch(text) and not (text.startswith("0") and text[1:].isdigit())
            quoted = text if bare else '"' + "".join(map(_caret, text)) + '"'
            lines.append(f'{" " * indent}"{name}":{quoted}')
    return ",\n".join(lines)


def _caret(letter: str) -> str:
    code = ord(letter)
    if code < 32:
        return f"^{chr(code + 64)}"
    return letter if code < 127 else "".join(f"M-{chr(byte & 0x7F)}" for byte in letter.encode())


def nodes_text(nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """``pbsnodes -a``."""
    text = []
    for name, node in nodes.items():
        lines = [name, f"     Mom = {name}", "     ntype = PBS", f"     state = {node['state']}"]
        if node["jobs"]:
            lines.append("     jobs = " + ", ".join(f"{job_id}/0" for job_id in node["jobs"]))
        if node["state"] == "down":
            lines.append("     comment = node down: communication closed")
        lines += [f"     resources_available.host = {name}", f"     resources_available.mem = {node['mem_kb']}kb",
                  f"     resources_available.ncpus = {node['ncpus']}", f"     resources_available.vnode = {name}",
                  f"     resources_assigned.ncpus = {node['used']}", "     resv_enable = True",
                  "     sharing = default_shared", f"     last_state_change_time = {date(node['since'])}"]  # fmt: skip
        text.append("\n".join(lines) + "\n\n")
    return "".join(text)


def bad_nodes_text(nodes: Mapping[str, Mapping[str, Any]]) -> str:
    """``pbsnodes -l``."""
    return "".join(
        f"{name:<20} {node['state']} node down: communication closed\n"
        for name, node in nodes.items()
        if node["state"] == "down"
    )
