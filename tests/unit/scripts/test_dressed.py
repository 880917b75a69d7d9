"""A job script of Slurm's or PBS's that Local runs: all of it, and what Local must be told."""

from __future__ import annotations

import subprocess

import pytest

from scalable_hpc.batch.local_text import parse_script
from scalable_hpc.scripts.dressed import as_local
from scalable_hpc.scripts.render import render_worker
from tests.script_contexts import PLAIN

IDS = {"slurm": "SLURM_JOB_ID", "pbs": "PBS_JOBID"}


@pytest.mark.parametrize("system", IDS)
def test_that_no_line_of_the_script_is_lost_and_local_reads_its_own(system):
    """In their order; the request is the context's, and a shell can read all of it."""
    text = render_worker(PLAIN, system=system)

    script = as_local(text, PLAIN, system)
    lines = iter(script.splitlines())
    assert all(line in lines for line in text.splitlines())
    request = parse_script(script)
    assert (request.cpus, request.memory, request.walltime_s) == (PLAIN.cpus, PLAIN.memory, PLAIN.walltime_s)
    assert request.output == str(PLAIN.output)
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""


@pytest.mark.parametrize("system", IDS)
def test_that_the_script_finds_its_job_id_where_that_system_puts_it(system):
    """Before its first command."""
    lines = as_local(render_worker(PLAIN, system=system), PLAIN, system).splitlines()

    first = next(line for line in lines if line.strip() and not line.startswith("#"))
    assert first == f'export {IDS[system]}="$SCALABLE_HPC_JOB_ID"'
