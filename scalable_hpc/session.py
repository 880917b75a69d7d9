"""The session: a manifest and a target, validated, planned, started and closed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scalable_hpc.client import ScalableClient
    from scalable_hpc.config.manifest import ValidationReport
    from scalable_hpc.config.resolved import ResolvedManifest
    from scalable_hpc.lineage.census import Progress
    from scalable_hpc.model.messages import WorkerHello
    from scalable_hpc.planning import Plan
    from scalable_hpc.runs import RunDirectory
    from scalable_hpc.wiring import LiveRun


class ScalableSession:
    """One target of one manifest, and the run that is started on it.

    As a context manager it starts the run and gives the client; on the way out it waits for what was submitted
    (after an exception: cancels it) and gives every allocation back::

        with ScalableSession.from_yaml("scalable.yaml", target="slurm") as client:
            futures = client.map(run_simulation, range(1000))
            batch = client.collect(futures)
    """

    def __init__(self, manifest: ResolvedManifest) -> None:
        if played := os.environ.get("SCALABLE_HPC_REHEARSAL"):
            from scalable_hpc.config.dressing import dressed, from_text

            manifest = dressed(manifest, from_text(played))
        self.manifest = manifest
        self._run: LiveRun | None = None

    @classmethod
    def from_yaml(cls, path: str | Path | None = None, *, target: str | None = None) -> ScalableSession:
        """Read a manifest.

        Args:
            path: the manifest (default: ``$SCALABLE_MANIFEST`` or ``./scalable.yaml``).
            target: a target of it (default: ``$SCALABLE_TARGET``, or the only one). ``$SCALABLE_HPC_TARGET``,
                which ``scalable-hpc run --target`` sets, is stronger than either.

        Raises:
            ManifestError: something in it is wrong; names file, line, value and the nearest allowed name.
            WalltimeError: a walltime cannot be read.
            UnknownTargetError: it has no such target.
        """
        from scalable_hpc.config.manifest import load_manifest

        return cls(load_manifest(path, target=os.environ.get("SCALABLE_HPC_TARGET") or target))

    def __repr__(self) -> str:
        what = f"target '{self.target_name}', not started" if self._run is None else self._run.describe()
        return f"<{type(self).__name__} of '{self.manifest.project_name}', {what}>"

    @property
    def target_name(self) -> str:
        """The target's name in the manifest."""
        return self.manifest.target.name

    def validate(self) -> ValidationReport:
        """Check the whole manifest, all targets included, and return every finding."""
        from scalable_hpc.config.manifest import validate_manifest

        return validate_manifest(self.manifest.path)

    def plan(self) -> Plan:
        """Say what would be asked of the batch system, and the source of every setting; no side effects.

        Raises:
            TemplateError: a script cannot be rendered, or a value is unsafe in one.
        """
        from scalable_hpc.planning import make_plan

        return make_plan(self.manifest)

    def start(self, plan: Plan | None = None, *, run: str | None = None) -> ScalableClient:
        """Start a run, or go on with one, and return its client; no node is requested before a call needs one.

        Args:
            plan: kept in the run's directory (default: ``plan()``).
            run: id of a run, or the start of it, that this script had begun and did not finish. A call whose result
                lies in that run is answered from there: which one it is of equal calls is told by their order.
                ``$SCALABLE_HPC_RUN``, which ``scalable-hpc run --run`` sets, is the default. None: a new run, unless
                a driver of this very script was killed and left batch jobs: then that run goes on.

        Raises:
            MissingCommandError: a command of the batch system is not on PATH.
            RunDirectoryError: the run directory cannot be made, or there is no such run, or another driver (named)
                is writing it.
        """
        from scalable_hpc.client import ScalableClient
        from scalable_hpc.wiring import LiveRun

        if self._run is None or self._run.is_closed:
            plan = plan or self.plan()
            self._run = LiveRun(
                self.manifest,
                plan,
                self._past(run, plan),
                retry_quarantined=bool(os.environ.get("SCALABLE_HPC_RETRY_QUARANTINED")),
            )
        return ScalableClient(self._run)

    def _past(self, named: str | None, plan: Plan) -> RunDirectory | None:
        """Find the run to go on with: the one that was named, or the one that a killed driver of this script left."""
        from scalable_hpc.runs import find_run
        from scalable_hpc.takeover import find_orphan

        named = named or os.environ.get("SCALABLE_HPC_RUN")
        return find_run(self.manifest.runs_root, named) if named else find_orphan(self.manifest, plan)

    def close(self) -> None:
        """End the run: unfinished calls are cancelled, the journal is flushed, allocations are given back."""
        if self._run is not None:
            self._run.close()

    @classmethod
    def resume(cls, run: RunDirectory, *, retry_quarantined: bool = False) -> Progress:
        """Finish a run from its journal alone, without the script that began it; blocks until it is done.

        Args:
            run: its directory.
            retry_quarantined: try again the tasks that were convicted of killing what they ran on.

        Raises:
            RunDirectoryError: another driver is writing it (named), or its files cannot be read.
            JournalError: its journal is damaged.
        """
        from scalable_hpc.chain.opening import manifest_of
        from scalable_hpc.wiring import LiveRun

        sys.path.extend(path for path in run.read_plan()["pythonpath"] if path not in sys.path)
        session = cls(manifest_of(run))
        live = session._run = LiveRun(session.manifest, session.plan(), run, retry_quarantined=retry_quarantined)
        try:
            return live.wait_until_done()
        finally:
            session.close()

    @property
    def run_directory(self) -> RunDirectory | None:
        """Where the run is on disk; None before the first start."""
        return None if self._run is None else self._run.directory

    def workers(self) -> list[WorkerHello]:
        """Return what each worker that is connected now said of itself."""
        return [] if self._run is None else self._run.workers()

    def __enter__(self) -> ScalableClient:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._run is not None:
            self._run.finish(wait=kind is None, cancel=False)
            self._run.close(patient=kind is None)
