"""What runs inside an allocation: the launcher, its courier, and the slots that run user code.

Launcher (signals, deadline) → courier (a Dask worker that never runs user code) → nursery (has slots forked, sees
them die) → minders (one for each slot) → slots (one attempt at a time, each its own process group).

Rule 1: user code, its arguments and its results are opened in slots only.
Rule 2: a result is durable before its receipt is sent.
Rule 3: an ending is reported with facts, never with a judgement; judging is the driver's.
"""
