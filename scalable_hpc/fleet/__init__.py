"""The fleet: how many allocations there should be, what is known of each, and the loop that asks for the difference.

Rule 1: ``plan``, ``case``, ``walltime``, ``view``, ``roster`` and ``pace`` are pure: time comes in as an argument.
Rule 2: only ``supervisor`` and ``actions`` act, and only through the ports of ``ports``.
Rule 3: one supervisor per run; nobody else opens or closes an allocation.
"""
