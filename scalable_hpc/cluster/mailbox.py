"""What workers and the scheduler say, taken off Dask's event topics and opened.

When the client loses the scheduler and comes back, whatever was said meanwhile is lost without a trace. So a pulse is
sent round now and then: when it does not come back, the topics are subscribed again, and after every pulse the owner
compares what it believes with what is.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from scalable_hpc.cluster.patience import Patience
from scalable_hpc.cluster.quiet_import import Client
from scalable_hpc.model.messages import (
    TOPIC,
    AttemptDone,
    AttemptEnded,
    Upward,
    WorkerDraining,
    WorkerGone,
    WorkerHello,
)

logger = logging.getLogger(__name__)

_UPWARD = (WorkerHello, WorkerDraining, WorkerGone, AttemptDone, AttemptEnded)
_SCHEDULER_TOPIC = "all"
_PULSE = "pulse"


def has_given_up(client: Client) -> bool:
    """Whether a client lost its scheduler for good, or was closed; what is sent through it would raise."""
    return bool(client.status == "closed")


class Mailbox:
    """Subscriptions of one client, kept alive."""

    def __init__(
        self,
        client: Client,
        on_upward: Callable[[Upward], None],
        on_scheduler_event: Callable[[Mapping[str, Any], float], None],
        patience: Patience,
    ) -> None:
        self._client = client
        self._on_upward = on_upward
        self._on_scheduler_event = on_scheduler_event
        self._patience = patience
        self._echoed = asyncio.Event()

    async def open(self) -> None:
        """Subscribe and return once the scheduler demonstrably delivers."""
        self._client.subscribe_topic(_SCHEDULER_TOPIC, self._take_scheduler_event)
        self._client.subscribe_topic(TOPIC, self._take_letter)
        while not await self._pulse(self._patience.pulse_again_s):
            pass

    async def keep_open(self, compare: Callable[[], None]) -> None:
        """Send pulses for ever, subscribe again when one is lost, and have the owner compare after each."""
        while not has_given_up(self._client):
            await asyncio.sleep(self._patience.pulse_every_s)
            try:
                if not await self._pulse(self._patience.pulse_s):
                    logger.warning("The link between driver and scheduler is silent; subscribing again")
                    await self.open()
            except OSError as error:
                logger.warning("The link between driver and scheduler is broken: %s", error)
            compare()
        logger.error("The driver has lost its scheduler for good")

    def close(self) -> None:
        """Unsubscribe; the scheduler would else write our own farewell to a connection that we have closed."""
        if not has_given_up(self._client):
            self._client.unsubscribe_topic(_SCHEDULER_TOPIC)
            self._client.unsubscribe_topic(TOPIC)

    async def _pulse(self, patience_s: float) -> bool:
        """Send a pulse round and return whether it came back in time."""
        self._echoed.clear()
        await self._client.log_event(TOPIC, {"kind": _PULSE})
        try:
            await asyncio.wait_for(self._echoed.wait(), patience_s)
        except asyncio.TimeoutError:
            return False
        return True

    def _take_letter(self, event: tuple[float, Any]) -> None:
        letter = event[1]
        if isinstance(letter, dict) and letter.get("kind") == _PULSE:
            self._echoed.set()
            return
        for message in open_letter(letter):
            self._on_upward(message)

    def _take_scheduler_event(self, event: tuple[float, Any]) -> None:
        at, what = event
        if isinstance(what, dict):
            self._on_scheduler_event(what, at)


def open_letter(letter: Any) -> tuple[Upward, ...]:
    """Return the messages in ``{"kind": ..., "body": pickle of one or of a tuple}``, in their order.

    What cannot be read is logged and left out. No attempt hangs on it: when its bundle ends without a word, the link
    says so.
    """
    try:
        content = pickle.loads(letter["body"])
    except Exception as error:  # noqa: BLE001  (unpickling may raise anything)
        logger.error("A worker's message cannot be read: %s: %s", type(error).__name__, error)
        return ()
    messages = content if isinstance(content, tuple) else (content,)
    for message in messages:
        if not isinstance(message, _UPWARD):
            logger.error("A worker sent something that is no message of ours: %s", type(message).__name__)
    return tuple(message for message in messages if isinstance(message, _UPWARD))
