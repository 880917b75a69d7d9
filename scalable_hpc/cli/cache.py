"""``scalable-hpc cache ...``: what the result cache holds, whether it is sound, and giving space back."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalable_hpc.cli.cache_arguments import (
    add_action,
    argument,
    books_of,
    keys_named,
    moment,
    print_json,
    root_of,
    span,
)
from scalable_hpc.cli.cache_explain import add_explain
from scalable_hpc.cli.cache_rekey import add_rekey
from scalable_hpc.cli.run_arguments import add_runs_dir, run_named
from scalable_hpc.errors import StoreError
from scalable_hpc.model.units import format_memory, parse_memory

if TYPE_CHECKING:
    from scalable_hpc.cache.books import Result
    from scalable_hpc.cache.checkup import Finding
    from scalable_hpc.cache.upkeep import GcPlan


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("cache", help="what the result cache holds; verify it, clean it, carry results away")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    add_action(actions, "ls", "every result: key, size, when it was stored", _ls, formats=True)
    add_action(
        actions, "stats", "how many results, bytes, inodes and hits, and what the hits saved", _stats, formats=True
    )
    show = add_action(
        actions, "show", "one result: where its copies lie, and whether they are sound", _show, formats=True
    )
    show.add_argument("key", metavar="KEY", help="a key, or the first digits of one")
    add_explain(actions)
    verify = add_action(actions, "verify", "read every record; 28 when one is damaged or gone", _verify, formats=True)
    verify.add_argument("--repair", action="store_true", help="put what is damaged in quarantine: it is computed again")
    _add_gc(actions)
    add_rekey(actions)
    rm = add_action(actions, "rm", "forget results; gc gives their space back", _rm)
    rm.add_argument("keys", nargs="+", metavar="KEY", help="a key, or the first digits of one")
    export = add_action(actions, "export", "write results to a tar file", _export)
    export.add_argument("file", type=Path, metavar="FILE")
    export.add_argument("keys", nargs="*", metavar="KEY", help="which (default: all)")
    take_in = add_action(actions, "import", "take in results that export wrote; each digest is checked", _import)
    take_in.add_argument("file", type=Path, metavar="FILE")


def _add_gc(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    gc = add_action(
        actions, "gc", "give back what no result needs; results go only by the limits given", _gc, formats=True
    )
    gc.add_argument("--older-than", type=span, metavar="SPAN", help="results stored longer ago go, e.g. 30d")
    larger = "results larger than this go, e.g. 1G; with --older-than, only those that are both"
    gc.add_argument("--larger-than", type=_size, metavar="SIZE", help=larger)
    gc.add_argument("--max-size", type=_size, metavar="SIZE", help="the oldest go until results fit, e.g. 10G")
    kept = "results that a run was given or has made stay, whatever the limits; may be said several times"
    gc.add_argument("--keep-run", action="append", default=[], metavar="RUN", help=kept)
    add_runs_dir(gc)
    gc.add_argument("--dry-run", action="store_true", help="only say what would be done")


def _ls(arguments: argparse.Namespace) -> int:
    results = sorted(books_of(arguments).results(), key=lambda result: (result.created, result.key))
    if arguments.format == "json":
        print_json([_described(result) for result in results])
        return 0
    for result in results:
        print(f"{result.key}  {format_memory(result.entry.size):>10}  {moment(result.created)}")
    print(f"{len(results)} results", file=sys.stderr)
    return 0


def _stats(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.checkup import count
    from scalable_hpc.cache.tallies import read_tallies

    books = books_of(arguments)
    stats, hits = count(books), read_tallies(books.layout.notes)
    if arguments.format == "json":
        saved = {"hits": hits.count, "saved_core_hours": hits.core_s / 3600}
        print_json({"root": books.root, **asdict(stats), **saved})
        return 0
    print(f"cache       {books.root}")
    print(f"results     {stats.entries}, {format_memory(stats.result_bytes)}")
    print(f"on disk     {format_memory(stats.disk_bytes)} in {stats.inodes} inodes")
    print(f"files       {stats.packs} writers' files, {stats.blobs} blobs, {stats.quarantined} in quarantine")
    print(f"hits        {hits.count}, which saved {hits.core_s / 3600:.3g} core-hours")
    if stats.damaged_entries:
        print(f"damaged     {stats.damaged_entries} index entries, passed over")
    if stats.foreign_entries:
        print(f"not ours    {stats.foreign_entries} index entries are sealed with another key; they are left alone")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.checkup import examine_result

    books = books_of(arguments)
    result = books.result(keys_named((each.key for each in books.results()), [arguments.key])[0])
    assert result is not None
    faults = {id(finding.place): finding.because for finding in examine_result(books, result)}
    copies = [
        {"file": place.stem, "entry": place.ordinal, "state": faults.get(id(place), "sound")} for place in result.places
    ]
    if arguments.format == "json":
        print_json({**_described(result), "copies": copies})
        return 0
    for name, value in _described(result).items():
        print(f"{name:<8} {moment(value) if name == 'created' else value}")
    for copy in copies:
        print(f"copy     {copy['file']}, entry {copy['entry']}: {copy['state']}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.checkup import examine, repair

    books = books_of(arguments)
    copies = sum(len(result.places) for result in books.results())
    findings = list(examine(books))
    left = repair(books, findings, time.time()) if arguments.repair else findings
    unsound = sum(file.unsound() for file in books.files.values())
    if arguments.format == "json":
        print_json([_told(finding, repaired=finding not in left) for finding in findings])
    else:
        for finding in findings:
            said = "left alone" if finding in left else "taken back"
            print(f"{finding.key}  {finding.where}: {finding.because}" + (f"; {said}" if arguments.repair else ""))
    print(f"{copies} records read, {len(findings)} cannot be returned", file=sys.stderr)
    if unsound:
        print(f"{unsound} damaged index entries are passed over", file=sys.stderr)
    return StoreError.exit_code if left else 0


def _gc(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.eviction import Limits
    from scalable_hpc.cache.upkeep import carry_out, plan_gc

    books, now = books_of(arguments), time.time()
    kept = _keys_of_runs(arguments)
    plan = plan_gc(books, Limits(arguments.older_than, arguments.larger_than, arguments.max_size, kept), now)
    done = None if arguments.dry_run else carry_out(books, plan, now)
    if arguments.format == "json":
        print_json({**_planned(plan), "done": None if done is None else asdict(done)})
    else:
        _print_plan(plan)
    if plan.held_back:
        print(f"{plan.held_back} blobs that no result names stay: they are too new", file=sys.stderr)
    if done is None:
        print("nothing was done: --dry-run", file=sys.stderr)
        return 0
    for stem, because in done.compacted.left.items():
        print(f"{stem} stays: {because}", file=sys.stderr)
    freed = f"{format_memory(done.freed_bytes)} and {done.freed_inodes} inodes given back"
    print(f"{done.evicted} results evicted, {done.blobs_removed} blobs removed; {freed}", file=sys.stderr)
    return 0


def _keys_of_runs(arguments: argparse.Namespace) -> frozenset[bytes]:
    from scalable_hpc.cache.eviction import PREFIX
    from scalable_hpc.lineage.journal import read_events
    from scalable_hpc.telemetry.keys import keys_named_in

    kept: set[bytes] = set()
    for name in arguments.keep_run:
        kept |= keys_named_in(read_events(run_named(arguments, name).journal), PREFIX)
    return frozenset(kept)


def _rm(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.store import Store

    keys = keys_named((each.key for each in books_of(arguments).results()), arguments.keys)
    with Store(root_of(arguments), create=False) as store:
        for key in keys:
            store.forget(key)
            print(key)
    print(f"{len(keys)} forgotten; scalable-hpc cache gc gives their space back", file=sys.stderr)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.archive import export_archive
    from scalable_hpc.cache.store import Store

    books = books_of(arguments)
    known = [result.key for result in books.results()]
    keys = keys_named(known, arguments.keys) if arguments.keys else sorted(known)
    with Store(root_of(arguments), create=False) as store:
        done = export_archive(store, arguments.file, keys)
    for key in done.damaged:
        print(f"{key} is damaged or gone: left out", file=sys.stderr)
    print(f"{done.records} results, {format_memory(done.data_bytes)}, in {arguments.file}", file=sys.stderr)
    return StoreError.exit_code if done.damaged else 0


def _import(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.archive import import_archive
    from scalable_hpc.cache.store import Store

    with Store(root_of(arguments)) as store:
        done = import_archive(store, arguments.file)
    for name in done.refused:
        print(f"{name!r} is not what its name says: refused", file=sys.stderr)
    print(f"{done.taken} results taken in, {done.known} known already", file=sys.stderr)
    return StoreError.exit_code if done.refused else 0


def _described(result: Result) -> dict[str, Any]:
    from scalable_hpc.cache.records import Kind

    entry = result.entry
    kind = "blob" if entry.kind == Kind.BLOB else "packed"
    return {
        "key": result.key,
        "digest": entry.digest.hex(),
        "size": entry.size,
        "kind": kind,
        "created": result.created,
    }


def _told(finding: Finding, *, repaired: bool) -> dict[str, Any]:
    return {"key": finding.key, "where": finding.where, "because": finding.because, "repaired": repaired}


def _planned(plan: GcPlan) -> dict[str, Any]:
    return {
        "evictions": [{"key": each.result.key, "because": each.because} for each in plan.evictions],
        "evicted_bytes": plan.evicted_bytes,
        "rewrites": [asdict(each) for each in plan.rewrites],
        "blobs": [{"digest": each.digest.hex(), "size": each.size} for each in plan.blobs],
        "held_back": plan.held_back,
    }


def _print_plan(plan: GcPlan) -> None:
    for eviction in plan.evictions:
        print(f"evict    {eviction.result.key}: {eviction.because}")
    for rewrite in plan.rewrites:
        print(f"rewrite  {rewrite.stem}: {rewrite.because}")
    for blob in plan.blobs:
        print(f"remove   blob {blob.digest.hex()}: {format_memory(blob.size)} that no result names")


def _size(text: str) -> int:
    return argument(parse_memory, text)
