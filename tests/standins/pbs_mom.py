"""What pbs_mom does: runs a job's script in a session of its own through a login shell, watches it, signals it.

Each node of the stand-in is this machine; a node is lost by killing what runs in its name.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from tests.standins.pbs_job import Job

BAD_SHELL = 254


class Sessions:
    """The processes of the jobs; session number to processes."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.leaders: dict[str, subprocess.Popen[bytes]] = {}
        self.tasks: dict[int, tuple[str, str, subprocess.Popen[bytes]]] = {}
        """What pbsdsh started: session to job, node, process."""
        for name in ("spool", "mom_priv", "aux", "undelivered"):
            (state / name).mkdir(exist_ok=True)

    def start(self, job: Job) -> int | None:
        """Run the job's script; return the exit status of a job that cannot be started, else None."""
        environment = self.environment(job, job.places[0].node, 0)
        Path(environment["TMPDIR"]).mkdir(mode=0o700, exist_ok=True)
        Path(environment["PBS_NODEFILE"]).write_text("".join(f"{place.node}\n" for place in job.places))
        shell = job.asked.options.get("S") or pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
        if job.asked.command:
            argv, executable, feed = job.asked.command, None, b""
        else:
            script = self.state / "mom_priv" / f"{job.id}.SC"
            script.write_bytes((job.asked.script or "").encode("utf-8", "surrogateescape"))
            script.chmod(0o700)
            argv, executable = [f"-{os.path.basename(shell)}"], shell
            # As /etc/profile.d/pbs.sh would: PBS's commands on PATH; and the node's name, which is not this host's.
            feed = f". {self.state}/profile.sh\n{script}\n".encode()
        with self._spool(job, "OU") as out, self._spool(job, "ER") as err:
            try:
                process = subprocess.Popen(
                    argv,
                    executable=executable,
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=out if job.joins else err,
                    cwd=environment["PBS_JOBDIR"],
                    env=environment,
                    start_new_session=True,
                    umask=int(job.asked.attributes.get("umask", "077"), 8),
                )
            except OSError:
                return BAD_SHELL
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.write(feed)
            process.stdin.close()
        self.leaders[job.id] = process
        return None

    def start_task(self, job: Job, index: int, argv: list[str], task: int) -> subprocess.Popen[bytes] | None:
        """Run a command on one of the job's nodes, as pbsdsh does: with PBS's variables and no other."""
        node = job.places[index].node
        environment = {**self.environment(job, node, job.nodes.index(node)), "PATH": "/bin:/usr/bin"}
        environment["PBS_TASKNUM"] = str(20000000 + task)
        environment["SCALABLE_HPC_NODE"] = node  # which is not this host's name
        with self._spool(job, "OU") as out, self._spool(job, "ER") as err:
            try:
                process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out if job.joins else err,
                                           cwd=environment["PBS_JOBDIR"], env=environment,
                                           start_new_session=True)  # fmt: skip
            except OSError:
                return None
        self.tasks[process.pid] = (job.id, node, process)
        return process

    def environment(self, job: Job, node: str, number: int) -> dict[str, str]:
        user = pwd.getpwuid(os.getuid())
        home = job.variables["PBS_O_HOME"]
        cpus = str(job.places[0].ncpus)
        return {
            "HOME": home, "USER": user.pw_name, "LOGNAME": user.pw_name, "SHELL": user.pw_shell or "/bin/sh",
            "PATH": "/bin:/usr/bin", "PBS_JOBID": job.id, "PBS_JOBNAME": job.name, "PBS_QUEUE": job.queue,
            "PBS_ENVIRONMENT": "PBS_BATCH", "ENVIRONMENT": "BATCH", "PBS_NODEFILE": f"{self.state}/aux/{job.id}",
            "PBS_JOBDIR": home, "PBS_JOBCOOKIE": "0" * 32, "PBS_MOMPORT": "15003", "PBS_NODENUM": str(number),
            "PBS_TASKNUM": "1", "NCPUS": cpus, "OMP_NUM_THREADS": cpus,
            "TMPDIR": f"{self.state}/spool/pbs.{job.id}", "STANDIN_NODE": node, **job.variables,
        }  # fmt: skip

    def _spool(self, job: Job, kind: str):
        path = self._direct(job, kind) or self.state / "spool" / f"{job.id}.{kind}"
        return open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab")

    def _direct(self, job: Job, kind: str) -> Path | None:
        """``-k oed``: written where it belongs from the start."""
        letter = {"OU": "o", "ER": "e"}[kind]
        keep = job.asked.options.get("k", "n")
        return Path(_destination(job, letter, kind)) if "d" in keep and letter in keep else None

    def note(self, job: Job, text: str) -> None:
        """Write a line of PBS's own into the job's standard error."""
        with self._spool(job, "OU" if job.joins else "ER") as err:
            err.write(text.encode())

    def deliver(self, job: Job) -> None:
        """Bring the output home; where there is no such place it stays behind, and the job is none the worse."""
        for letter, kind in (("o", "OU"), ("e", "ER")):
            spooled = self.state / "spool" / f"{job.id}.{kind}"
            if not spooled.exists():
                continue
            unwanted = letter in job.asked.options.get("R", "") or (kind == "ER" and job.joins)
            try:
                if not unwanted:
                    target = _destination(job, letter, kind)
                    shutil.copyfile(spooled, target) if target != "/dev/null" else None
                    if target != "/dev/null":
                        os.chmod(target, 0o600)
                spooled.unlink()
            except OSError:
                spooled.rename(self.state / "undelivered" / spooled.name)
        shutil.rmtree(self.state / "spool" / f"pbs.{job.id}", ignore_errors=True)

    def sessions_of(self, job: Job) -> set[int]:
        own = {self.leaders[job.id].pid} if job.id in self.leaders else set()
        return own | {session for session, (job_id, _, _) in self.tasks.items() if job_id == job.id}

    def processes(self, job: Job) -> list[int]:
        """Every process of the job's sessions that is not a zombie."""
        return _in_sessions(self.sessions_of(job))

    def send(self, job: Job, number: int) -> None:
        for pid in self.processes(job):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def lose_node(self, job: Job, node: str) -> None:
        """Kill what runs there, without a word; what has left its session too, by the variables it was born with."""
        born = (f"PBS_NODEFILE={self.state}/aux/{job.id}".encode(), f"_NODE={node}".encode())
        # All at once, as a power cut would: nobody lives to see another die.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in _born_with(*born):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

    def memory_kb(self, job: Job) -> dict[int, int]:
        """Resident memory of each process."""
        found = {}
        for pid in self.processes(job):
            with contextlib.suppress(OSError, ValueError, IndexError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                found[pid] = pages * os.sysconf("SC_PAGE_SIZE") // 1024
        return found

    def forget(self, job: Job) -> None:
        self.leaders.pop(job.id, None)
        for session in [session for session, task in self.tasks.items() if task[0] == job.id]:
            self.tasks.pop(session)


def _destination(job: Job, letter: str, kind: str) -> str:
    path = job.output_path(letter)
    return os.path.join(path, f"{job.id}.{kind}") if path.endswith("/") or os.path.isdir(path) else path


def _born_with(variable: bytes, end_of_another: bytes) -> list[int]:
    """Processes with this variable, and another one that ends so."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                variables = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
                if variable in variables and any(one.endswith(end_of_another) for one in variables):
                    found.append(int(entry))
    return found


def _in_sessions(sessions: set[int]) -> list[int]:
    if not sessions:
        return []
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) in sessions and fields[0] != "Z":
                    found.append(int(entry))
    return found
