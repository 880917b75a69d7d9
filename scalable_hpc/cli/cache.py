"""``scalable-hpc cache ...``: what the result cache holds, whether it is sound, and giving space back."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scalable_hpc.errors import StoreError
from scalable_hpc.model.units import format_memory, parse_memory, parse_walltime

if TYPE_CHECKING:
    from scalable_hpc.cache.books import Books, Result
    from scalable_hpc.cache.checkup import Finding
    from scalable_hpc.cache.upkeep import GcPlan

_Act = Callable[[argparse.Namespace], int]
_SHORTEST_PREFIX = 4


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb's arguments."""
    parser = verbs.add_parser("cache", help="what the result cache holds; verify it, clean it, carry results away")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    _action(actions, "ls", "every result: key, size, when it was stored", _ls, formats=True)
    _action(actions, "stats", "how many results, bytes and inodes", _stats, formats=True)
    show = _action(actions, "show", "one result: where its copies lie, and whether they are sound", _show, formats=True)
    show.add_argument("key", metavar="KEY", help="a key, or the first digits of one")
    verify = _action(actions, "verify", "read every record; 28 when one is damaged or gone", _verify, formats=True)
    verify.add_argument("--repair", action="store_true", help="put what is damaged in quarantine: it is computed again")
    _add_gc(actions)
    rm = _action(actions, "rm", "forget results; gc gives their space back", _rm)
    rm.add_argument("keys", nargs="+", metavar="KEY", help="a key, or the first digits of one")
    export = _action(actions, "export", "write results to a tar file", _export)
    export.add_argument("file", type=Path, metavar="FILE")
    export.add_argument("keys", nargs="*", metavar="KEY", help="which (default: all)")
    take_in = _action(actions, "import", "take in results that export wrote; each digest is checked", _import)
    take_in.add_argument("file", type=Path, metavar="FILE")


def _action(
    actions: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    text: str,
    act: _Act,
    *,
    formats: bool = False,
) -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=text, description=text)
    where = "the cache (default: $SCALABLE_HPC_CACHE_DIR, $SCALABLE_CACHE_DIR or ./.scalable/cache)"
    parser.add_argument("--cache-dir", help=where)
    if formats:
        parser.add_argument("--format", choices=("text", "json"), default="text")

    def guarded(arguments: argparse.Namespace) -> int:
        try:
            return act(arguments)
        except BrokenPipeError:
            raise
        except OSError as err:
            raise StoreError(f"cache {name}: {err}") from err

    parser.set_defaults(act=guarded)
    return parser


