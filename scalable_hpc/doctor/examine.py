"""Gathers the facts: looks here, submits the probe, listens for it, and clears away what was made for it."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scalable_hpc.backends import make_backend
from scalable_hpc.batch.local import LocalBackend
from scalable_hpc.cluster.opening import free_port
from scalable_hpc.cluster.security import TlsFiles, create_tls_files
from scalable_hpc.confidential import write_secrets
from scalable_hpc.config.fit import Ask
from scalable_hpc.config.resolved import ResolvedManifest, ResolvedTarget
from scalable_hpc.doctor.facts import Facts, NodeSeen, PackageSeen, PlaceSeen, ProbeSeen
from scalable_hpc.doctor.hearing import Hearing, address_of, greet, interfaces
from scalable_hpc.doctor.here import ask_for_limits, free_bytes, look_at_commands, mode_of
from scalable_hpc.doctor.order import ANSWER, HELLO, Order, Place, write_order
from scalable_hpc.doctor.packages import packages_here, python_here
from scalable_hpc.environment import environment_of
from scalable_hpc.errors import BatchSilent, RunDirectoryError, ScalableError, SiteError
from scalable_hpc.job_scripts import script_context
from scalable_hpc.model.allocations import AllocationRequest, ExitReason, JobObservation, JobState
from scalable_hpc.runs import RunDirectory
from scalable_hpc.scripts.render import render_worker

PROBE_S = 60
"""Walltime of the probe's job: what every partition has room for."""
_LOOK_EVERY_S = 0.25
_ALLOCATION = "probe"
_LATE_FILES_S = 5.0
"""What a node wrote may be seen here only after its job has ended."""
_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What terminals and session managers end a command with."""
_NO_OUTPUT = Path("/dev/null")


@dataclass(frozen=True, slots=True)
class Visit:
    """One look at a target, and what was made for it."""

    manifest: ResolvedManifest
    worker_type: str
    modules: Sequence[str]
    wait_s: float
    run: RunDirectory
    places: tuple[Place, ...]

    @property
    def target(self) -> ResolvedTarget:
        """The target that is looked at."""
        return self.manifest.target_of(self.worker_type)


def look(manifest: ResolvedManifest, worker_type: str, modules: Sequence[str], *, wait_s: float, probes: bool) -> Facts:
    """Return the facts about a target; blocks until the probe has answered or ``wait_s`` seconds are over.

    Raises:
        RunDirectoryError: the run directory's place, or the cache's, cannot be written from here.
    """
    run = RunDirectory(manifest.runs_root / f"doctor-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    visit = Visit(manifest, worker_type, modules, wait_s, run, _places(manifest, run))
    try:
        _make(visit)
        return asyncio.run(_interruptibly(_look(visit, probes=probes)))
    finally:
        for place in visit.places:
            shutil.rmtree(place.own, ignore_errors=True)


async def _interruptibly(looking: Coroutine[Any, Any, Facts]) -> Facts:
    """Look; whoever ends the process meanwhile leaves no job behind, and no keys.

    Raises:
        KeyboardInterrupt: it was asked to end.
    """
    task = asyncio.ensure_future(looking)
    for ending in _ENDINGS:
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _places(manifest: ResolvedManifest, run: RunDirectory) -> tuple[Place, ...]:
    """Return the shared directories, each with a directory of the probe's own."""
    own = f".scalable-doctor-{secrets.token_hex(6)}"
    others = (("cache", manifest.cache_root), ("working", manifest.target.work_dir))
    there = [Place("run", str(run.path.parent), str(run.path))]
    there += [Place(label, str(path), str(_existing(path) / f"{own}-{label}")) for label, path in others]
    return tuple(there)


def _existing(path: Path) -> Path:
    """Return a directory, or the nearest one above it that is there already."""
    return next(one for one in (path, *path.parents) if one.is_dir())


def _make(visit: Visit) -> None:
    try:
        visit.run.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place in visit.places:
            Path(place.own).mkdir(mode=0o700, parents=True)
        for folder in (visit.run.scripts, visit.run.logs):
            folder.mkdir(mode=0o700)
    except OSError as err:
        hint = "set SCALABLE_HPC_RUNS_DIR or SCALABLE_HPC_CACHE_DIR to directories that you can write"
        raise RunDirectoryError(f"cannot write '{err.filename}': {err.strerror}", hint=hint) from err


