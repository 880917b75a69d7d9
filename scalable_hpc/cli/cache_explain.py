"""``scalable-hpc cache explain``: why a call was not found, in words."""

from __future__ import annotations

import argparse
import contextlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from scalable_hpc.cli.cache_arguments import add_action, books_of, keys_named, moment, print_json
from scalable_hpc.cli.run_arguments import add_runs_dir, chosen_run
from scalable_hpc.errors import RunDirectoryError

if TYPE_CHECKING:
    from scalable_hpc.cache.books import Books
    from scalable_hpc.cache.explain import Explanation
    from scalable_hpc.runs import RunDirectory


def add_explain(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the action's arguments."""
    text = "why a call was not found: which argument, whose code, which version"
    explain = add_action(actions, "explain", text, _explain, formats=True)
    what = "a call, as 'model:run(3, name=\"b\")' or 'study.py:run(3)'; a key, or the first digits of one"
    explain.add_argument("what", metavar="CALL-OR-KEY", help=what + "; with --run, a task of that run")
    explain.add_argument("--run", metavar="RUN", help="a run's id or the start of it: CALL-OR-KEY is a task of it")
    add_runs_dir(explain)


def _explain(arguments: argparse.Namespace) -> int:
    books = books_of(arguments)
    found = _found(books, arguments)
    if isinstance(found, str):
        if arguments.format == "json":
            print_json({"key": None, "because": [found]})
        else:
            print(found)
        return 0
    if arguments.format == "json":
        print_json(asdict(found))
    else:
        _print(found)
    return 0


def _found(books: Books, arguments: argparse.Namespace) -> Explanation | str:
    from scalable_hpc.cache.encode import Unencodable
    from scalable_hpc.cache.explain import explain_call, explain_key, key_of, noted_keys
    from scalable_hpc.cache.typed_call import UnknownCall, is_call, read_call

    if arguments.run is not None:
        return explain_key(books, _key_of_task(chosen_run(arguments), arguments.what))
    if is_call(arguments.what):
        try:
            with contextlib.redirect_stdout(sys.stderr):  # what the user's module prints is not the answer
                return explain_call(books, key_of(read_call(arguments.what)))
        except Unencodable as problem:
            return f"it has no key, and is computed every time: {problem}"
        except TypeError as problem:
            raise UnknownCall(str(problem)) from problem
    known = noted_keys(books) | {result.key for result in books.results()}
    return explain_key(books, keys_named(known, [arguments.what])[0])


def _key_of_task(run: RunDirectory, task_id: str) -> str:
    from scalable_hpc.lineage.journal import read_events
    from scalable_hpc.model.events import TaskSubmitted

    for event in read_events(run.journal):
        if isinstance(event, TaskSubmitted) and event.task_id == task_id:
            return event.key
    raise RunDirectoryError(
        f"no task {task_id!r} in the run {run.run_id}: hits are none, they were never submitted",
        hint=f"scalable-hpc report {run.run_id}",
    )


def _print(found: Explanation) -> None:
    print(f"key       {found.key}")
    if found.function:
        print(f"function  {found.function}")
    state = "not kept: the call would be computed"
    if found.is_kept and found.stored is not None:
        state = f"kept since {moment(found.stored)}: the call would be found"
    ran = "" if found.run_s is None else f"; it ran for {found.run_s:.3g} s"
    print(f"result    {state}{ran}")
    if found.compared_with is not None and found.compared_at is not None:
        print(f"nearest   {found.compared_with}, of {moment(found.compared_at)}; apart from that one,")
    for word in found.because:
        print(f"          {word}")
