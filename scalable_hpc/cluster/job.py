"""An allocation as dask-jobqueue knows it: a Job whose script is ours and whose verbs are the batch backend's.

Rule 1: ``start`` and ``close`` never raise. SpecCluster gathers them for many jobs at once, and one refused
submission must not hide another; what went wrong is kept in ``submit_error`` and ``cancel_error``.
Rule 2: no command is run here; the backend does that, with a timeout on each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scalable_hpc.batch.backend import BatchBackend
from scalable_hpc.cluster.arrays import SharedSubmissions, script_path
from scalable_hpc.cluster.dask_settings import CONFIG_NAME
from scalable_hpc.cluster.private_files import SCRIPT, make_private_directory, write_private
from scalable_hpc.cluster.quiet_import import Job, ProcessInterface
from scalable_hpc.errors import RunDirectoryError, ScalableError
from scalable_hpc.model.allocations import AllocationRequest

logger = logging.getLogger(__name__)

Render = Callable[[AllocationRequest], str]
"""Makes the whole job script of a request."""


class ScalableJob(Job):  # type: ignore[misc]
    """One batch job: rendered by us, submitted and cancelled through a ``BatchBackend``."""

    config_name = CONFIG_NAME

    def __init__(
        self,
        scheduler: str | None = None,
        name: str | None = None,
        *,
        request: AllocationRequest,
        backend: BatchBackend,
        render: Render,
        scripts_dir: Path,
        arrays: SharedSubmissions,
        **job_kwargs: Any,
    ) -> None:
        """Take what SpecCluster hands to every Job, and what ours is made of."""
        # Security stays ours: handed on, dask-jobqueue would paste key paths into a command line that nobody runs.
        job_kwargs.pop("security", None)
        super().__init__(scheduler=scheduler, name=name, **job_kwargs)
        self.job_id: str | None = None
        self.request = request
        self.submit_error: Exception | None = None
        self.cancel_error: Exception | None = None
        self.is_left_behind = False
        """Set before ``close`` when the batch job shall go on without this driver."""
        self.job_header = ""
        self._backend = backend
        self._render = render
        self._arrays = arrays
        self._script = script_path(scripts_dir, request)

    def job_script(self) -> str:
        """Return the script that is submitted, to the letter."""
        return self._render(self.request)

    async def start(self) -> None:
        """Write the script and submit it; afterwards either ``job_id`` or ``submit_error`` is set."""
        try:
            self.job_id = await self._arrays.submit(self.request, self._send)
        except ScalableError as error:
            self.submit_error = error
        except OSError as error:
            self.submit_error = RunDirectoryError(
                f"cannot write the job script '{self._script}': {error}", hint=f"ls -ld '{self._script.parent}'; df -h"
            )
            self.submit_error.__cause__ = error
        except Exception as error:  # noqa: BLE001  (Rule 1; the opener raises it again)
            self.submit_error = error
        await ProcessInterface.start(self)

    async def _send(self) -> str:
        await asyncio.to_thread(self._write_script)
        return await self._backend.submit(self._script)

    def _write_script(self) -> None:
        make_private_directory(self._script.parent)
        write_private(self._script, self.job_script().encode(), mode=SCRIPT)

    async def close(self) -> None:
        """Cancel the batch job once; whether it really ended is for the batch system to say later."""
        job_id = self.job_id
        if job_id is not None and not self.is_left_behind:
            try:
                await self._backend.cancel([job_id])
                self.cancel_error = None
            except Exception as error:  # noqa: BLE001  (Rule 1)
                self.cancel_error = error
                logger.warning("Could not cancel job %s of allocation %s: %s", job_id, self.name, error)
        await ProcessInterface.close(self)