def _add_gc(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    gc = _action(
        actions, "gc", "give back what no result needs; results go only by the limits given", _gc, formats=True
    )
    gc.add_argument("--older-than", type=_span, metavar="SPAN", help="results stored longer ago go, e.g. 30d")
    larger = "results larger than this go, e.g. 1G; with --older-than, only those that are both"
    gc.add_argument("--larger-than", type=_size, metavar="SIZE", help=larger)
    gc.add_argument("--max-size", type=_size, metavar="SIZE", help="the oldest go until results fit, e.g. 10G")
    gc.add_argument("--dry-run", action="store_true", help="only say what would be done")


def _ls(arguments: argparse.Namespace) -> int:
    results = sorted(_books(arguments).results(), key=lambda result: (result.created, result.key))
    if arguments.format == "json":
        _print_json([_described(result) for result in results])
        return 0
    for result in results:
        print(f"{result.key}  {format_memory(result.entry.size):>10}  {_moment(result.created)}")
    print(f"{len(results)} results", file=sys.stderr)
    return 0


def _stats(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.checkup import count

    books = _books(arguments)
    stats = count(books)
    if arguments.format == "json":
        _print_json({"root": books.root, **asdict(stats)})
        return 0
    print(f"cache       {books.root}")
    print(f"results     {stats.entries}, {format_memory(stats.result_bytes)}")
    print(f"on disk     {format_memory(stats.disk_bytes)} in {stats.inodes} inodes")
    print(f"files       {stats.packs} writers' files, {stats.blobs} blobs, {stats.quarantined} in quarantine")
    if stats.damaged_entries:
        print(f"damaged     {stats.damaged_entries} index entries, passed over")
    if stats.foreign_entries:
        print(f"not ours    {stats.foreign_entries} index entries are sealed with another key; they are left alone")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.checkup import examine_result

    books = _books(arguments)
    result = books.result(_keys(books, [arguments.key])[0])
    assert result is not None
    faults = {id(finding.place): finding.because for finding in examine_result(books, result)}
    copies = [
        {"file": place.stem, "entry": place.ordinal, "state": faults.get(id(place), "sound")} for place in result.places
    ]
    if arguments.format == "json":
        _print_json({**_described(result), "copies": copies})
        return 0
    for name, value in _described(result).items():
        print(f"{name:<8} {_moment(value) if name == 'created' else value}")
    for copy in copies:
        print(f"copy     {copy['file']}, entry {copy['entry']}: {copy['state']}")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.checkup import examine, repair

    books = _books(arguments)
    copies = sum(len(result.places) for result in books.results())
    findings = list(examine(books))
    left = repair(books, findings, time.time()) if arguments.repair else findings
    unsound = sum(file.unsound() for file in books.files.values())
    if arguments.format == "json":
        _print_json([_told(finding, repaired=finding not in left) for finding in findings])
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

    books, now = _books(arguments), time.time()
    plan = plan_gc(books, Limits(arguments.older_than, arguments.larger_than, arguments.max_size), now)
    done = None if arguments.dry_run else carry_out(books, plan, now)
    if arguments.format == "json":
        _print_json({**_planned(plan), "done": None if done is None else asdict(done)})
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


def _rm(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.store import Store

    keys = _keys(_books(arguments), arguments.keys)
    with Store(_root(arguments), create=False) as store:
        for key in keys:
            store.forget(key)
            print(key)
    print(f"{len(keys)} forgotten; scalable-hpc cache gc gives their space back", file=sys.stderr)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.archive import export_archive
    from scalable_hpc.cache.store import Store

    books = _books(arguments)
    keys = _keys(books, arguments.keys) if arguments.keys else sorted(result.key for result in books.results())
    with Store(_root(arguments), create=False) as store:
        done = export_archive(store, arguments.file, keys)
    for key in done.damaged:
        print(f"{key} is damaged or gone: left out", file=sys.stderr)
    print(f"{done.records} results, {format_memory(done.data_bytes)}, in {arguments.file}", file=sys.stderr)
    return StoreError.exit_code if done.damaged else 0


def _import(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.archive import import_archive
    from scalable_hpc.cache.store import Store

    with Store(_root(arguments)) as store:
        done = import_archive(store, arguments.file)
    for name in done.refused:
        print(f"{name!r} is not what its name says: refused", file=sys.stderr)
    print(f"{done.taken} results taken in, {done.known} known already", file=sys.stderr)
    return StoreError.exit_code if done.refused else 0


def _root(arguments: argparse.Namespace) -> str:
    from scalable_hpc.cache.decorator import default_store_root

    return arguments.cache_dir or default_store_root()


def _books(arguments: argparse.Namespace) -> Books:
    from scalable_hpc.cache.books import Books

    return Books(_root(arguments))


def _keys(books: Books, given: Iterable[str]) -> list[str]:
    """Return the keys that people named by all or the first of their digits.

    Raises:
        StoreError: there is none, or several begin like that.
    """
    known = sorted(result.key for result in books.results())
    return list(dict.fromkeys(_key(known, each.lower()) for each in given))


def _key(known: list[str], given: str) -> str:
    found = [key for key in known if key.startswith(given)] if len(given) >= _SHORTEST_PREFIX else []
    if len(found) > 1:
        raise StoreError(f"{len(found)} keys begin with {given!r}", hint="give more digits")
    if not found:
        raise StoreError(
            f"no key begins with {given!r} (at least {_SHORTEST_PREFIX} digits)", hint="scalable-hpc cache ls"
        )
    return found[0]


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


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _span(text: str) -> float:
    return _argument(parse_walltime, text)


def _size(text: str) -> int:
    return _argument(parse_memory, text)


def _argument(parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as err:
        raise argparse.ArgumentTypeError(str(err)) from err
