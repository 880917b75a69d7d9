"""The driver's memory: what was submitted, what is running, what is done, and what is left to do.

Rule 1: the journal is the only truth. The state of a run is the fold of its events (``ledger``), live and in replay
through the same code.
Rule 2: an event is on disk before anything that follows from it is done.
Rule 3: Dask, workers and batch systems are reached through ports; nothing here imports them.
"""
