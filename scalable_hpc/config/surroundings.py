"""Looks at this machine, and at every site config for the signs that it gives; thin."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.config.recognise import Recognised, Surroundings, files_to_look_for, recognise
from scalable_hpc.config.site import Place, read_site, site_names
from scalable_hpc.errors import SiteError

if TYPE_CHECKING:
    from scalable_hpc.config.site_schema import Detection


def sites_here(
    where: Sequence[Place], environ: Mapping[str, str], batch: str | None = None
) -> tuple[list[Recognised], list[str]]:
    """Return the sites that this machine may be, likeliest first, and what is wrong with those that cannot be read.

    Args:
        where: the places of site configs, lowest layer first.
        environ: the environment.
        batch: only sites with this batch system.
    """
    signs: dict[str, Detection] = {}
    broken: list[str] = []
    for name in site_names(where):
        try:
            facts = read_site(name, None, where, environ).facts
        except SiteError as err:
            broken.append(f"site '{name}' is left out: {err.message}")
            continue
        if batch is None or facts.batch in (None, batch):
            signs[name] = facts.detect
    wanted = files_to_look_for(signs.values())
    here = Surroundings(hostnames(), environ, frozenset(file for file in wanted if Path(file).exists()))
    return recognise(signs, here), broken


def hostnames() -> tuple[str, ...]:
    """Return how this host is called, its full name too where it has one."""
    return tuple(dict.fromkeys((socket.gethostname(), socket.getfqdn())))
