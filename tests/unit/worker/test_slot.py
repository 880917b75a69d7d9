"""Laws of the process that runs user code."""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import cloudpickle
import pytest

from scalable_hpc.cache.decorator import cacheable
from scalable_hpc.cache.serial import loads
from scalable_hpc.cache.store import Store
from scalable_hpc.model.tasks import Ending, Evidence, Locator, Receipt, ResultRef
from tests.worker_bench import CourierBench
from tests.worker_envelopes import key_of

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    with CourierBench(tmp_path_factory.mktemp("slot"), slots=1) as bench:
        yield bench


def value_of(outcome):
    """Return the result that a receipt speaks of."""
    assert isinstance(outcome, Receipt), outcome
    return loads(outcome.result.inline)


def result_of(bench, function_, /, *args, **options):
    [outcome] = bench.run(bench.envelope(function_, *args, **options))
    return value_of(outcome)


def where_am_i():
    return {"pid": os.getpid(), "group": os.getpgid(0), "cwd": str(Path.cwd()), **os.environ}


def test_that_a_slot_has_a_process_group_and_a_scratch_directory_of_its_own(bench):
    """And knows its number; nothing of it is the courier's."""
    place = result_of(bench, where_am_i)

    assert place["pid"] == place["group"]
    assert place["pid"] != os.getpid()
    assert place["SCALABLE_HPC_SLOT"] == "0"
    assert Path(place["SCALABLE_HPC_SCRATCH"]).is_dir()
    assert place["OMP_NUM_THREADS"] == os.environ.get("OMP_NUM_THREADS", "1")


def litter():
    Path(os.environ["SCALABLE_HPC_SCRATCH"], "file").write_text("x")
    Path(os.environ["SCALABLE_HPC_SCRATCH"], "directory", "below").mkdir(parents=True)
    os.chdir("/")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return os.getpid()


def look_around():
    left = sorted(map(str, Path(os.environ["SCALABLE_HPC_SCRATCH"]).iterdir()))
    return os.getpid(), left, str(Path.cwd()), signal.getsignal(signal.SIGTERM) != signal.SIG_DFL


def test_that_nothing_of_an_attempt_is_left_to_the_next(bench):
    """Scratch is empty, the working directory is back, signals are unheeded again, in the same process."""
    pid = result_of(bench, litter)

    found = result_of(bench, look_around)

    assert found == (pid, [], str(Path.cwd()), True)


def add(left, right):
    return left + right


def test_that_references_are_replaced_by_results(bench):
    """From inline bytes and from the store, nested in arguments."""
    from scalable_hpc.cache.serial import dumps

    stored = Store(bench.base / "store").publish(key_of("stored"), dumps([3]))
    away = Locator(stored.store, stored.key, stored.digest, stored.size)
    inline = Locator("/nowhere", key_of("inline"), "", 0, inline=dumps([4]))
    arguments = cloudpickle.dumps(((), {"left": ResultRef("a", away.key), "right": [*[ResultRef("b", inline.key)]]}))

    result = result_of(bench, add, arguments=arguments, inputs={away.key: away, inline.key: inline})

    assert result == [3, [4]]


def spoil(items):
    items.append("spoilt")
    return items


def test_that_an_input_is_fresh_for_every_attempt(bench):
    """What one attempt does to its arguments the next does not see."""
    from scalable_hpc.cache.serial import dumps

    source = Locator("/nowhere", key_of("fresh"), "", 0, inline=dumps([1]))
    arguments = cloudpickle.dumps(((ResultRef("a", source.key),), {}))
    options = {"arguments": arguments, "inputs": {source.key: source}}

    outcomes = bench.run(bench.envelope(spoil, **options), bench.envelope(spoil, **options))

    assert [value_of(outcome) for outcome in outcomes] == [[1, "spoilt"]] * 2


