"""What each command of the stand-in PBS answers: standard output, standard error, exit code."""

from __future__ import annotations

import pwd
import re
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.standins import pbs_print
from tests.standins.pbs_cluster import Cluster
from tests.standins.pbs_control import JOB_VERBS, NODE_VERBS
from tests.standins.pbs_depend import Wait, hold, read_depend
from tests.standins.pbs_job import SERVER, Job
from tests.standins.pbs_qsub import Refused, chunks_of, kilobytes_of, read_request

Reply = tuple[str, str, int]
_ID = re.compile(r"(\d+)(\[\d*\])?(?:\.(.*))?")
_QDEL_USAGE = "usage:\n\tqdel [-W force|suppress_email=X] [-x] job_identifier...\n\tqdel --version\n"
_QSTAT_USAGE = "usage: qstat [-f] [-x] [-w] [-F json|dsv] [job_identifier...]\n"
_REFUSED = "Connection refused\n"


class Answers:
    """The commands, by name; ``later`` is called with the reply of one that waits for something."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._last_words = ""

    def answer(self, request: dict[str, Any], later: Callable[[Reply], None]) -> Reply | None:
        name, argv = request["command"], request["argv"]
        if argv == ["--version"]:
            return f"pbs_version = {self.cluster.settings.version}\n", "", 0
        if self.cluster.settings.server != "up":
            return _server_is_down(name)
        return getattr(self, name)(request, later)

    # Submitting.

    def qsub(self, request: dict[str, Any], later: Callable[[Reply], None]) -> Reply | None:
        settings = self.cluster.settings
        try:
            job = self._new_job(request)
        except Refused as err:
            words = err.stderr
            if err.stale and settings.stale_text and self._last_words:
                words = self._last_words
            elif err.rc > 2 and not err.stale:
                self._last_words = words
            return "", words, err.rc
        said = settings.banner + ("" if "z" in job.asked.options else f"{job.id}\n")
        if job.asked.attributes.get("block", "false").lower() in ("true", "t", "1", "y"):
            job.waits_for_end.append(lambda code: later((said, "", code)))
            return None
        return said, "", 0

    def _new_job(self, request: dict[str, Any]) -> Job:
        settings, cluster = self.cluster.settings, self.cluster
        asked = read_request(request, settings.resources)
        if request["uid"] == 0 and not settings.acl_roots:
            raise Refused(175, "qsub: Bad UID for job execution\n")
        user = pwd.getpwuid(request["uid"]).pw_name
        queue = self._queue_of(asked.options.get("q", "workq"), user)
        walltime = asked.walltime_s
        limits = settings.queues[queue]
        if walltime is None and limits.default_walltime is not None:
            asked.resources["walltime"] = str(limits.default_walltime)
        for total, most in (
            (walltime, limits.max_walltime),
            (sum(count * int(chunk["ncpus"]) for count, chunk in chunks_of(asked.resources)), limits.max_ncpus),
            (sum(count * (kilobytes_of(chunk.get("mem", "0")) or 0) for count, chunk in chunks_of(asked.resources)),
             limits.max_mem_kb),
        ):  # fmt: skip
            if total is not None and most is not None and total > most:
                raise Refused(188, "qsub: Job violates queue and/or server resource limits\n")
        if settings.hook_says:
            raise Refused(32, f"qsub: {settings.hook_says}\n")
        mine = [job for job in cluster.jobs.values() if not job.is_over and job.user == user]
        if limits.max_queued is not None and sum(job.queue == queue for job in mine) >= limits.max_queued:
            raise Refused(38, f"qsub: would exceed queue {queue}'s per-user limit\n")
        if settings.max_queued is not None and len(mine) >= settings.max_queued:
            raise Refused(38, "qsub: would exceed complex's per-user limit\n")
        env = request["env"]
        variables = {
            "PBS_O_HOME": env.get("HOME", "/"), "PBS_O_LANG": env.get("LANG", "C"), "PBS_O_LOGNAME": user,
            "PBS_O_PATH": env.get("PATH", ""), "PBS_O_SHELL": "/bin/bash", "PBS_O_WORKDIR": request["cwd"],
            "PBS_O_SYSTEM": "Linux", **(env if "V" in asked.options else {}), **_given(asked.options.get("v", ""), env),
            "PBS_O_QUEUE": queue, "PBS_O_HOST": SERVER,
        }  # fmt: skip
        job = Job(cluster.next_id, asked, user, queue, request["cwd"], request["umask"], variables,
                  " ".join(request["argv"]))  # fmt: skip
        cluster.next_id += 1
        cluster.jobs[job.number] = job
        if "h" in asked.options:
            job.state, job.substate, job.hold = "H", 20, "u"
            job.comment = f"Job held by {user} on {time.strftime('%a %b %d %H:%M:%S %Y')}"
        elif "a" in asked.options:
            job.state, job.substate = "W", 30
        elif "depend" in asked.attributes:
            parents = read_depend(asked.attributes["depend"]) or []
            hold(job, [Wait(kind, number, cluster.jobs.get(number)) for kind, number in parents])
            cluster.look_at_waits()
        return job

    def _queue_of(self, text: str, user: str) -> str:
        name, _, server = text.partition("@")
        if server not in ("", SERVER):
            raise Refused(160, f"Unknown Host.\nqsub: cannot connect to server {SERVER} (errno=15008)\n")
        name = name or "workq"
        queue = self.cluster.settings.queues.get(name)
        if queue is None:
            raise Refused(170, "qsub: Unknown queue\n")
        if not queue.enabled:
            raise Refused(173, "qsub: Queue is not enabled\n")
        if queue.users is not None and user not in queue.users:
            raise Refused(159, "qsub: Unauthorized Request \n")
        return name

    # Asking.

    def qstat(self, request: dict[str, Any], _: Callable[[Reply], None]) -> Reply:
        settings = self.cluster.settings
        whole = {("-Qf",): pbs_print.queues_text, ("-Bf",): pbs_print.server_text, ("-B",): pbs_print.server_text}
        if (tell := whole.get(tuple(request["argv"]))) is not None:
            return tell(settings), "", 0
        flags, form, ids, bad = _read_qstat(request["argv"])
        if bad:
            return "", bad, 2
        if ("x" in flags or "H" in flags) and not settings.history:
            words = "".join(f"qstat: PBS is not configured to maintain job history {one}\n" for one in ids or [""])
            return ("" if form != "json" else self._json([], asked=True)), words, 0
        jobs, words, rc = self._find(ids, "qstat", over_too="x" in flags or "H" in flags)
        if form == "json":
            return self._json(jobs, asked=bool(ids)), words, rc
        if "f" in flags:
            return pbs_print.records(jobs, wide="w" in flags), words, rc
        return pbs_print.table(jobs), words, rc

    def _json(self, jobs: list[Job], *, asked: bool) -> str:
        settings = self.cluster.settings
        return pbs_print.as_json(jobs, settings.json, settings.version, asked_by_id=asked)

    def _find(self, ids: list[str], command: str, *, over_too: bool) -> tuple[list[Job], str, int]:
        """The jobs of these ids (none: all), the complaints about the others, and the last one's exit code."""
        if not ids:
            return [job for job in self.cluster.jobs.values() if over_too or not job.is_over], "", 0
        found, words, rc = [], "", 0
        for text in ids:
            match = _ID.fullmatch(text)
            if match is None and command == "qstat" and re.fullmatch(r"[A-Za-z]\w*", text):
                words, rc = words + f"qstat: Unknown queue destination {text}\n", 170
            elif match is None:
                words, rc = words + f"{command}: illegally formed job identifier: {text}\n", 1
            elif (job := self.cluster.jobs.get(int(match[1]))) is None or match[2] is not None:
                words, rc = words + f"{command}: Unknown Job Id {match[1]}{match[2] or ''}.{SERVER}\n", 153
            elif job.is_over and not over_too:
                how = "use -x or -H to obtain historical job information"
                words, rc = words + f"{command}: {job.id} Job has finished, {how}\n", 35
            else:
                found.append(job)
        return found, words, rc

    def qselect(self, request: dict[str, Any], _: Callable[[Reply], None]) -> Reply:
        wanted: dict[str, str] = {}
        words = list(request["argv"])
        while words:
            option = words.pop(0)
            if option not in ("-u", "-s", "-N", "-x") or (option != "-x" and not words):
                return "", f"qselect: invalid option -- '{option.lstrip('-')[:1]}'\n", 2
            wanted[option] = words.pop(0) if option != "-x" else ""
        if "-x" in wanted and not self.cluster.settings.history:
            return "", "qselect: PBS is not configured to maintain job history\n", 0
        jobs = [
            job
            for job in self.cluster.jobs.values()
            if ("-x" in wanted or not job.is_over)
            and wanted.get("-u", job.user).partition("@")[0] == job.user
            and job.state in wanted.get("-s", job.state)
            and wanted.get("-N", job.name) == job.name
        ]
        return "".join(f"{job.id}\n" for job in jobs), "", 0

    def pbsnodes(self, request: dict[str, Any], _: Callable[[Reply], None]) -> Reply:
        cluster, nodes = self.cluster, {}
        for name, node in cluster.settings.nodes.items():
            here = [job for job in cluster.jobs.values() if job.state in "RES" and name in job.nodes]
            used = sum(place.ncpus for job in here for place in job.places if place.node == name)
            state = "down" if name in cluster.down else "job-busy" if used >= node.ncpus else "free"
            nodes[name] = {"state": state, "jobs": [job.id for job in here], "mem_kb": node.mem_kb,
                           "ncpus": node.ncpus, "used": used, "since": cluster.down.get(name, 0.0)}  # fmt: skip
        if request["argv"] == ["-l"]:
            return pbs_print.bad_nodes_text(nodes), "", 0
        wanted = [word for word in request["argv"] if not word.startswith("-")]
        unknown = [word for word in wanted if word not in nodes]
        if unknown:
            return "", "".join(f"Node: {word},  Error: Unknown node \n" for word in unknown), 1
        return pbs_print.nodes_text({name: nodes[name] for name in wanted or nodes}), "", 0

    # Ending.

    def qdel(self, request: dict[str, Any], _: Callable[[Reply], None]) -> Reply:
        argv, force, purge = list(request["argv"]), False, False
        while argv and argv[0].startswith("-"):
            option = argv.pop(0)
            value = option[2:] or (argv.pop(0) if option == "-W" and argv else "")
            if option[:2] == "-W" and value != "force":
                return "", "qdel: illegal -W value\n" + _QDEL_USAGE, 2
            if option[:2] not in ("-W", "-x"):
                return "", f"qdel: invalid option -- '{option[1:2]}'\n" + _QDEL_USAGE, 2
            force, purge = force or option[:2] == "-W", purge or option == "-x"
        if not argv:
            return "", _QDEL_USAGE, 2
        words, rc = "", 0
        by = f"{pwd.getpwuid(request['uid']).pw_name}@{SERVER}"
        for text in argv:
            jobs, complaint, code = self._find([text], "qdel", over_too=True)
            words, rc = words + complaint, code or rc
            for job in jobs:
                complaint, code = self._delete(job, by, force=force, purge=purge)
                words, rc = words + complaint, code or rc
        return "", words, rc

    def _delete(self, job: Job, by: str, *, force: bool, purge: bool) -> tuple[str, int]:
        cluster = self.cluster
        if job.is_over and purge:
            cluster.jobs.pop(job.number)
            return "", 0
        if job.is_over:
            return f"qdel: Job has finished {job.id}\n", 35
        if job.state == "E":
            return f"qdel: Request invalid for state of job {job.id}\n", 168
        if job.state in "RS" and job.node_lost_at is not None:
            if not force:
                return f"qdel: Server could not connect to MOM {job.id}\n", 222
            job.comment, job.substate = f"{job.comment} and terminated", 91
            cluster.over(job)
            return "", 0
        if job.state in "QHW":
            job.comment, job.substate = (f"{job.comment} and terminated" if job.comment else ""), 91
            cluster.over(job)
        elif not job.deleted_by:
            job.deleted_by, job.comment = by, f"{job.comment} and terminated by {by}"
            if force:
                job.kill_at = time.time()
                cluster.sessions.send(job, signal.SIGKILL)
            else:
                cluster.terminate(job)
        return "", 0

    # On a node.

    def pbsdsh(self, request: dict[str, Any], later: Callable[[Reply], None]) -> Reply | None:
        argv, index = list(request["argv"]), None
        while argv and argv[0] != "--" and argv[0].startswith("-"):
            option = argv.pop(0)
            if option != "-n" or not argv or not argv[0].isdigit():
                return "", "Usage: pbsdsh [-n node_index] [-o] [-s] [-v] -- program [program args]\n", 1
            index = int(argv.pop(0))
        argv = argv[1:] if argv[:1] == ["--"] else argv
        match = _ID.fullmatch(request["env"].get("PBS_JOBID", ""))
        job = self.cluster.jobs.get(int(match[1])) if match else None
        if job is None or job.state != "R" or not argv:
            return "", "pbsdsh: PBS_JOBID not set\n", 1
        if index is not None and index >= len(job.places):
            return "", f"pbsdsh: only {len(job.places)} nodes available\n", 1
        started = [self.cluster.sessions.start_task(job, one, argv, number) for number, one in
                   enumerate(range(len(job.places)) if index is None else [index])]  # fmt: skip
        pids = [process.pid for process in started if process is not None]
        self.waiting.append((pids, later))
        return None

    @property
    def waiting(self) -> list[tuple[list[int], Callable[[Reply], None]]]:
        """What pbsdsh waits for."""
        return self.__dict__.setdefault("_waiting", [])

    def look_at_tasks(self) -> None:
        for pids, later in list(self.waiting):
            codes = [self.cluster.exit_of(pid) for pid in pids]
            if None not in codes:
                self.waiting.remove((pids, later))
                later(("", "", max((code or 0 for code in codes), default=1) & 0xFF))

    def control(self, request: dict[str, Any], _: Callable[[Reply], None]) -> Reply:
        """What no user can do: for tests."""
        verb, *words = request["argv"]
        if verb in NODE_VERBS:
            NODE_VERBS[verb](self.cluster, words[0])
        else:
            for job in self._find(words, "control", over_too=True)[0]:
                JOB_VERBS[verb](self.cluster, job)
        return "", "", 0


