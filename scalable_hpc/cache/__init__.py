"""Keys, code identity and the result store behind ``@cacheable``.

Rule 1: correct before quick: what cannot be named exactly is computed again, never guessed.
Rule 2: nothing here imports Dask, and nothing imports NumPy or pandas unless the user's program already has.
Rule 3: importing ``cache.decorator`` is cheap; all that hashes, reads or writes is imported at the first call.
"""
