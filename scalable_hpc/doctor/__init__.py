"""The doctor: what a target needs to work, looked at from here and from a node of it, with a remedy for each finding.

Rule 1: ``facts`` and ``judge`` are pure; ``examine``, ``hearing`` and ``here`` look; ``probe`` runs on the node.
Rule 2: the probe is a job like a worker's: same backend, same template, same environment, one minute long.
"""
