"""The Dask worker that a courier lives in, with everything of Dask's that we do not use turned off.

Rule 1: Dask keeps the link to the scheduler and starts ``run_bundle`` in threads; it stores, manages, profiles and
retries nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dask
from distributed import Security, Worker

from scalable_hpc.worker.contact import SchedulerContact
from scalable_hpc.worker.courier import Courier
from scalable_hpc.worker.options import WorkerOptions

CONNECT_WITHIN_S = 60.0
"""A scheduler that accepts connections and does not answer for this long is stopped; there may be another by then."""
STOP_WITHIN_S = 5.0
"""Killing slots takes milliseconds; a store that does not answer must not keep a worker from closing."""
_LOST = frozenset({"worker-handle-scheduler-connection-broken", "worker-heartbeat-missing"})
"""Reasons that Dask gives when nobody asked the worker to close."""
_LAST_WORD_S = 0.1
"""A closing scheduler asks us to close and hangs up in one breath, and Dask may tell of the second first."""

SETTINGS: dict[str, Any] = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.worker.memory.transfer": 0.5,
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.worker.lifetime.duration": None,
    "distributed.diagnostics.nvml": False,
    "distributed.admin.low-level-log-length": 100,
    "distributed.comm.timeouts.connect": "30s",
    "distributed.comm.timeouts.tcp": "30s",
}


class CourierWorker(Worker):  # type: ignore[misc]
    """Holds a courier, and closes without waiting for Dask's threads."""

    def __init__(self, *args: Any, courier: Courier, **options: Any) -> None:
        self.courier = courier
        self.close_reason: str | None = None
        self.lost = asyncio.Event()
        """Set when the scheduler is gone; Dask may take a minute to close what was open to it."""
        super().__init__(*args, **options)

    def start_http_server(self, *_: Any, **__: Any) -> None:
        """Start none: a web server answers whoever is on the node, and asks nobody who they are."""

    @property
    def is_lost(self) -> bool:
        """Whether it closed because the scheduler was gone, not because it was asked to."""
        return self.close_reason in _LOST

    async def close(
        self,
        timeout: float = 30,
        executor_wait: bool = True,  # noqa: ARG002, FBT001, FBT002  Dask's signature
        nanny: bool = True,  # noqa: FBT001, FBT002  Dask's signature
        reason: str = "worker-close",
    ) -> str | None:
        """Close; what runs goes on where the scheduler is lost, else it is killed and reported first."""
        if reason in _LOST and self.close_reason is None:
            await asyncio.sleep(_LAST_WORD_S)
        if self.close_reason is None:
            self.close_reason = reason
            if reason in _LOST:
                self.courier.orphaned()
                self.lost.set()
            else:
                await asyncio.to_thread(self.courier.stop, f"the worker was closed: {reason}", timeout_s=STOP_WITHIN_S)
        answer: str | None = await super().close(timeout=timeout, executor_wait=False, nanny=nanny, reason=reason)
        return answer


def make_worker(
    options: WorkerOptions, contact: SchedulerContact, courier: Courier, name: str, directory: Path
) -> CourierWorker:
    """Return a worker that is not started; Dask's settings of this process are changed for good."""
    dask.config.set(SETTINGS)
    return CourierWorker(
        contact.address,
        courier=courier,
        # Twice as many threads as slots: a bundle waits for a slot in its thread, so that the slot goes on with it
        # while the thread before it still makes its results durable.
        nthreads=2 * options.slots,
        name=name,
        security=_security(contact),
        interface=options.interface,
        local_directory=str(directory),
        death_timeout=CONNECT_WITHIN_S,
        memory_limit=0,
        dashboard=False,
        dashboard_address="127.0.0.1:0",
    )


def _security(contact: SchedulerContact) -> Any:
    if contact.tls is None:
        return Security()
    return Security(
        tls_ca_file=contact.tls.ca,
        tls_worker_cert=contact.tls.cert,
        tls_worker_key=contact.tls.key,
        tls_client_cert=contact.tls.cert,
        tls_client_key=contact.tls.key,
        require_encryption=True,
    )
