"""Asks the live batch system what machine this is; thin: the answers are read in ``*_survey_text``."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scalable_hpc.batch import pbs_survey_text, slurm_quota_text, slurm_survey_text
from scalable_hpc.batch.machine import MachineSeen
from scalable_hpc.batch.quota import Quotas
from scalable_hpc.errors import BatchSilent, MissingCommandError

_PATIENCE_S = 60.0
"""A busy controller takes long; a survey is made once."""
COMMANDS = {"slurm": ("scontrol",), "pbs": ("qstat", "qmgr")}
"""Commands by any of which a batch system is known to be here."""


@dataclass(slots=True)
class _Asking:
    """Asks one command after the other and remembers who said nothing."""

    environ: Mapping[str, str]
    silent: list[str] = field(default_factory=list)

    def must(self, *argv: str) -> str:
        """Return the answer of a command without which nothing is known.

        Raises:
            BatchSilent: it gave none.
        """
        answer = self.may(*argv)
        if answer is None:
            raise BatchSilent(f"no answer from {'; '.join(self.silent)}", hint=f"run it by hand: {shlex.join(argv)}")
        return answer

    def may(self, *argv: str) -> str | None:
        """Return the answer of a command, or None."""
        try:
            done = subprocess.run(
                argv,
                capture_output=True,
                text=True,
                timeout=_PATIENCE_S,
                check=False,
                env={**self.environ, "LC_ALL": "C"},
            )
        except (OSError, subprocess.TimeoutExpired) as err:
            self.silent.append(f"'{shlex.join(argv)}': {err}")
            return None
        if done.returncode:
            self.silent.append(f"'{shlex.join(argv)}': {done.stderr.strip() or f'exit code {done.returncode}'}")
            return None
        return done.stdout


def batch_here() -> str | None:
    """Return which batch system has its commands on PATH."""
    return next((batch for batch in COMMANDS if _is_here(batch)), None)


def _is_here(batch: str) -> bool:
    return any(shutil.which(command) for command in COMMANDS[batch])


def survey(batch: str, environ: Mapping[str, str] | None = None) -> MachineSeen:
    """Return what the batch system says of its machine.

    Raises:
        MissingCommandError: its commands are not on PATH.
        BatchSilent: it does not answer.
    """
    if not _is_here(batch):
        raise MissingCommandError(
            f"'{COMMANDS[batch][0]}' is not on PATH: is this a machine with {batch}?", hint="module avail 2>&1 | less"
        )
    asking = _Asking(os.environ if environ is None else environ)
    return _slurm(asking) if batch == "slurm" else _pbs(asking)


def _slurm(asking: _Asking) -> MachineSeen:
    text = slurm_survey_text
    partitions = asking.must("scontrol", "-o", "show", "partition")
    nodes = asking.must("sinfo", "-h", "-e", "-o", text.SINFO_FORMAT)
    config = asking.must("scontrol", "show", "config")
    qoses = asking.may("sacctmgr", "-n", "-P", "show", "qos", f"format={text.QOS_FORMAT}")
    user = f"user={getpass.getuser()}"
    associations = asking.may("sacctmgr", "-n", "-P", "show", "assoc", user, f"format={text.ASSOCIATION_FORMAT}")
    return text.read_machine(
        partitions=partitions,
        nodes=nodes,
        config=config,
        qoses=qoses or "",
        associations=associations or "",
        silent=asking.silent,
    )


def quotas(batch: str, environ: Mapping[str, str] | None = None) -> Quotas:
    """Return what the batch system allows its user beyond the limits of partitions.

    Raises:
        BatchSilent: it does not answer.
    """
    asking = _Asking(os.environ if environ is None else environ)
    if batch == "pbs":
        return pbs_survey_text.read_quotas(_settings_of_pbs(asking), asking.silent)
    text, user = slurm_quota_text, f"users={getpass.getuser()}"
    show = ("sacctmgr", "-n", "-P", "show")
    own = asking.may(*show, "assoc", user, f"format={text.ACCOUNT_FORMAT}") or ""
    accounts = ",".join(sorted({line.split("|")[1] for line in own.splitlines() if line.count("|") > 1}))
    whole = asking.may(*show, "assoc", f"accounts={accounts}", "users=''", f"format={text.ACCOUNT_FORMAT}")
    return text.read_quotas(
        qoses=asking.may(*show, "qos", f"format={text.QOS_FORMAT}") or "",
        accounts=f"{own}{whole or ''}",
        config=asking.must("scontrol", "show", "config"),
        partitions=asking.must("scontrol", "-o", "show", "partition"),
        default_account=asking.may(*show, "user", user, "format=DefaultAccount") or "",
        silent=asking.silent,
    )


def _settings_of_pbs(asking: _Asking) -> str:
    """Return the settings of queues and server, from what every user may ask where ``qmgr`` is not to be had."""
    told = asking.may("qmgr", "-c", "print server")
    if told is not None:
        return told
    sections = asking.must("qstat", "-Qf"), asking.may("qstat", "-Bf") or ""
    return pbs_survey_text.as_settings("\n".join(sections))


def _pbs(asking: _Asking) -> MachineSeen:
    server = _settings_of_pbs(asking)
    nodes = asking.may("pbsnodes", "-a") or ""
    version = (asking.may("qstat", "--version") or "").strip().rpartition("=")[2].strip() or "of an unknown version"
    name = socket.gethostname().partition(".")[0]
    return pbs_survey_text.read_machine(server=server, nodes=nodes, name=name, version=version, silent=asking.silent)


def interfaces_here() -> dict[str, Sequence[str]]:
    """Return this host's network interfaces and their IPv4 addresses, the loopback aside."""
    import psutil

    return {
        name: [address.address for address in addresses if address.family == socket.AF_INET]
        for name, addresses in psutil.net_if_addrs().items()
        if name != "lo" and any(address.family == socket.AF_INET for address in addresses)
    }