def _server_is_down(name: str) -> Reply:
    if name == "qdel":
        return "", f"{_REFUSED}Couldn't connect to cluster: {SERVER}\n", 162
    if name == "pbsnodes":
        return "", f"{_REFUSED}pbsnodes: cannot connect to server {SERVER}, error=15010\n", 1
    return "", f"{_REFUSED}{name}: cannot connect to server {SERVER} (errno=15010)\n", 255 if name == "qstat" else 162


def _read_qstat(argv: list[str]) -> tuple[str, str, list[str], str]:
    """Flags, format, ids, and the complaint about what is not understood."""
    flags, form, ids = "", "", []
    words = list(argv)
    while words:
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            ids.append(word)
            continue
        for place, letter in enumerate(word[1:], 1):
            if letter == "F":
                form = word[place + 1 :] or (words.pop(0) if words else "")
                break
            if letter not in "fxHw":
                return "", "", [], f"qstat: invalid option -- '{letter}'\n{_QSTAT_USAGE}"
            flags += letter
    if form not in ("", "json"):
        return "", "", [], f"qstat: unknown format {form}\n"
    return flags, form, ids, ""


def _given(text: str, env: dict[str, str]) -> dict[str, str]:
    """``-v A=1,B``; a name alone takes the value of the submitter's environment."""
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals and name not in env:
            raise Refused(1, "qsub: cannot send environment with the job\n")
        found[name] = value if equals else env[name]
    return found
