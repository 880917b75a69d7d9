"""What the stand-in's qstat and pbsnodes print: folded text, and JSON in the dialects of several builds."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.standins.pbs_job import SERVER, Job, date
from tests.standins.pbs_settings import Queue, Settings

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


def queues_text(settings: Settings) -> str:
    """Return ``qstat -Qf``."""
    return "".join(f"Queue: {name}\n{''.join(_of_queue(queue))}\n" for name, queue in settings.queues.items())


def _of_queue(queue: Queue) -> Iterator[str]:
    limits = {
        "max_queued": None if queue.max_queued is None else f"[u:PBS_GENERIC={queue.max_queued}]",
        "resources_max.mem": None if queue.max_mem_kb is None else f"{queue.max_mem_kb}kb",
        "resources_max.ncpus": queue.max_ncpus,
        "resources_max.walltime": None if queue.max_walltime is None else _clock(queue.max_walltime),
        "acl_user_enable": None if queue.users is None else "True",
        "max_run": None if queue.max_run is None else f"[u:PBS_GENERIC={queue.max_run}]",
    }
    said = {"queue_type": "Execution", **limits, "enabled": queue.enabled, "started": queue.started}
    return (f"    {name} = {value}\n" for name, value in said.items() if value is not None)


def _clock(seconds: int) -> str:
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def server_text(settings: Settings) -> str:
    """Return ``qstat -Bf``."""
    most = "" if settings.max_queued is None else f"    max_queued = [u:PBS_GENERIC={settings.max_queued}]\n"
    return f"Server: {SERVER}\n    server_state = Active\n    default_queue = workq\n{most}"
