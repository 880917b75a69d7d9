"""``scalable-hpc cache rekey``: another key for the cache, and what older ones sealed sealed anew."""

from __future__ import annotations

import argparse
import sys
import time

from scalable_hpc.cli.cache_arguments import add_action, books_of, span
from scalable_hpc.errors import StoreError


def add_rekey(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the action's arguments."""
    rekey = add_action(actions, "rekey", "make a new key, and seal anew what older ones have sealed", _rekey)
    how = rekey.add_mutually_exclusive_group()
    same = "make no new key: seal anew with the one there is, in another cache, or what was left last time"
    how.add_argument("--same-key", action="store_true", help=same)
    give_up = "as --same-key; then believe the older keys no more, unless something is still sealed with one"
    how.add_argument("--give-up-old", action="store_true", help=give_up)
    refuse = "make a new key and believe the older ones no more, at once: what they sealed is computed again"
    how.add_argument("--refuse-old", action="store_true", help=refuse)
    quiet = "a writer on another host that has written nothing for so long has ended (default: 30d)"
    rekey.add_argument("--quiet-for", type=span, metavar="SPAN", help=quiet)


def _rekey(arguments: argparse.Namespace) -> int:
    from scalable_hpc.cache.keyring import give_up_old_keys, key_path, renew_key
    from scalable_hpc.cache.rekey import reseal
    from scalable_hpc.cache.writers import QUIET_S

    if arguments.refuse_old:
        renew_key(keep_old=False)
        print(f"{key_path()}: a new key; nothing that was sealed before is believed any more", file=sys.stderr)
        return 0
    books_of(arguments)  # before a key is made for nothing
    if not (arguments.same_key or arguments.give_up_old):
        print(f"{key_path()}: a new key; {renew_key()} older ones are still believed", file=sys.stderr)
    books = books_of(arguments)
    done = reseal(books, time.time(), quiet_s=QUIET_S if arguments.quiet_for is None else arguments.quiet_for)
    print(f"{done.files} files sealed anew, {done.damaged} damaged results taken back", file=sys.stderr)
    for stem, because in done.left.items():
        print(f"{stem} stays: {because}", file=sys.stderr)
    if not arguments.give_up_old:
        return 0
    if done.left:
        raise StoreError(
            f"{len(done.left)} files of {books.root!r} are still sealed with an older key, which is kept",
            hint="once no run uses the cache: scalable-hpc cache rekey --give-up-old --quiet-for 1m",
        )
    give_up_old_keys()
    print(f"{key_path()}: the older keys are given up", file=sys.stderr)
    return 0
