"""Dask's side of the driver: scheduler, batch jobs as dask-jobqueue Jobs, and the link to the workers.

Everything here lives on the engine's asyncio loop. ``dask_link.DaskLink`` is the face for the other rooms.

Rule 1: only this room and ``worker/`` import Dask, and this one only through ``quiet_import``.
Rule 2: Dask is told what runs now and nothing else: no retries, no recovery, no adaptive scaling of its own.
Rule 3: an allocation is opened and closed here and nowhere else, and its name is never used twice.
"""
