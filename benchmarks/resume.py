"""How long it takes to know what is left of a run: a journal of finished tasks, read back as each verb does.

    python benchmarks/resume.py [--tasks 1000000] [--keep DIRECTORY]

The journal is written by the journal's own writer, three events a task, as a driver writes them; payloads too. Then,
each in a process of its own: what ``scalable-hpc status`` reads, and what a new driver does before it takes calls.
Prints seconds, microseconds a task, peak memory, and the inodes that the run has.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from scalable_hpc.lineage.journal import Journal, fold_journal
from scalable_hpc.lineage.ledger import Ledger
from scalable_hpc.lineage.payload import PayloadPack
from scalable_hpc.lineage.quick import QuickFold
from scalable_hpc.lineage.replay import left_to_do
from scalable_hpc.model.events import AttemptPlaced, Event, ReceiptTaken, RunOpened, TaskSubmitted
from scalable_hpc.model.resources import Needs
from scalable_hpc.model.tasks import Payload, RetryPolicy

MUST_S = 20.0
"""For a million tasks."""
_TURN = 300
"""Tasks journaled together, as a keeper's turn does."""
_NOW = 1_800_000_000.0


def events_of(number: int, pack: PayloadPack, store: str, function: Payload) -> Iterator[Event]:
    """What is journaled of one task from its submission to its receipt."""
    now = _NOW + number / 100
    task_id = f"run_simulation-{number:05d}"
    key = blake3(task_id.encode()).hexdigest()
    arguments = pack.add(Payload(key, 60, inline=key.encode()[:60]))
    label, needs = f"run_simulation(scenario_id={number})", Needs(2, 2 << 30, 0, "model")
    yield TaskSubmitted(
        now, task_id, "run_simulation", key, store, function, arguments, needs=needs, policy=RetryPolicy(3), label=label
    )
    yield AttemptPlaced(now + 1, task_id, 1, "tls://10.12.0.17:41234", "a0017", 3120.25, 12.5)
    yield ReceiptTaken(
        now + 14, task_id, 1, key, 5120, now + 1.5, now + 13.9, 123_456_789, "node0123", "a0017", cold=number % 50 == 0
    )


def write(run: Path, tasks: int) -> None:
    """Write the journal and the payloads of a run whose tasks are all done."""
    journal = Journal(run / "journal.jsonl", "run", fsync=False)
    pack = PayloadPack(run / "payloads.pack", fsync=False)
    journal.append(RunOpened(_NOW, "run", "slurm", 1, "login", "0"))
    function = pack.add(Payload(blake3(b"f").hexdigest(), 1, inline=b"f"))
    for first in range(0, tasks, _TURN):
        for number in range(first, min(first + _TURN, tasks)):
            for event in events_of(number, pack, str(run / "results"), function):
                journal.append(event)
        pack.commit()
        journal.commit()
    pack.close()
    journal.close()


def read(run: Path, how: str) -> dict[str, float]:
    """Find out what is left of a run; seconds and peak memory of this process (MB)."""
    ledger = Ledger()
    began, worked = time.perf_counter(), time.process_time()
    if how == "status":
        fold_journal(run / "journal.jsonl", ledger)
    else:
        journal = Journal(run / "journal.jsonl", "run", into=QuickFold(ledger), fsync=False)
        pack = PayloadPack(run / "payloads.pack", fsync=False)
        journal.close()
        pack.close()
    left = left_to_do(ledger)
    took, worked = time.perf_counter() - began, time.process_time() - worked
    if not left.is_nothing:
        raise AssertionError(f"{len(left.ready)} tasks are left, there should be none")
    return {
        "tasks": left.done,
        "s": took,
        "cpu_s": worked,
        "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Write, read, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="use this directory, and the journal in it if there is one")
    parser.add_argument("--read", choices=("status", "resume"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read(options.keep, options.read)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        run = options.keep or Path(temporary)
        run.mkdir(parents=True, exist_ok=True)
        if not (run / "journal.jsonl").exists():
            write(run, options.tasks)
        size = (run / "journal.jsonl").stat().st_size / 1e6
        print(f"journal: {size:,.0f} MB; inodes of the run: {len(list(run.rglob('*')))}")
        for how in ("status", "resume"):
            command = [sys.executable, __file__, "--keep", str(run), "--read", how]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            each = 1e6 * found["s"] / found["tasks"]
            most = MUST_S * found["tasks"] / 1_000_000
            verdict = "ok" if found["s"] <= most else "TOO SLOW"
            print(
                f"{how:7} {found['tasks']:,.0f} tasks: {found['s']:6.2f} s ({found['cpu_s']:.2f} s of CPU),"
                f" {each:.1f} us a task, {found['MB']:,.0f} MB (must be at most {most:.1f} s: {verdict})"
            )


if __name__ == "__main__":
    main()
