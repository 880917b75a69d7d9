"""What our Slurm template relies on in sbatch's reading of ``#SBATCH`` lines, asked of real Slurm."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalable_hpc.scripts.render import render_worker
from tests.script_contexts import context

HOSTILE = "it's 100% $(touch pwned) `touch pwned` #1;b:c"


@pytest.mark.slurm
def test_that_sbatch_reads_back_what_the_template_wrote(slurm, tmp_path):
    """Text and paths with blanks, quotes, patterns and comment signs: one value each, and nothing of it is run."""
    work = tmp_path / HOSTILE
    work.mkdir()
    python = work / "python"
    python.write_text('#!/bin/bash\nprintf "%s\\0" "$PWD" "$EVIL" "$@"\n')
    python.chmod(0o755)
    asked = context(
        comment=f"run {HOSTILE}",
        cpus=1,
        memory=64 * 2**20,
        walltime_s=90,
        output=work / "out %j.txt",
        run_dir=work,
        work_dir=work,
        python=(str(python),),
        launcher=("--run-dir", str(work), HOSTILE),
        env=(("EVIL", HOSTILE),),
        signal_lead_s=30,
        extra_directives=("--nice=3",),
    )
    script = tmp_path / "script.sh"
    script.write_text(render_worker(asked, system="slurm"))
    job_id = slurm.run(["sbatch", "--wait", "--parsable", str(script)]).split()[-1].partition(";")[0]

    shown = slurm.run(["scontrol", "show", "job", job_id])
    words = Path(work / "out %j.txt").read_text().split("\0")
    assert words == [str(work), HOSTILE, "-m", "scalable_hpc.worker", "--run-dir", str(work), HOSTILE, ""]
    assert f"Comment=run {HOSTILE}" in shown
    assert f"JobName={asked.job_name}" in shown
    assert "TimeLimit=00:02:00" in shown  # Slurm rounds up to minutes
    assert "Requeue=0" in shown
    assert "Nice=3" in shown
    assert not list(tmp_path.rglob("pwned"))
