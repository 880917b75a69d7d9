"""A job of the stand-in PBS: what it is, and its attributes as ``qstat -f`` names and orders them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from tests.standins.pbs_depend import Wait, told
from tests.standins.pbs_qsub import Asked, chunks_of, kilobytes_of

SERVER = "pbshead"


@dataclass
class Place:
    """One chunk of a job, on a node."""

    node: str
    ncpus: int
    mem_kb: int
    ngpus: int = 0


@dataclass
class Job:
    number: int
    asked: Asked
    user: str
    queue: str
    cwd: str
    umask: int
    variables: dict[str, str]
    arguments: str
    created: float = field(default_factory=time.time)
    state: str = "Q"
    substate: int = 10
    comment: str = ""
    hold: str = "n"
    run_count: int = 0
    places: list[Place] = field(default_factory=list)
    started: float | None = None
    suspended_s: float = 0.0
    changed: float = field(default_factory=time.time)
    ended: float | None = None
    exit_status: int | None = None
    estimate: float | None = None
    """When the scheduler thinks that it will start."""
    used_mem_kb: int = 0
    used_s: float | None = None
    diagnosis: str = ""
    session: int | None = None
    # What is done to it.
    killed: tuple[str, int] | None = None
    """The resource that it exceeded, and the exit status for that."""
    deleted_by: str = ""
    kill_at: float | None = None
    """When SIGKILL follows."""
    is_rerun: bool = False
    node_lost_at: float | None = None
    sister_lost: bool = False
    waits_for_end: list[Any] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)
    is_waited_for: list[tuple[str, Job]] = field(default_factory=list)
    """By whom, and how."""

    @property
    def id(self) -> str:
        return f"{self.number}.{SERVER}"

    @property
    def name(self) -> str:
        return self.asked.name

    @property
    def is_over(self) -> bool:
        return self.state == "F"

    @property
    def can_rerun(self) -> bool:
        return self.asked.options.get("r", "y") == "y"

    @property
    def nodes(self) -> list[str]:
        return list(dict.fromkeys(place.node for place in self.places))

    @property
    def joins(self) -> bool:
        return self.asked.options.get("j", "n") != "n"

    @property
    def ran_for(self) -> float:
        return 0.0 if self.started is None else (self.ended or time.time()) - self.started - self.suspended_s

    @property
    def memory_kb(self) -> int | None:
        """What all chunks ask for together."""
        sizes = [kilobytes_of(chunk["mem"]) or 0 for count, chunk in chunks_of(self.asked.resources) if "mem" in chunk
                 for _ in range(count)]  # fmt: skip
        return sum(sizes) or None

    @property
    def vnodes(self) -> str:
        parts = []
        for place in self.places:
            mem = f":mem={place.mem_kb}kb" if place.mem_kb else ""
            gpus = f":ngpus={place.ngpus}" if place.ngpus else ""
            parts.append(f"({place.node}:ncpus={place.ncpus}{mem}{gpus})")
        return "+".join(parts)

    def output_path(self, which: str) -> str:
        """Where ``o`` or ``e`` goes, as asked for or by its name."""
        path = self.asked.options.get(which, "")
        if ":" in path:
            path = path.partition(":")[2]
        name = f"{self.name}.{which}{self.number}"
        return (path if path.startswith("/") else f"{self.cwd}/{path}") if path else f"{self.cwd}/{name}"

    def attributes(self) -> list[tuple[str, str]]:
        """Name and value, in the order of a real server; which there are depends on the state."""
        asked, used = self.asked, self.state in "RSEF" and self.used_s is not None
        found: list[tuple[str, str | None]] = [
            ("Job_Name", self.name),
            ("Job_Owner", f"{self.user}@{SERVER}"),
            ("resources_used.cpupercent", "0" if used else None),
            ("resources_used.cput", "00:00:00" if used else None),
            ("resources_used.diag_messages", self.diagnosis or None),
            ("resources_used.mem", f"{self.used_mem_kb}kb" if used else None),
            ("resources_used.ncpus", str(sum(place.ncpus for place in self.places)) if used else None),
            ("resources_used.vmem", f"{self.used_mem_kb}kb" if used else None),
            ("resources_used.walltime", span(self.used_s) if used and self.used_s is not None else None),
            ("job_state", self.state),
            ("queue", self.queue),
            ("server", SERVER),
            ("Account_Name", asked.options.get("A")),
            ("Checkpoint", "u"),
            ("ctime", date(self.created)),
            ("depend", told(self, SERVER)),
            ("Error_Path", f"{SERVER}:{self.output_path('e')}"),
            ("exec_host", self._exec_host() if self.places else None),
            ("exec_vnode", self.vnodes if self.places else None),
            ("Hold_Types", self.hold),
            ("Join_Path", asked.options.get("j", "n")),
            ("Keep_Files", asked.options.get("k", "n")),
            ("Mail_Points", asked.options.get("m", "a")),
            ("mtime", date(self.changed)),
            ("Output_Path", f"{SERVER}:{self.output_path('o')}"),
            ("Priority", asked.options.get("p", "0")),
            ("qtime", date(self.created)),
            ("Rerunable", str(self.can_rerun)),
            *((f"Resource_List.{name}", value) for name, value in self._resource_list()),
            ("stime", date(self.started) if self.started is not None and self.state in "RSEF" else None),
            ("obittime", date(self.ended) if self.ended is not None and self.state == "F" else None),
            ("session_id", str(self.session) if self.session is not None and self.substate != 41 else None),
            ("jobdir", self.variables["PBS_O_HOME"] if self.session is not None and self.substate != 41 else None),
            ("substate", str(self.substate)),
            ("Variable_List", ",".join(f"{name}={_escaped(value)}" for name, value in self.variables.items())),
            ("comment", self.comment or None),
            ("etime", date(self.created)),
            ("run_count", str(self.run_count) if self.run_count else None),
            # as the reference guide has it; the place among the others is not recorded
            ("estimated.start_time", date(self.estimate) if self.estimate is not None and self.state == "Q" else None),
            ("Stageout_status", "1" if self.state == "F" and self.exit_status is not None else None),
            ("Exit_status", str(self.exit_status) if self.exit_status is not None else None),
            ("Submit_arguments", self.arguments),
            ("history_timestamp", str(int(self.ended or self.changed)) if self.state == "F" else None),
            ("project", asked.options.get("P", "_pbs_project_default")),
            ("Submit_Host", SERVER),
        ]  # fmt: skip
        return [(name, value) for name, value in found if value is not None]

    def _resource_list(self) -> list[tuple[str, str]]:
        resources = dict(self.asked.resources)
        chunks = chunks_of(resources)
        totals: dict[str, str] = {}
        for name in ("ncpus", "ngpus", "mpiprocs"):
            total = sum(count * int(chunk.get(name, 0)) for count, chunk in chunks)
            if total:
                totals[name] = str(total)
        sizes = [chunk["mem"] for _, chunk in chunks if "mem" in chunk]
        if sizes:
            totals["mem"] = sizes[0] if len(chunks) == 1 and chunks[0][0] == 1 else f"{self.memory_kb}kb"
        totals["nodect"] = str(sum(count for count, _ in chunks))
        totals["place"] = resources.get("place", "free" if "select" in resources else "pack")
        totals["select"] = resources.get("select") or "+".join(
            ":".join([str(count), *(f"{name}={value}" for name, value in chunk.items())]) for count, chunk in chunks
        )
        if (walltime := self.asked.walltime_s) is not None:
            totals["walltime"] = span(walltime)
        others = {name: value for name, value in resources.items() if name not in totals and name != "nodes"}
        return sorted({**others, **totals}.items())

    def _exec_host(self) -> str:
        return "+".join(f"{place.node}/0" + (f"*{place.ncpus}" if place.ncpus > 1 else "") for place in self.places)


def date(moment: float) -> str:
    return time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(moment))


def span(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace('"', '\\"')
