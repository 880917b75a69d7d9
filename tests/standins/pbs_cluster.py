"""The stand-in PBS itself: queueing, placing, starting, watching and ending jobs on nodes that are this machine.

``tick`` does what is due; ``pbs_answers`` has what the commands ask of it.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.standins.pbs_depend import HELD, is_in_vain
from tests.standins.pbs_job import Job
from tests.standins.pbs_mom import Sessions
from tests.standins.pbs_place import most_of_a_node, place
from tests.standins.pbs_settings import Queue, Settings, read_settings

FIRST_ID, BLOCK = 1, 1000
"""Ids are handed out in blocks: after a restart of the server they begin at the next one."""
MOST_STARTS = 20
"""That may fail before the server holds a job."""


class Cluster:
    """Jobs and nodes, and everything that becomes of them by itself."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.settings = Settings()
        self._stamp: object = None
        self.jobs: dict[int, Job] = {}
        self.next_id = FIRST_ID
        self.down: dict[str, float] = {}
        """Node to since when."""
        self.sessions = Sessions(state)
        self._was_down = False
        self._next_cycle = self._next_poll = 0.0
        self._exits: dict[int, int] = {}
        (state / "profile.sh").write_text(
            f'export PATH="{state}/bin:$PATH" SCALABLE_HPC_NODE="$STANDIN_NODE"\nunset STANDIN_NODE\n'
        )

    # What time brings.

    def tick(self) -> None:
        self._read_settings()
        self._reap()
        now = time.time()
        for job in [job for job in self.jobs.values() if not job.is_over]:
            if job.state in "RS":
                self._watch_node(job, now)
            if job.state == "R" and job.node_lost_at is None:
                self._watch(job, now)
            elif job.state == "E" and self.settings.server == "up" and now - (job.ended or 0) > self.settings.exiting_s:
                self._finish(job)
        if self.settings.server == "up":
            self.look_at_waits()
        if now >= self._next_poll:
            self._next_poll = now + self.settings.poll_s
            for job in [job for job in self.jobs.values() if job.state == "R" and job.node_lost_at is None]:
                self._poll(job, now)
        if now >= self._next_cycle and self.settings.scheduling and self.settings.server == "up":
            self._next_cycle = now + self.settings.cycle_s
            self._schedule()

    def _read_settings(self) -> None:
        path = self.state / "settings.json"
        stamp = (path.stat().st_mtime_ns, path.stat().st_ino) if path.exists() else None
        if stamp != self._stamp:
            self._stamp, self.settings = stamp, read_settings(path)
        if self._was_down and self.settings.server == "up":
            self.next_id = (self.next_id // BLOCK + 1) * BLOCK
        self._was_down = self.settings.server != "up"

    def _reap(self) -> None:
        leaders = {process.pid: process for process in self.sessions.leaders.values()}
        tasks = {session: task[2] for session, task in self.sessions.tasks.items()}
        for pid, process in {**leaders, **tasks}.items():
            if pid not in self._exits and (code := process.poll()) is not None:
                self._exits[pid] = code if code >= 0 else 256 - code

    def exit_of(self, pid: int) -> int | None:
        """How a process ended, as mom counts: 256 and more for signals."""
        return self._exits.get(pid)

    def look_at_waits(self) -> None:
        """Release what has waited for other jobs long enough, and end what waits in vain."""
        for job in [job for job in self.jobs.values() if job.substate == HELD]:
            if is_in_vain(job):
                self.over(job)

    # Scheduling.

    def _schedule(self) -> None:
        for job in [job for job in self.jobs.values() if job.state == "Q"]:
            queue = self.settings.queues[job.queue]
            comment = self._obstacle(job, queue)
            if comment is None:
                self._start(job)
            else:
                job.comment, job.estimate = comment, self._estimate() if "Insufficient" in comment else None

    def _estimate(self) -> float | None:
        """When the first of the running jobs has had its walltime."""
        ends = [one.started + one.asked.walltime_s for one in self.jobs.values()
                if one.state == "R" and one.started is not None and one.asked.walltime_s is not None]  # fmt: skip
        return min(ends, default=None) if self.settings.estimates else None

    def _obstacle(self, job: Job, queue: Queue) -> str | None:
        if not queue.started:
            return "Not Running: Queue not started."
        running = [one for one in self.jobs.values() if one.state in "RES" and one.queue == job.queue]
        if queue.max_run is not None and len(running) >= queue.max_run:
            return "Not Running: User has reached queue limited running job limit."
        for name, asked, most in most_of_a_node(job, self.settings.nodes):
            if asked > most:
                return f"Can Never Run: Insufficient amount of resource: {name} (R: {asked} A: {most} T: {most})"
        nodes = {name: node for name, node in self.settings.nodes.items() if name not in self.down}
        places = place(job, self.jobs.values(), nodes)
        if places is None:
            return "Not Running: Insufficient amount of resource: ncpus "
        job.places = places
        return None

    def _start(self, job: Job) -> None:
        now = time.time()
        job.run_count += 1
        if self.settings.start_fails:
            self._reject(job)
            return
        job.state, job.substate, job.started, job.changed = "R", 41, now, now
        job.used_s, job.session, job.ended = None, None, None
        job.comment = f"Job run at {time.strftime('%a %b %d at %H:%M', time.localtime(now))} on {job.vnodes}"
        failed = self.sessions.start(job)
        if failed is not None:
            job.exit_status = failed
            self._exiting(job, now)

    def _reject(self, job: Job) -> None:
        """The node would not have it: it waits again, and is held when that has happened too often."""
        job.places = []
        if job.run_count > MOST_STARTS:
            job.state, job.substate, job.hold = "H", 20, "s"
            job.comment = "job held, too many failed attempts to run"

    # Running.

    def _watch(self, job: Job, now: float) -> None:
        """Show the session after a while; notice the end of the login shell and of what it left."""
        leader = self.sessions.leaders[job.id].pid
        if job.substate == 41 and now - (job.started or now) > self.settings.session_after_s:
            job.substate, job.session, job.used_s = 42, leader, job.ran_for
        code = self.exit_of(leader)
        if code is None:
            return
        is_being_killed = job.kill_at is not None
        if self.sessions.processes(job):
            if not is_being_killed:  # the script is over: what it left behind goes
                self.sessions.send(job, signal.SIGKILL)
            return
        job.exit_status = code
        self._exiting(job, now)

    def _exiting(self, job: Job, now: float) -> None:
        job.ended, job.changed = now, now
        if job.is_rerun:
            self.requeue(job)
            return
        job.used_s = job.ran_for
        if job.killed is not None:
            job.exit_status = job.killed[1]
        job.state, job.substate = "E", 51
        self.sessions.deliver(job)

    def _finish(self, job: Job) -> None:
        if job.killed is not None:
            suffix, job.substate = f" and exceeded resource {job.killed[0]}", 93
        elif job.deleted_by:
            suffix, job.substate = "", 91
        elif job.sister_lost:
            suffix, job.substate = "", 93
        else:
            suffix, job.substate = (" and finished", 92) if job.exit_status == 0 else (" and failed", 93)
        job.comment += suffix
        self.over(job)

    def over(self, job: Job) -> None:
        """Make the job part of the history; where none is kept, of nothing."""
        job.state = "F"
        job.ended = job.ended or time.time()
        self.sessions.forget(job)
        for answer in job.waits_for_end:
            answer(job.exit_status or 0)
        if not self.settings.history:
            self.jobs.pop(job.number, None)

    def _poll(self, job: Job, now: float) -> None:
        """What mom does every so often: usage, walltime, memory, and SIGKILL after SIGTERM."""
        settings, walltime = self.settings, job.asked.walltime_s
        memory = self.sessions.memory_kb(job)
        job.used_mem_kb = max(job.used_mem_kb, sum(memory.values()))
        if job.substate == 42:
            job.used_s = job.ran_for
        if job.kill_at is not None:
            if now >= job.kill_at:
                self.sessions.send(job, signal.SIGKILL)
        elif walltime is not None and job.ran_for > walltime:
            words = f"walltime {int(job.ran_for)} exceeded limit {int(walltime)}"
            self._exceed(job, "walltime", settings.walltime_status, words)
        elif job.memory_kb is not None and sum(memory.values()) > job.memory_kb:
            if settings.memory == "enforce":
                self._exceed(job, "mem", -27, f"mem {sum(memory.values())}kb exceeded limit {job.memory_kb}kb")
            elif settings.memory == "cgroup":
                job.diagnosis = f'\'{{"{job.places[0].node}": "Cgroup mem limit exceeded"}}\''
                self.sessions.note(job, "Cgroup mem limit exceeded: oom-kill\n")
                os.kill(max(memory, key=lambda pid: memory[pid]), signal.SIGKILL)

    def _exceed(self, job: Job, resource: str, status: int, words: str) -> None:
        self.sessions.note(job, f"=>> PBS: job killed: {words}\n")
        if status < 0:
            job.killed = (resource, status)
        self.terminate(job)

    def terminate(self, job: Job) -> None:
        """SIGTERM to every process at once, SIGKILL later."""
        job.kill_at = time.time() + self.settings.kill_delay_s
        self.sessions.send(job, signal.SIGTERM)

    # Troubles.

    def _watch_node(self, job: Job, now: float) -> None:
        if job.node_lost_at is None or now - job.node_lost_at < self.settings.node_fail_requeue_s:
            return
        if self.settings.server != "up":
            return
        if job.can_rerun:
            self.requeue(job)
        else:
            job.exit_status, job.substate, job.ended = -20, 93, now
            self.over(job)

    def requeue(self, job: Job) -> None:
        """Make it wait again, under its own id."""
        self.sessions.forget(job)
        job.state, job.substate, job.places, job.started, job.ended = "Q", 10, [], None, None
        job.node_lost_at, job.is_rerun, job.kill_at, job.exit_status, job.session = None, False, None, None, None
        job.changed = time.time()

    def lose(self, node: str) -> None:
        """Cut a node's power: what runs there dies, and the server learns that it is down, no more."""
        self.down[node] = time.time()
        for job in [job for job in self.jobs.values() if job.state in "RS" and node in job.nodes]:
            if job.places[0].node == node:
                job.node_lost_at = time.time()
            else:
                job.sister_lost = True
            self.sessions.lose_node(job, node)

    def end_everything(self) -> None:
        """Leave no process behind."""
        for job in self.jobs.values():
            self.sessions.send(job, signal.SIGKILL)