async def _look(visit: Visit, *, probes: bool) -> Facts:
    target, kind = visit.target, visit.manifest.worker_types[visit.worker_type]
    machine, quotas, machine_error = await asyncio.to_thread(ask_for_limits, target)
    facts = Facts(
        target=target.name,
        provider=target.provider,
        host=socket.gethostname(),
        python=python_here(),
        packages=packages_here(visit.modules),
        commands=await asyncio.to_thread(look_at_commands, target),
        machine=machine,
        machine_error=machine_error,
        ask=Ask(kind.name, target.nodes, kind.cpus, kind.memory, kind.gpus, target.walltime_s),
        partition=target.partition,
        qos=target.qos,
        account=target.account,
        most_allocations=sum(target.allocations_max.values()) or 1,
        quotas=quotas,
        interface=target.interface,
        interfaces=tuple(interfaces()),
        run_dir=str(visit.run.path.parent),
        run_dir_mode=mode_of(visit.run.path),
        free_bytes=free_bytes(visit.run.path),
        image=kind.image if target.use_containers else None,
        runtime=kind.runtime,
        warnings=tuple(issue.message for issue in visit.manifest.warnings),
        wanted_nodes=target.nodes,
        modules=tuple(visit.modules),
    )
    tls = create_tls_files(visit.run.path, visit.run.run_id)
    async with AsyncExitStack() as stack:
        hearing = Hearing(tls.ca, tls.cert, tls.key)
        stack.push_async_callback(hearing.close)
        try:
            address, port = await hearing.listen(address_of(target.interface), _port(target))
            facts = replace(facts, listening=f"{address}:{port}")
        except (OSError, SiteError) as err:
            address, port, facts = "", 0, replace(facts, listening_error=str(err))
        if not probes or any(command.path is None for command in facts.commands):
            return facts
        order = Order(address, port, tls.ca, tls.cert, tls.key, target.interface, tuple(visit.modules), visit.places)
        write_order(order)
        return await _Probing(visit, hearing, tls, target.nodes).run(facts)


def _port(target: ResolvedTarget) -> int:
    return free_port(*target.scheduler_ports) if target.scheduler_ports else target.scheduler_port


