"""What `site new` reads and writes: recorded answers of a real Slurm and a real PBS, and hostile ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from scalable_hpc.batch import pbs_survey_text, slurm_survey_text
from scalable_hpc.batch.draft import write_draft
from scalable_hpc.batch.machine import MachineSeen, QueueSeen
from scalable_hpc.config.site import read_site_file
from scalable_hpc.config.trust import NOBODY_ELSE

TRANSCRIPTS = Path(__file__).parents[2] / "transcripts"
SURVEY = TRANSCRIPTS / "slurm" / "survey"


def slurm(**changes: str) -> MachineSeen:
    texts = {
        "partitions": (SURVEY / "scontrol_show_partition.txt").read_text(),
        "nodes": (SURVEY / "sinfo.txt").read_text(),
        "config": (SURVEY / "scontrol_show_config.txt").read_text(),
        "qoses": (SURVEY / "sacctmgr_qos.txt").read_text(),
        "associations": (SURVEY / "sacctmgr_assoc.txt").read_text(),
    }
    return slurm_survey_text.read_machine(**{**texts, **changes})


def pbs() -> MachineSeen:
    server = (TRANSCRIPTS / "pbs" / "qmgr-print-server.txt").read_text()
    nodes = (TRANSCRIPTS / "pbs" / "11-pbsnodes.txt").read_text()
    return pbs_survey_text.read_machine(server=server, nodes=nodes, name="pine", version="22.05.11", silent=())


def draft(machine: MachineSeen, host: str = "login1.juniper.example") -> str:
    return write_draft(machine, day="2026-11-22", host=host, interfaces={"ib0": ["10.0.0.1"]})


def read_back(text: str, tmp_path: Path):
    tmp_path.chmod(0o755)
    file = tmp_path / "draft.yaml"
    file.write_text(text)
    return read_site_file(file, "draft.yaml", {}, NOBODY_ELSE)[1]


def test_that_a_real_slurm_is_understood():
    """Partitions with limits and node shapes, the default one, QOSes, accounts."""
    machine = slurm()
    default = [row for row in machine.partitions if row.is_default]

    assert machine.name == "juniper"
    assert len(default) == 1
    assert all(row.cpus and row.memory for row in machine.partitions if row.closed is None)
    assert machine.accounts


@pytest.mark.parametrize("machine", [slurm(), pbs()], ids=["slurm", "pbs"])
def test_that_a_draft_is_a_site_config_as_it_stands(machine, tmp_path):
    """It loads, with the limits that were seen and how the machine is known."""
    site = read_back(draft(machine), tmp_path)

    assert site.batch == machine.batch
    assert set(site.partitions) == {row.name for row in machine.partitions if row.closed is None}
    for row in machine.partitions:
        if row.closed is None:
            assert site.partitions[row.name].walltime == row.walltime_s
            assert site.partitions[row.name].cpus == row.cpus
    assert site.detect.hostnames == ("*.juniper.example",)


@pytest.mark.parametrize(
    "evil", ["no", "a: b", "x\ny: z", "{", "# c", "'", '"', "$(touch x)", "${HOME}", "*", "-", "7"]
)
def test_that_names_from_the_machine_are_only_names(evil, tmp_path):
    """Whatever a partition, a feature, an account or a host is called, the draft has the keys that it would have."""
    queue = QueueSeen(evil, walltime_s=60, cpus=4, features=(evil,))
    closed = QueueSeen("closed", closed=f"only for {evil}")
    machine = MachineSeen("slurm", "juniper", evil, (queue, closed), accounts=(evil,), silent=(evil,))
    site = read_back(draft(machine, evil), tmp_path)

    assert list(site.partitions) == [evil]
    assert site.partitions[evil].cpus == 4
    assert site.extra_directives in (None, ())


@pytest.mark.parametrize("text", ["", "garbage", "a|b|c", "PartitionName=\n\n=|=|", "\0\n|||||||"])
def test_that_no_answer_raises(text):
    """What cannot be read is not known."""
    slurm_survey_text.read_machine(partitions=text, nodes=text, config=text, qoses=text, associations=text)
    pbs_survey_text.read_machine(server=text, nodes=text, name="x", version="y", silent=())


def test_that_what_gave_no_answer_is_told_in_the_draft():
    """So that nobody takes silence for absence."""
    machine = slurm_survey_text.read_machine(partitions="", nodes="", config="", silent=("'sacctmgr': not found",))

    assert "# No answer from 'sacctmgr': not found" in draft(machine)
