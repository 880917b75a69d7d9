"""What our PBS templates write, read back by a qsub that is strict: every recorded script, and what one asks for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.standins.pbs_settings import QUEUES, Node, Queue
from tests.waiting import wait_until

GOLDEN = Path(__file__).parents[1] / "golden"
SCRIPTS = sorted(path for path in GOLDEN.rglob("*.sh") if "\n#PBS -N" in path.read_text())


def taken(pbs, script: Path, *options: str) -> dict[str, str]:
    """Submit a script and return the job's attributes."""
    answer = pbs.run("qsub", *options, str(script))
    assert (answer.returncode, answer.stderr) == (0, ""), script.name
    told = pbs.run("qstat", "-f", answer.stdout.strip()).stdout.replace("\n\t", "")
    return dict(re.findall(r"(?m)^ {4}([\w.]+) = (.*)$", told))


def test_that_every_script_of_ours_is_taken(pbs):
    """Those of the built-in sites too, where queues and resources are such as they ask for; held, not run."""
    assert len(SCRIPTS) >= 10
    queues = {name for path in SCRIPTS for name in re.findall(r"(?m)^#PBS -q (\S+)", path.read_text())}
    pbs.configure(queues=QUEUES | {name: Queue() for name in queues})
    for script in SCRIPTS:
        seen = taken(pbs, script, "-h")
        assert seen["Rerunable"] == str("#PBS -r y\n" in script.read_text())
        assert seen["Resource_List.walltime"] in script.read_text()


def test_that_qsub_reads_back_what_the_template_wrote(pbs):
    """Memory, GPUs, placement, resources of the job, account and project, and whatever else was asked for."""
    pbs.configure(queues=QUEUES | {"standard": Queue()})
    seen = taken(pbs, GOLDEN / "pbs-full.sh", "-h")

    assert {name: seen[name] for name in ("queue", "Account_Name", "project", "Mail_Points", "Join_Path")} == {
        "queue": "standard",
        "Account_Name": "0123",
        "project": "climate",
        "Mail_Points": "abe",
        "Join_Path": "oe",
    }
    asked = {name.removeprefix("Resource_List."): value for name, value in seen.items() if name.startswith("Resource")}
    assert asked == {
        "filesystems": "home:eagle",
        "mem": "65536mb",
        "ncpus": "16",
        "ngpus": "2",
        "nodect": "1",
        "place": "pack:excl",
        "select": "1:ncpus=16:mem=65536mb:ngpus=2:model=mil_ait",
        "walltime": "04:00:00",
    }


@pytest.mark.parametrize(
    ("node", "queue", "words"),
    [
        (Node(ncpus=16, mem_kb=2**27), {}, "Can Never Run: Insufficient amount of resource: ngpus (R: 2 A: 0 T: 0)"),
        (Node(ncpus=8, mem_kb=2**27, ngpus=2), {}, "Can Never Run: Insufficient amount of resource: ncpus (R: 16"),
        (Node(ncpus=16, mem_kb=2**27, ngpus=2), {"max_ncpus": 8}, "limits"),
        (Node(ncpus=16, mem_kb=2**27, ngpus=2), {"max_mem_kb": 2**20}, "limits"),
        (Node(ncpus=16, mem_kb=2**27, ngpus=2), {"max_walltime": 3600}, "limits"),
    ],
)
def test_that_a_machine_that_has_less_says_so(pbs, node, queue, words):
    """Its queue's limits at once; what no node has, in the job's comment."""
    pbs.configure(nodes={"node1": node}, queues={"workq": Queue(), "standard": Queue(**queue)})
    answer = pbs.run("qsub", str(GOLDEN / "pbs-full.sh"))
    if words == "limits":
        assert (answer.returncode, "Job violates queue" in answer.stderr) == (188, True)
        return
    job_id = answer.stdout.strip()
    wait_until(words, lambda: words in pbs.run("qstat", "-f", job_id).stdout.replace("\n\t", ""), timeout=20)


def test_that_an_exclusive_job_shares_its_node_with_nobody(pbs, tmp_path):
    """place=excl: the next job waits, however many cpus are left."""
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n#PBS -l select=1:ncpus=1\n#PBS -l place=excl\nsleep 60\n")
    pbs.configure(nodes={"node1": Node(ncpus=4)})
    taken(pbs, script)
    wait_until("the first to run", lambda: "job_state = R" in pbs.run("qstat", "-f", "1").stdout, timeout=20)
    pbs.run("qsub", "--", "/bin/true")
    wait_until("the second to wait", lambda: "Insufficient" in pbs.run("qstat", "-f", "2").stdout, timeout=20)