class _Probing:
    """The probe's job, from its submission to the nodes' answers."""

    def __init__(self, visit: Visit, hearing: Hearing, tls: TlsFiles, wanted: int) -> None:
        self._visit = visit
        self._hearing = hearing
        self._tls = (tls.ca, tls.cert, tls.key)
        self._wanted = wanted
        self._backend = make_backend(visit.target, visit.run)
        self._greeted: dict[str, str] = {}
        self._last: JobObservation | None = None
        """What the batch system said of the job at last."""

    async def run(self, facts: Facts) -> Facts:
        """Submit it, wait, and return the facts with what it told.

        A batch system that cannot write the job's output where the run directory lies starts nothing: the job is then
        submitted once more with its output thrown away, so that the other directories and the network are looked at.
        """
        try:
            return await self._probe(facts)
        finally:
            if isinstance(self._backend, LocalBackend):
                self._backend.close()

    async def _probe(self, facts: Facts) -> Facts:
        seen = await self._submit(self._visit.run.log_of(_ALLOCATION))
        nodes = self._answers()
        if not nodes and not seen.refusal and seen.state == "ended" and not seen.output:
            again = await self._submit(_NO_OUTPUT)
            nodes = self._answers()
            seen = replace(again, had_no_output=True) if nodes else seen
        return replace(facts, probe=seen, nodes=tuple(nodes))

    async def _submit(self, output: Path) -> ProbeSeen:
        began = time.monotonic()
        try:
            script = await asyncio.to_thread(self._write_script, output)
            job_id = await self._backend.submit(script)
        except ScalableError as err:
            return ProbeSeen(refusal=str(err))
        seen = await self._wait(job_id, began)
        tail = self._visit.run.log_tail(_ALLOCATION, 2000).strip()
        state = "unknown" if seen is None else seen.state.value
        words = "" if seen is None else seen.ending.raw if seen.ending is not None else seen.because
        if seen is not None and seen.ending is not None and seen.ending.reason is ExitReason.LAUNCH_FAILED:
            tail = ""  # what stands there is an earlier job's
        return ProbeSeen(job_id, "", time.monotonic() - began, state, words, tail)

    def _write_script(self, output: Path) -> Path:
        """Render the probe as a worker's job: what the job script ends in is all that is another."""
        visit = self._visit
        variables = environment_of(visit.manifest, visit.run, visit.worker_type)
        write_secrets(visit.run, visit.worker_type, variables)
        request = AllocationRequest(_ALLOCATION, visit.worker_type, self._wanted, PROBE_S, "the doctor's probe")
        context = replace(
            script_context(visit.manifest, visit.run, request),
            module="scalable_hpc.doctor.probe",
            launcher=tuple(place.own for place in visit.places),
            output=output,
            signal_lead_s=None,
            shared_dirs=tuple(Path(place.own) for place in visit.places),
        )
        target = visit.target
        text = render_worker(context, system=target.provider, template_dirs=target.template_dirs, trust=target.trust)
        script = visit.run.scripts / f"{_ALLOCATION}.sh"
        script.write_text(text)
        script.chmod(0o700)
        return script

    async def _wait(self, job_id: str, began: float) -> JobObservation | None:
        """Wait for every node's answer, the job's end, or the end of patience; leave no job behind."""
        self._last = None
        try:
            await self._watch(job_id, began)
        finally:  # also when whoever asked has had enough
            if self._last is None or self._last.state is not JobState.ENDED:
                with suppress(BatchSilent):
                    await self._backend.cancel([job_id])
        return self._last

    async def _watch(self, job_id: str, began: float) -> None:
        """Note what the batch system says of the job for as long as it is worth waiting for."""
        asked_at, ended_at = 0.0, None
        while len(self._files(ANSWER)) < self._wanted and time.monotonic() - began < self._visit.wait_s:
            await self._greet_back()
            if time.monotonic() - asked_at > self._visit.target.poll_s:
                asked_at = time.monotonic()
                with suppress(BatchSilent):
                    self._last = (await self._backend.status([job_id]))[job_id]
            if self._last is not None and self._last.state is JobState.ENDED:
                ended_at = ended_at or time.monotonic()
                if time.monotonic() - ended_at > _LATE_FILES_S:
                    break
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _greet_back(self) -> None:
        """Connect to each node that said where it listens."""
        for host, said in self._files(HELLO).items():
            if host not in self._greeted:
                try:
                    await greet(str(said["host"]), int(str(said["port"])), self._tls, {"driver": socket.gethostname()})
                    self._greeted[host] = ""
                except (OSError, asyncio.TimeoutError) as err:
                    self._greeted[host] = str(err) or "no answer in time"

    def _files(self, prefix: str) -> dict[str, dict[str, object]]:
        """Return the nodes' files of a kind, wherever they were put, by host."""
        found = {}
        for place in self._visit.places:
            for path in Path(place.own).glob(f"{prefix}*.json"):
                with suppress(OSError, ValueError):
                    found[path.stem.removeprefix(prefix)] = json.loads(path.read_text())
        return found

    def _answers(self) -> list[NodeSeen]:
        nodes = []
        for host, told in sorted(self._files(ANSWER).items()):
            packages = tuple(PackageSeen(**each) for each in _listed(told, "packages"))
            places = tuple(PlaceSeen(**each) for each in _listed(told, "places"))
            names = tuple(str(each) for each in _listed(told, "interfaces"))
            runtimes = tuple(str(each) for each in _listed(told, "runtimes"))
            plain = {**told, "packages": packages, "places": places, "interfaces": names, "runtimes": runtimes}
            node = NodeSeen(**plain)  # type: ignore[arg-type]
            nodes.append(replace(node, from_driver=self._greeted.get(host), skew_s=self._hearing.skews.get(host)))
        return nodes


def _listed(told: dict[str, object], name: str) -> list:  # type: ignore[type-arg]
    found = told.get(name)
    return found if isinstance(found, list) else []
