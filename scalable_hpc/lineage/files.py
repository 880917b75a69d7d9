"""What a run has on disk for its keeper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scalable_hpc.errors import JournalError
from scalable_hpc.lineage.journal import Journal
from scalable_hpc.lineage.lease import Lease
from scalable_hpc.lineage.parcels import Contents, Parcels, Written
from scalable_hpc.lineage.payload import PayloadPack


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a run has on disk for its keeper, open for writing; the keeper closes it all in the end."""

    journal: Journal
    payloads: PayloadPack
    lease: Lease | None = None

    def commit(self, wanted: Sequence[Written], parcels: Parcels) -> list[Contents | JournalError]:
        """Bring everything to disk, payloads before the events that name them, then read what is to be sent."""
        self.payloads.commit()
        self.journal.commit()
        return [parcels.read(one) for one in wanted]

    def close(self) -> None:
        """Commit and close; the lease is given back whatever happens."""
        try:
            self.payloads.close()
            self.journal.close()
        finally:
            if self.lease is not None:
                self.lease.release()
