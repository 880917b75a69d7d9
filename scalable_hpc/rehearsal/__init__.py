"""The rehearsal: a user's own driver and templates on this machine dressed as another, with losses by script.

Rule 1: ``cues`` and ``verdict`` are pure; ``conduct`` starts the driver, watches its journal and acts.
Rule 2: the driver is a process of its own that knows of the rehearsal from its environment alone.
"""