def test_that_an_input_that_is_gone_is_not_the_tasks_fault(bench):
    """Refused, with what went wrong."""
    gone = Locator(str(bench.base / "store"), key_of("gone"), key_of("gone"), 5)
    arguments = cloudpickle.dumps(((ResultRef("a", gone.key), 1), {}))

    [evidence] = bench.run(bench.envelope(add, arguments=arguments, inputs={gone.key: gone}))

    assert evidence.ending is Ending.REFUSED
    assert evidence.exception.message


def big(size):
    return bytes(size)


def test_that_a_large_result_is_durable_before_it_is_reported(bench):
    """It travels through the store, not through the pipe."""
    [receipt] = bench.run(bench.envelope(big, 300_000))

    assert receipt.result.inline is None
    assert receipt.result.size > 300_000
    assert Store(bench.base / "store").load(receipt.result) == bytes(300_000)


@pytest.mark.parametrize("function", [lambda: sys.exit(3), lambda: (_ for _ in ()).throw(KeyboardInterrupt)])
def test_that_leaving_python_is_an_ending_like_any_exception(bench, function):
    """The slot lives on."""
    pid = result_of(bench, os.getpid)

    [evidence] = bench.run(bench.envelope(function))

    assert evidence.ending is Ending.EXCEPTION
    assert evidence.exception.type_name in {"builtins.SystemExit", "builtins.KeyboardInterrupt"}
    assert result_of(bench, os.getpid) == pid


class NeedsTwo(ValueError):
    """Is pickled, and cannot be unpickled: the usual mistake."""

    def __init__(self, one, two):
        super().__init__(f"{one}-{two}")


class HoldsSteps(ValueError):
    """Cannot be pickled."""

    def __init__(self, one, two):
        super().__init__(f"{one}-{two}")
        self.steps = (step for step in (one, two))


def raise_one(kind):
    raise kind("left", "right")


@pytest.mark.parametrize("kind", [NeedsTwo, HoldsSteps])
def test_that_an_exception_that_cannot_be_pickled_is_told_all_the_same(bench, kind):
    """Type, message, bases and traceback; in its place the nearest built-in one, which says what it stands for."""
    [evidence] = bench.run(bench.envelope(raise_one, kind))

    facts = evidence.exception
    assert facts.type_name.endswith(f".{kind.__name__}")
    assert facts.message == "left-right"
    assert "builtins.ValueError" in facts.bases
    assert "in raise_one" in facts.traceback
    assert "worker/slot.py" not in facts.traceback
    stand_in = pickle.loads(facts.pickled)
    assert type(stand_in) is ValueError
    assert str(stand_in).endswith(f"{kind.__name__}: left-right")


def test_that_a_result_of_the_wrong_type_is_not_published(bench):
    """A cacheable call that breaks its word is its own failure, and leaves no result behind."""
    envelope = bench.envelope(add, 1, 2, result_type=cloudpickle.dumps(dict))

    [evidence] = bench.run(envelope)

    assert evidence.exception.type_name == "builtins.TypeError"
    assert Store(bench.base / "store").lookup(envelope.key) is None
    assert result_of(bench, add, 1, 2, result_type=cloudpickle.dumps(int)) == 3


@cacheable(return_type=list, numbers=list)
def listed(numbers, log):
    with Path(log).open("a") as stream:
        stream.write("ran\n")
    return numbers if sum(numbers) < 100 else sum(numbers)


def test_that_a_cacheable_function_is_called_raw(bench, tmp_path):
    """Looking up and keeping are the courier's: the slot neither skips the call nor keeps its result elsewhere."""
    log = str(tmp_path / "log")

    results = [result_of(bench, listed, [1], log, store=str(tmp_path / "other")) for _ in range(2)]

    assert results == [[1], [1]]
    assert Path(log).read_text() == "ran\n" * 2


