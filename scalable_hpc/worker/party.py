"""Makes ready what the tasks of one worker need to start programs on the nodes that they have.

Rule 1: nothing of it is needed by a task that starts none: what cannot be made is left out, and said in the job's log.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from scalable_hpc.worker.launching import Party, node_file_text, own_hosts, srun_text, system_of
from scalable_hpc.worker.options import WorkerOptions

logger = logging.getLogger(__name__)


def make_party(options: WorkerOptions, environ: Mapping[str, str], node: str, directory: Path) -> Party:
    """Return the nodes of a worker's tasks, with what launchers read of them written to its directory.

    Raises:
        SiteError: the job does not have so many nodes.
    """
    hosts = own_hosts(environ, node=node, count=options.nodes)
    party = Party(hosts, options.cpus, options.slots)
    try:
        return {"slurm": _on_slurm, "pbs": _on_pbs}.get(system_of(environ), _elsewhere)(party, environ, directory)
    except OSError as err:
        logger.warning("Programs that tasks start may not find their nodes: %s", err)
        return party


def _on_slurm(party: Party, environ: Mapping[str, str], directory: Path) -> Party:
    srun = shutil.which("srun", path=environ.get("PATH"))
    text = None if srun is None else srun_text(srun, party, environ)
    if text is None:
        return party
    programs = directory / "bin"
    programs.mkdir(mode=0o700, exist_ok=True)
    (programs / "srun").write_text(text, encoding="utf-8")
    (programs / "srun").chmod(0o700)
    return replace(party, programs=str(programs))


def _on_pbs(party: Party, _: Mapping[str, str], directory: Path) -> Party:
    path = directory / "nodes"
    path.write_text(node_file_text(party), encoding="utf-8")
    return replace(party, node_file=str(path))


def _elsewhere(party: Party, *_: object) -> Party:
    return party
