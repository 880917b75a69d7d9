"""How long the link waits for others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """Waits in seconds, all bounded."""

    retire_s: float = 10.0
    """For workers to leave when their allocation is closed; a courier ends its slots well within."""
    goodbye_s: float = 1.0
    """After its workers left, for a batch job to end by itself before it is cancelled: COMPLETED, not CANCELLED."""
    call_s: float = 10.0
    """For a courier to answer a call."""
    late_words_s: float = 2.0
    """After a carrier ended, for reports that are still on their way."""
    pulse_every_s: float = 5.0
    """Between two tries whether the scheduler still delivers to us."""
    pulse_s: float = 10.0
    """For such a try to come back before the subscription is taken for lost."""
    pulse_again_s: float = 0.1
    """While subscribing: a pulse may overtake the subscription, so it is repeated."""