@pytest.mark.parametrize("numbers", [(1, 2), [100]], ids=["argument", "result"])
def test_that_a_cacheable_function_is_held_to_its_declared_types(bench, tmp_path, numbers):
    """As when it is called at home."""
    [evidence] = bench.run(bench.envelope(listed, numbers, str(tmp_path / "log")))

    assert evidence.exception.type_name == "builtins.TypeError"
    assert "list" in evidence.exception.message


def test_that_a_dying_slot_leaves_no_core(bench):
    """The soft limit alone is zero: user code can raise it."""
    soft, hard = result_of(bench, core_limits)

    assert soft == 0
    assert hard == resource.getrlimit(resource.RLIMIT_CORE)[1]


def core_limits():
    return resource.getrlimit(resource.RLIMIT_CORE)


def fork_and_return():
    child = os.fork()
    if child == 0:
        return "from the child"
    os.waitpid(child, 0)
    return "from the parent"


def test_that_a_forked_child_does_not_answer(bench):
    """Code that forks and lets the child return would otherwise answer twice."""
    envelopes = [bench.envelope(fork_and_return), bench.envelope(add, 1, 1)]

    outcomes = bench.run(*envelopes)

    assert [value_of(outcome) for outcome in outcomes] == ["from the parent", 2]


def ended_by_terminate():
    import multiprocessing

    worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    worker.start()
    worker.terminate()
    worker.join(20)
    return worker.exitcode


def heeds_sigterm():
    process = subprocess.Popen(["sleep", "600"])
    process.terminate()
    return process.wait(20)


@pytest.mark.parametrize("function", [ended_by_terminate, heeds_sigterm])
def test_that_children_of_user_code_can_be_ended(bench, function):
    """Our deafness to SIGTERM is not inherited: multiprocessing pools and programs end as they always do."""
    assert result_of(bench, function) == -signal.SIGTERM


def survive():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        os.kill(os.getpid(), number)
        time.sleep(0.01)
    return "alive"


def test_that_the_signals_of_an_ending_job_do_not_stop_an_attempt(bench):
    """It may use the grace time that the batch system gives."""
    assert result_of(bench, survive) == "alive"


def test_that_modules_beside_the_run_are_found(bench):
    """The search path is the worker's working directory and what the environment adds."""
    (bench.modules / "beside_the_run.py").write_text(
        textwrap.dedent("""
        def answer():
            return 42
    """)
    )
    code = b"cbeside_the_run\nanswer\n."

    result = result_of(bench, add, function=code, function_digest="answer", arguments=cloudpickle.dumps(((), {})))

    assert result == 42


def test_that_a_module_that_is_not_there_is_the_users_to_install(bench):
    """An ImportError like one in the user's own code."""
    code = b"cno_such_module\nanswer\n."

    [evidence] = bench.run(bench.envelope(add, function=code, function_digest="missing"))

    assert evidence.ending is Ending.EXCEPTION
    assert evidence.exception.type_name == "builtins.ModuleNotFoundError"


def hold(megabytes):
    block = bytearray(os.urandom(1 << 20) * megabytes)
    return len(block)


def test_that_peak_memory_is_the_attempts_own(bench):
    """A small attempt after a large one in the same slot is small again."""
    large, small = bench.run(bench.envelope(hold, 100), bench.envelope(hold, 1))

    assert large.peak_memory > 100 << 20
    assert small.peak_memory < large.peak_memory - (80 << 20)


def segfault():
    ctypes.string_at(0)


def complain_and_die():
    sys.stderr.write("about to give up\n")
    os._exit(3)


def test_that_the_last_words_are_evidence(bench):
    """What was written to stderr, or what the interpreter says where it crashed."""
    [gave_up] = bench.run(bench.envelope(complain_and_die))
    [crashed] = bench.run(bench.envelope(segfault))

    assert isinstance(gave_up, Evidence)
    assert gave_up.log_tail == "about to give up\n"
    assert "in segfault" in crashed.log_tail
    assert "give up" not in crashed.log_tail
