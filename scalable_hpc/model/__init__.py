"""The words of scalable_hpc as data: frozen, pure, importable by every room, importing none.

Rule 1: no I/O, no clock, no randomness, no third-party import.
Rule 2: times are seconds; points in time are seconds since the epoch (``time.time()``).
Rule 3: memory is bytes; sizes in text are parsed at the door (``units``).
"""
