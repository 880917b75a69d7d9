"""Why an attempt ended and what follows: evidence in, verdict and decision out, each with a ``because``.

Rule 1: pure. No I/O, no clock, no randomness of its own: ``now`` and ``rng`` are arguments.
Rule 2: exceptions are judged by type, errno and HTTP status, never by their text.
Rule 3: what is not known is never charged to a task.
"""
