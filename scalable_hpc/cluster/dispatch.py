"""Bundles on their way to workers, followed until each of their attempts is accounted for.

What becomes of an attempt that was sent, whatever happens:

- its worker reports it (``AttemptDone``, ``AttemptEnded``): handed on as it came;
- its worker leaves: one ``WorkerGone``, and the keys it carried are released at once, so that Dask runs nothing
  elsewhere. The keeper placed these attempts and ends them; there is no ``AttemptEnded`` for each;
- it was sent to a worker that had left already: ``AttemptEnded(NEVER_STARTED)``;
- its carrier failed in Dask (not importable, not readable over there): ``AttemptEnded(REFUSED)`` with the exception;
- its carrier ended without a word about it: ``AttemptEnded(REFUSED)``, after a moment for late words;
- driver and scheduler lost each other: ``AttemptEnded(WORKER_LOST)``.

A message may still come after any of these; the keeper takes the first receipt and ignores the rest.

Rule 1: Dask runs a key once, on the worker it was sent to, or never.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from scalable_hpc.cluster import unaccounted
from scalable_hpc.cluster.carriers import Carrier, CarrierBook
from scalable_hpc.cluster.errands import Errands
from scalable_hpc.cluster.mailbox import has_given_up
from scalable_hpc.cluster.parcel import carrier_of, wrap
from scalable_hpc.cluster.patience import Patience
from scalable_hpc.cluster.quiet_import import Client
from scalable_hpc.cluster.verbs import CourierVerbs
from scalable_hpc.model.messages import AttemptDone, AttemptEnded, Bundle, Upward
from scalable_hpc.model.tasks import AttemptId, Evidence

logger = logging.getLogger(__name__)


class Dispatch:
    """Sends bundles and courier calls through one Dask client."""

    def __init__(
        self,
        client: Client,
        verbs: CourierVerbs,
        patience: Patience,
        errands: Errands,
        deliver: Callable[[Upward], None],
    ) -> None:
        self._client = client
        self._verbs = verbs
        self._patience = patience
        self._errands = errands
        self._deliver = deliver
        self._carry = carrier_of(verbs.run_bundle)
        self._carriers = CarrierBook()

    def send(self, address: str, bundles: Sequence[Bundle]) -> None:
        """Give bundles to a worker that is registered; returns at once."""
        if has_given_up(self._client):
            logger.warning("Bundles for %s cannot be sent: the scheduler is lost", address)
            self.report_unsent(address, bundles)
            return
        futures = self._client.map(
            self._carry,
            [wrap(bundle) for bundle in bundles],
            key=[bundle.key for bundle in bundles],
            workers=[address],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        for bundle, future in zip(bundles, futures, strict=True):
            self._errands.send(self._see_through(self._carriers.add(bundle, address, future), future))

    def report_unsent(self, address: str, bundles: Sequence[Bundle]) -> None:
        """Account for bundles whose worker has left; the messages come after this call has returned."""
        now = time.time()
        for bundle in bundles:
            for envelope in bundle.envelopes:
                message = AttemptEnded(unaccounted.never_sent(envelope.attempt, address, now))
                asyncio.get_running_loop().call_soon(self._deliver, message)

    def reported(self, message: AttemptDone | AttemptEnded) -> None:
        """Note that a worker accounted for an attempt."""
        self._carriers.reported(
            message.receipt.attempt if isinstance(message, AttemptDone) else message.evidence.attempt
        )

    def release(self, keys: Iterable[str]) -> None:
        """Let go of bundles: Dask forgets them, and what they leave unreported is nobody's concern any more."""
        self._carriers.drop_all(keys)

    def lose_worker(self, address: str) -> None:
        """Release whatever a lost worker carried before anybody else can run it."""
        self._carriers.drop_all(self._carriers.keys_at(address))

    def cancel_attempts(self, address: str, attempts: Iterable[AttemptId]) -> None:
        """Have a worker stop attempts; returns at once."""
        self._errands.send(self._call(self._verbs.cancel_attempts, tuple(attempts), [address]))

    def persist_held(self, address: str, keys: Sequence[str]) -> None:
        """Have a worker store results that it holds; returns at once."""
        if self._verbs.persist_held is not None:
            self._errands.send(self._call(self._verbs.persist_held, tuple(keys), [address]))

    def free_held(self, address: str, keys: Sequence[str]) -> None:
        """Let a worker drop results that it holds; returns at once."""
        if self._verbs.free_held is not None:
            self._errands.send(self._call(self._verbs.free_held, tuple(keys), [address]))

    async def drain(self, addresses: list[str], because: str) -> None:
        """Have workers begin nothing new."""
        await self._call(self._verbs.drain, because, addresses)

    async def _call(self, verb: Callable[..., Any], argument: Any, addresses: list[str]) -> None:
        """Run a courier's verb on workers; those that do not answer are noticed by other means."""
        if not addresses:
            return
        try:
            answer = self._client.run(verb, argument, workers=addresses)
            await asyncio.wait_for(answer, self._patience.call_s)
        except Exception as error:  # noqa: BLE001  (whatever the other side raised)
            logger.warning("%s did not do %r: %s", ", ".join(addresses), verb.__name__, error)

    async def _see_through(self, carrier: Carrier, future: Any) -> None:
        """Wait for the end of a carrier in Dask and account for what nobody reported."""
        error = await future.exception()
        if carrier.key not in self._carriers:
            return
        if future.status == "finished" and carrier.unreported:
            await asyncio.sleep(self._patience.late_words_s)
        left = self._carriers.drop(carrier.key)
        for attempt in sorted(left.unreported, key=str) if left else ():
            self._deliver(AttemptEnded(_evidence(attempt, carrier.address, future.status, error)))


def _evidence(attempt: AttemptId, address: str, status: str, error: BaseException | None) -> Evidence:
    """Choose the words for an attempt by the status of its carrier's Dask future."""
    now = time.time()
    if status == "error" and error is not None:
        return unaccounted.carrier_failed(attempt, address, now, error)
    if status == "finished":
        return unaccounted.carrier_silent(attempt, address, now)
    return unaccounted.link_lost(attempt, address, now)
