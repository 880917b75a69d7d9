"""Asking the user's own rule about an exception."""

from __future__ import annotations

import os
import signal
import time

import cloudpickle
import psutil
import pytest

from scalable_hpc.worker.rules import Answer, ask


class Code(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


def asked(rule, error, patience_s=10.0):
    return ask(cloudpickle.dumps(rule), error, patience_s=patience_s)


def hold_the_gil(_):
    """A C call that never returns."""
    sum(range(10**15))


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        (lambda error: error.code == 7, True),
        (lambda error: error.code != 7, False),
        (lambda _: None, None),
        (lambda error: [error], True),
    ],
)
def test_that_a_rule_sees_the_exception_itself(rule, answer):
    """With all its attributes; what it says is taken for yes, no or nothing."""
    assert asked(rule, Code(7)) == Answer(answer)


def test_that_no_rule_says_nothing():
    """And costs no process."""
    assert ask(b"", Code(7)) == Answer()


def test_that_a_rule_may_be_named():
    """As ``module:function``, found where the slot finds its modules."""
    assert asked("operator:not_", Code(7)) == Answer(False)
    assert "ModuleNotFoundError" in asked("no_such_module:rule", Code(7)).failed


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (lambda error: error.no_such_attribute, "raised AttributeError"),
        (lambda _: os._exit(3), "ended its process"),
        (lambda _: os.kill(os.getpid(), signal.SIGSEGV), "ended its process (signal 11)"),
        (lambda _: time.sleep(60), "gave no answer within 0.5 s"),
        (hold_the_gil, "gave no answer within 0.5 s"),
    ],
    ids=["raises", "exits", "crashes", "hangs", "holds the GIL"],
)
def test_that_a_bad_rule_gives_no_answer_and_does_no_harm(rule, told):
    """This process goes on, in time, and is told why."""
    begun = time.monotonic()

    answer = asked(rule, Code(7), patience_s=0.5)

    assert answer.worth_retrying is None
    assert told in answer.failed
    assert time.monotonic() - begun < 5


def test_that_bytes_that_are_no_rule_give_no_answer():
    """What cannot be unpickled is said, not raised."""
    assert "raised" in ask(b"no pickle", Code(7)).failed


def test_that_a_rule_leaves_no_process():
    """Not even one that hung."""
    before = {child.pid for child in psutil.Process().children()}
    asked(lambda _: time.sleep(60), Code(7), patience_s=0.1)

    assert {child.pid for child in psutil.Process().children()} <= before
