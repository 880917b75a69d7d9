"""What the tutorial leaves to its reader: functions that fail as it says; copied to the top of its drivers.

How often a function has been executed is counted in files of the working directory, across processes and runs.
"""

import json
import sys
from pathlib import Path

EXECUTIONS = "executions.log"


def execute(name: str, number: int) -> int:
    """Note an execution and return how many there have been of this one, this one included."""
    line = f"{name} {number}\n"
    with Path(EXECUTIONS).open("a+") as log:
        log.write(line)
        log.flush()
        log.seek(0)
        return log.readlines().count(line)


def say(what: str, value: object) -> None:
    """Print a fact for the test that reads it."""
    sys.stdout.write(f"{what} = {json.dumps(value, default=repr)}\n")
    sys.stdout.flush()


def sometimes_fails(number: int) -> int:
    """Every fifth fails twice as a network does; number 19 always fails."""
    executions = execute("sometimes_fails", number)
    if number == 19:
        raise RuntimeError("number 19 never works")
    if number % 5 == 0 and executions <= 2:
        raise ConnectionError(f"no answer to {number}")
    return -number


def maybe_fails(number: int) -> int:
    """Every tenth fails the first time; number 97 always fails."""
    executions = execute("maybe_fails", number)
    if number == 97 or (number % 10 == 7 and executions == 1):
        raise ValueError(f"cannot do {number}")
    return number * number


def expensive_computation(scenario_id: int) -> dict[str, int]:
    """Fails the first time."""
    if execute("expensive_computation", scenario_id) == 1:
        raise ConnectionError("the file server does not answer")
    return {"id": scenario_id, "level": 3 * scenario_id}


def compute(scenario_id: int) -> float:
    """Scenario 7 fails once as a network does; 13 and 47 fail until a file says that their cause is gone."""
    executions = execute("compute", scenario_id)
    if scenario_id == 7 and executions == 1:
        raise ConnectionError("the archive does not answer")
    if scenario_id == 13 and not Path("input-is-mended").exists():
        raise ValueError("invalid input data")
    if scenario_id == 47 and not Path("input-is-mended").exists():
        raise MemoryError("unable to allocate 4.2GB")
    return scenario_id / 2
