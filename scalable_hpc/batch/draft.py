"""Writes the draft of a site config from what a batch system said: what is known as YAML, what is not as comments.

Rule 1: pure; the draft loads as it stands, and every line of it can be traced to a command in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from scalable_hpc.batch.machine import MachineSeen, QueueSeen
from scalable_hpc.model.units import format_walltime

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_WORDS_OF_YAML = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}
_MIB = 2**20
_ASKED = {
    "slurm": ("scontrol -o show partition; sinfo -e", "sacctmgr show qos", "sacctmgr show association"),
    "pbs": ("qmgr -c 'print server'; pbsnodes -a", "", "qstat -Bf"),
}
_BY = {"slurm": "Slurm", "pbs": "PBS"}


def write_draft(machine: MachineSeen, *, day: str, host: str, interfaces: Mapping[str, Sequence[str]]) -> str:
    """Return the text of a site config.

    Args:
        machine: what the batch system said.
        day: the date, for people.
        host: the full name of the host that asked.
        interfaces: network interface to its addresses there.
    """
    lines = [*_head(machine, day, host), *_limits(machine), *_rest(machine, host, interfaces)]
    return "".join(f"{' '.join(line.splitlines())}\n" for line in lines)


def _head(machine: MachineSeen, day: str, host: str) -> Iterator[str]:
    yield f"# Draft for {machine.name}, from what {_BY[machine.batch]} {machine.version} said on {host}, {day}."
    yield "# Read every line and correct it; lines that begin with '# ?' are yours to decide. Then:"
    yield f"#   scalable-hpc site check {machine.name}.yaml"
    yield "# and put it into ~/.config/scalable_hpc/sites/, or into /etc/scalable_hpc/sites/ for everybody."
    for one in machine.silent:
        yield f"# No answer from {_one_line(one)}"
    yield f"batch: {machine.batch}"
    yield f"description: {_text(machine.name)}".replace("${", "$${")


def _limits(machine: MachineSeen) -> Iterator[str]:
    asked_partitions, asked_qoses, _ = _ASKED[machine.batch]
    for key, asked, rows in (
        ("partitions" if machine.batch == "slurm" else "queues", asked_partitions, machine.partitions),
        ("qoses", asked_qoses, [row for row in machine.qoses if row.walltime_s is not None or row.jobs is not None]),
    ):
        if not rows:
            continue
        yield ""
        yield f"# {asked}"
        is_open = [row for row in rows if row.closed is None]
        yield f"{key}:" if is_open else f"{key}: {{}}"
        for row in rows:
            line = f"  {_text(row.name)}: {{{', '.join(_facts(row))}}}"
            yield line if row.closed is None else f"  # {row.closed}: {line.strip()}"
            if row.closed is None and row.features:
                yield f"    # features, for constraint: {_one_line(', '.join(row.features))}"


def _facts(row: QueueSeen) -> Iterator[str]:
    if row.is_default:
        yield "default: true"
    if row.walltime_s:
        yield f'walltime: "{format_walltime(row.walltime_s)}"'
    for name, value in (("least_nodes", row.least_nodes), ("nodes", row.nodes), ("cpus", row.cpus)):
        if value:
            yield f"{name}: {value}"
    if row.memory and row.memory >= _MIB:
        yield f"memory: {row.memory // _MIB}M"
    if row.gpus is not None:
        yield f"gpus: {row.gpus}"
    if row.jobs:
        yield f"jobs: {row.jobs}"


def _rest(machine: MachineSeen, host: str, interfaces: Mapping[str, Sequence[str]]) -> Iterator[str]:
    asked = _ASKED[machine.batch][2]
    yield ""
    yield f"# {asked}"
    if machine.jobs:
        yield f"jobs: {machine.jobs}"
    ask = "sacctmgr show association user=$USER format=account" if machine.batch == "slurm" else "qstat -Bf"
    if machine.accounts:
        yield f'accounts: {{ask: "{ask}"}} # ? required: true, where there is no default account'
        yield f"# those of the user who asked: {_one_line(', '.join(machine.accounts)) or 'none'}"
    else:
        yield f'# ? accounts: {{required: true, pattern: "[a-z0-9]+", ask: "{ask}"}}'
    yield ""
    yield "# The network between the driver's node and the compute nodes; here there are:"
    for name, addresses in interfaces.items():
        yield f"#   {name}: {', '.join(addresses)}"
    yield "# ? interface: ib0"
    yield "# ? scheduler_ports: 40000-40100      # where a firewall stands between them"
    yield ""
    yield "# ? scratch: /scratch/${USER}           # shared by all nodes: runs are made there"
    yield "# ? node_local: /tmp                    # each node's own: temporary files"
    yield "# ? modules: [python]"
    yield "# ? container_runtime: apptainer"
    yield "# ? poll_floor: 30s                     # nobody asks the batch system more often"
    yield from _signs(host)
    yield ""
    yield "# ? trust: {groups: [hpc-admins]}       # whose presets and templates are read besides one's own and root's"


def _signs(host: str) -> Iterator[str]:
    first, dot, domain = host.partition(".")
    yield ""
    yield "# By what scalable-hpc site detect knows the machine"
    pattern = f"*.{domain}" if dot and _PLAIN.fullmatch(domain) else f"{re.sub(r'[0-9]+$', '', first)}*"
    yield f"{'' if dot else '# ? '}detect: {{hostnames: [{json.dumps(pattern)}]}}"


def _text(word: str) -> str:
    """A YAML scalar that is this word and nothing else."""
    plain = _PLAIN.fullmatch(word) and word.lower() not in _WORDS_OF_YAML
    return word if plain else json.dumps(word)


def _one_line(text: str) -> str:
    return " ".join(text.split())
