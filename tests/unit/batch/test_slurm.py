"""Laws of talking to Slurm, with stand-in programs that answer as told and write down how they were called."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from scalable_hpc.batch.slurm import IDS_PER_COMMAND, SlurmBackend, SlurmCommands
from scalable_hpc.batch.slurm_text import SEPARATOR, SQUEUE_FIELDS
from scalable_hpc.errors import BatchSilent, MissingCommandError, PartitionRefused, SubmissionDeferred, SubmissionError
from scalable_hpc.model.allocations import ExitReason, JobState

STAND_IN = """#!/bin/bash
name=$(basename "$0"); here=$(dirname "$0")
{ printf '%s\\x1e' "$@"; echo; } >> "$here/$name.calls"
env > "$here/$name.env"
[ -e "$here/$name.wait" ] && sleep "$(cat "$here/$name.wait")"
cat "$here/$name.out" 2>/dev/null
cat "$here/$name.err" >&2 2>/dev/null
exit "$(cat "$here/$name.rc" 2>/dev/null || echo 0)"
"""
OUTAGE = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


class StandIns:
    """Stand-ins for Slurm's commands in one directory."""

    names = ("sbatch", "squeue", "sacct", "scontrol", "scancel")

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in self.names:
            (directory / name).write_text(STAND_IN)
            (directory / name).chmod(0o755)
        paths = {name: str(directory / name) for name in self.names}
        self.backend = SlurmBackend(SlurmCommands(**paths, query_timeout_s=20, submit_timeout_s=20))

    def answers(self, name: str, out: str = "", err: str = "", rc: int = 0, wait_s: float = 0) -> None:
        (self.directory / f"{name}.out").write_text(out)
        (self.directory / f"{name}.err").write_text(err)
        (self.directory / f"{name}.rc").write_text(str(rc))
        (self.directory / f"{name}.wait").write_text(str(wait_s))

    def calls(self, name: str) -> list[list[str]]:
        file = self.directory / f"{name}.calls"
        lines = file.read_text().split("\n") if file.exists() else []
        return [line.split("\x1e")[:-1] for line in lines if line]

    def environment(self, name: str) -> str:
        return (self.directory / f"{name}.env").read_text()

    def status(self, *job_ids: str):
        return asyncio.run(self.backend.status(job_ids))


@pytest.fixture
def stand_ins(tmp_path):
    (tmp_path / "bin").mkdir()
    return StandIns(tmp_path / "bin")


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "worker.sh"
    path.write_text("#!/bin/bash\n#SBATCH --job-name=scalable-r1-a0001\ntrue\n")
    return path


def queue_line(**values: str) -> str:
    row = {"state": "RUNNING", "reason": "None", "restarts": "0", "exit": "0", "submit": "1", **values}
    return "".join(f"{row.get(name, '')}{SEPARATOR}" for _, name, _ in SQUEUE_FIELDS) + "\n"


def account_line(job_id: str, state: str, code: str = "0:0") -> str:
    return SEPARATOR.join([job_id, state, code, "1", "2", "3", "n", "", "node01"]) + "\n"


def test_that_many_jobs_are_observed_with_one_query(stand_ins):
    """One squeue for all, and no sacct while the controller knows them."""
    stand_ins.answers("squeue", "".join(queue_line(id=str(number)) for number in range(1, 101)))

    seen = stand_ins.status(*(str(number) for number in range(1, 101)))

    assert {job.state for job in seen.values()} == {JobState.RUNNING}
    assert len(seen) == 100
    assert (len(stand_ins.calls("squeue")), len(stand_ins.calls("sacct"))) == (1, 0)


def test_that_very_many_jobs_are_asked_for_in_parts(stand_ins):
    """Linux bounds the length of an argument."""
    stand_ins.answers("squeue", queue_line(id="1"))

    stand_ins.status(*(str(number) for number in range(1, IDS_PER_COMMAND + 2)))

    assert len(stand_ins.calls("squeue")) == 2


def test_that_accounting_is_asked_only_for_jobs_the_controller_forgot(stand_ins):
    """One sacct for all of those."""
    stand_ins.answers("squeue", queue_line(id="1"))
    stand_ins.answers("sacct", account_line("2", "NODE_FAIL") + account_line("3", "FAILED", "3:0"))

    seen = stand_ins.status("1", "2", "3", "4")
    (call,) = stand_ins.calls("sacct")

    assert call[call.index("-j") + 1] == "2,3,4"
    assert [seen[job].state for job in "1234"] == [JobState.RUNNING, JobState.ENDED, JobState.ENDED, JobState.UNKNOWN]
    assert (seen["2"].ending.reason, seen["3"].ending.exit_code) == (ExitReason.NODE_FAIL, 3)
    assert stand_ins.backend.accounting == "on"


def test_that_one_unknown_job_alone_is_no_outage(stand_ins):
    """squeue fails on it with rc 1; several unknown ones it leaves out with rc 0."""
    stand_ins.answers("squeue", err="slurm_load_jobs error: Invalid job id specified\n", rc=1)
    stand_ins.answers("sacct")

    assert stand_ins.status("99")["99"].state is JobState.UNKNOWN


def test_that_a_silent_controller_is_silence_and_not_an_end(stand_ins):
    """Accounting is not believed instead: after a controller's death it shows running jobs as pending."""
    stand_ins.answers("squeue", err=OUTAGE, rc=1)
    stand_ins.answers("sacct", account_line("1", "CANCELLED by 0"))

    with pytest.raises(BatchSilent, match="Unable to contact slurm controller"):
        stand_ins.status("1")
    assert stand_ins.calls("sacct") == []


def test_that_a_controller_that_never_answers_is_silence_in_time(stand_ins):
    """A hung controller does not hang us."""
    stand_ins.answers("squeue", wait_s=60)
    stand_ins.backend.commands = replace(stand_ins.backend.commands, query_timeout_s=0.3)

    with pytest.raises(BatchSilent, match=r"no answer within 0\.3 s"):
        stand_ins.status("1")


def test_that_silent_accounting_leaves_a_forgotten_job_unknown(stand_ins):
    """The database is away: nothing ends, and accounting is asked again next time."""
    stand_ins.answers("squeue", queue_line(id="1"))
    stand_ins.answers("sacct", err="sacct: error: Problem talking to the database: Connection refused\n", rc=1)

    seen = stand_ins.status("1", "2")
    stand_ins.answers("sacct", account_line("2", "COMPLETED"))

    assert (seen["1"].state, seen["2"].state) == (JobState.RUNNING, JobState.UNKNOWN)
    assert "accounting is silent" in seen["2"].because
    assert stand_ins.status("1", "2")["2"].state is JobState.ENDED


def test_that_accounting_that_is_off_is_remembered(stand_ins):
    """sacct is asked once; scontrol completes what squeue left open."""
    failed = queue_line(id="1", state="FAILED", reason="JobLaunchFailure", exit="N/A")
    stand_ins.answers("squeue", failed)
    stand_ins.answers("sacct", err="Slurm accounting storage is disabled\n", rc=1)
    stand_ins.answers("scontrol", "JobId=1 JobName=n JobState=FAILED Reason=JobLaunchFailure ExitCode=0:53 EndTime=5\n")

    seen = [stand_ins.status("1")["1"], stand_ins.status("1")["1"]]

    assert {job.ending.reason for job in seen} == {ExitReason.LAUNCH_FAILED}
    assert (stand_ins.backend.accounting, len(stand_ins.calls("sacct"))) == ("off", 1)


def test_that_a_cluster_without_sacct_counts_as_one_without_accounting(stand_ins):
    """The command is optional."""
    (stand_ins.directory / "sacct").unlink()
    stand_ins.answers("squeue")

    seen = stand_ins.status("1")["1"]

    assert (seen.state, stand_ins.backend.accounting) == (JobState.UNKNOWN, "off")
    stand_ins.backend.check()


def test_that_ids_of_another_batch_system_are_unknown_and_not_asked_for(stand_ins):
    """A word that is no number would make squeue fail for all."""
    assert stand_ins.status("local-3")["local-3"].state is JobState.UNKNOWN
    assert stand_ins.calls("squeue") == []


def test_that_a_missing_command_is_named_with_the_path(stand_ins, monkeypatch):
    """The error says what is missing, where it was looked for, and what to do."""
    monkeypatch.setenv("PATH", "/nowhere/bin")
    with pytest.raises(MissingCommandError) as caught:
        SlurmBackend(SlurmCommands(squeue="no-such-squeue", sbatch=str(stand_ins.directory / "sbatch"))).check()

    assert "no-such-squeue" in caught.value.message
    assert "/nowhere/bin" in caught.value.message
    assert "module load" in caught.value.hint


def test_that_a_submitted_job_has_the_id_that_sbatch_printed(stand_ins, script):
    """Below a banner, and with the cluster's name cut off."""
    stand_ins.answers("sbatch", "** maintenance on 3 Dec **\n4711;big\n")

    assert asyncio.run(stand_ins.backend.submit(script)) == "4711"
    assert stand_ins.calls("sbatch") == [["--parsable", str(script)]]


def test_that_extra_arguments_reach_the_commands(stand_ins, script):
    """For instance the cluster of a federation."""
    commands = replace(stand_ins.backend.commands, sbatch_args=("-M", "big"), squeue_args=("-M", "big"))
    stand_ins.backend.commands = commands
    stand_ins.answers("sbatch", "1\n")
    stand_ins.answers("squeue", queue_line(id="1"))

    asyncio.run(stand_ins.backend.submit(script))
    stand_ins.status("1")

    assert stand_ins.calls("sbatch")[0][1:3] == ["-M", "big"]
    assert stand_ins.calls("squeue")[0][:2] == ["-M", "big"]


def test_that_a_refusal_is_raised_with_its_class(stand_ins, script):
    """The caller pauses on one and waits on the other."""
    stand_ins.answers("sbatch", err="sbatch: error: invalid partition specified: nosuch\n", rc=1)
    with pytest.raises(PartitionRefused, match="nosuch"):
        asyncio.run(stand_ins.backend.submit(script))

    stand_ins.answers("sbatch", err="sbatch: error: QOSMaxSubmitJobPerUserLimit\n", rc=1)
    with pytest.raises(SubmissionDeferred, match="QOSMaxSubmitJobPerUserLimit"):
        asyncio.run(stand_ins.backend.submit(script))


def test_that_a_script_that_is_not_there_is_named(stand_ins, tmp_path):
    """Before any command is run."""
    with pytest.raises(SubmissionError, match=r"nowhere\.sh"):
        asyncio.run(stand_ins.backend.submit(tmp_path / "nowhere.sh"))


@pytest.mark.parametrize("lost", ["timeout", "socket", "no id"])
def test_that_a_job_whose_submission_got_no_answer_is_adopted(stand_ins, script, lost):
    """The controller had made it: submitting again would run it twice."""
    stand_ins.answers("squeue", queue_line(id="88", name="scalable-r1-a0001") + queue_line(id="89", name="other"))
    if lost == "timeout":
        stand_ins.backend.commands = replace(stand_ins.backend.commands, submit_timeout_s=0.3)
        stand_ins.answers("sbatch", wait_s=60)
    elif lost == "socket":
        stand_ins.answers("sbatch", err="Batch job submission failed: Socket timed out on send/recv operation\n", rc=1)
    else:
        stand_ins.answers("sbatch", "thank you\n")

    assert asyncio.run(stand_ins.backend.submit(script)) == "88"


def test_that_an_array_whose_submission_got_no_answer_is_adopted(stand_ins, script):
    """By its first member; another array of the run does not count."""
    script.write_text(script.read_text().replace("a0001", "a0003+"))
    others = queue_line(id="88_1", name="scalable-r1-a0001+") + queue_line(id="88_2", name="scalable-r1-a0001+")
    ours = queue_line(id="90_3", name="scalable-r1-a0003+") + queue_line(id="90_4", name="scalable-r1-a0003+")
    stand_ins.answers("squeue", others + ours)
    stand_ins.answers("sbatch", "thank you\n")

    assert asyncio.run(stand_ins.backend.submit(script)) == "90"


def test_that_members_of_an_array_are_asked_for_and_cancelled_one_by_one(stand_ins):
    """squeue is told to print each in a line."""
    stand_ins.answers("squeue", queue_line(id="88_1") + queue_line(id="88_2", state="PENDING"))
    seen = stand_ins.status("88_1", "88_2")
    asyncio.run(stand_ins.backend.cancel(["88_2"]))

    assert [seen[job_id].state for job_id in ("88_1", "88_2")] == [JobState.RUNNING, JobState.PENDING]
    [asked] = stand_ins.calls("squeue")
    assert "-r" in asked
    assert asked[asked.index("-j") + 1] == "88_1,88_2"
    assert stand_ins.calls("scancel") == [["88_2"]]


def test_that_a_member_cancelled_while_it_waited_is_over(stand_ins):
    """Slurm drops its index and keeps no record of it; that its array is known without it tells so."""
    stand_ins.answers("squeue", queue_line(id="88_1") + queue_line(id="89", state="CANCELLED"))
    seen = stand_ins.status("88_2", "89_1", "90_1", "91")

    assert [(job_id, one.ending and one.ending.reason) for job_id, one in seen.items()] == [
        ("88_2", ExitReason.CANCELLED), ("89_1", ExitReason.CANCELLED), ("90_1", None), ("91", None),
    ]  # fmt: skip


def test_that_silent_accounting_leaves_a_missing_member_unknown(stand_ins):
    """It may have run to its end."""
    stand_ins.answers("squeue", queue_line(id="88_1"))
    stand_ins.answers("sacct", err="sacct: error: Unable to contact slurmdbd\n", rc=1)

    assert stand_ins.status("88_2")["88_2"].state is JobState.UNKNOWN


def test_that_another_cluster_is_named_to_every_command(stand_ins, script):
    """An id means nothing without it; other arguments stay."""
    stand_ins.backend.commands = replace(stand_ins.backend.commands, squeue_args=("--me",)).of_cluster("big")
    stand_ins.answers("sbatch", "4711;big\n")
    stand_ins.answers("squeue", "CLUSTER: big\n")
    stand_ins.answers("sacct", err="Slurm accounting storage is disabled\n", rc=1)
    assert asyncio.run(stand_ins.backend.submit(script)) == "4711"
    stand_ins.status("4711")
    asyncio.run(stand_ins.backend.cancel(["4711"]))

    for name in stand_ins.names:
        assert all("--clusters=big" in call for call in stand_ins.calls(name)), name
        assert stand_ins.calls(name), name
    assert stand_ins.calls("squeue")[0][:2] == ["--me", "--clusters=big"]


def test_that_a_lost_submission_without_a_job_is_not_made_up(stand_ins, script):
    """Silence stays silence, and a socket error may be tried again."""
    stand_ins.answers("squeue")
    stand_ins.answers("sbatch", err="Batch job submission failed: Socket timed out on send/recv operation\n", rc=1)
    with pytest.raises(SubmissionDeferred):
        asyncio.run(stand_ins.backend.submit(script))

    stand_ins.answers("sbatch", "thank you\n")
    with pytest.raises(BatchSilent):
        asyncio.run(stand_ins.backend.submit(script))


def test_that_jobs_are_cancelled_with_one_command(stand_ins):
    """Each id once."""
    asyncio.run(stand_ins.backend.cancel(["1", "2", "1"]))

    assert stand_ins.calls("scancel") == [["1", "2"]]


def test_that_cancelling_what_is_over_or_not_ours_is_no_error(stand_ins):
    """Only a controller that does not answer is."""
    gone = (
        "scancel: error: Kill job error on job id 1: Invalid job id specified\n"
        "scancel: error: Kill job error on job id 2: Access/permission denied\n"
    )
    stand_ins.answers("scancel", err=gone, rc=210)
    asyncio.run(stand_ins.backend.cancel(["1", "2"]))

    stand_ins.answers("scancel", err=gone + f"scancel: error: Kill job error on job id 3: {OUTAGE}", rc=8)
    with pytest.raises(BatchSilent):
        asyncio.run(stand_ins.backend.cancel(["1", "2", "3"]))


def test_that_cancelling_nothing_runs_nothing(stand_ins):
    """``scancel`` without an id is an error of its own."""
    asyncio.run(stand_ins.backend.cancel([]))

    assert stand_ins.calls("scancel") == []


def test_that_the_jobs_of_a_run_are_found_by_name(stand_ins):
    """Those that are over, and those of other runs with a longer id, are not."""
    stand_ins.answers(
        "squeue",
        queue_line(id="1", name="scalable-r1-a0001")
        + queue_line(id="2", name="scalable-r1-a0002", state="PENDING", reason="Priority")
        + queue_line(id="3", name="scalable-r1-a0003", state="COMPLETED")
        + queue_line(id="4", name="scalable-r12-a0001")
        + queue_line(id="5", name="mine"),
    )

    found = asyncio.run(stand_ins.backend.find("r1"))

    assert [job.job_id for job in found] == ["1", "2"]
    assert stand_ins.calls("squeue")[0][-2:] == ["-u", str(os.getuid())]


def test_that_the_end_of_a_running_job_is_told(stand_ins):
    """As the controller has it now: admins extend jobs."""
    stand_ins.answers("squeue", queue_line(id="1", start="100", end="3700"))

    assert asyncio.run(stand_ins.backend.end_time("1")) == 3700.0


def test_that_the_users_own_settings_change_no_query(stand_ins, monkeypatch):
    """SQUEUE_PARTITION would hide jobs, SQUEUE_FORMAT change columns."""
    for name in ("SQUEUE_PARTITION", "SQUEUE_FORMAT", "SACCT_FEDERATION"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("SLURM_CONF", "/etc/here.conf")
    stand_ins.answers("squeue")
    stand_ins.answers("sacct")

    stand_ins.status("1", "2")
    seen = stand_ins.environment("squeue") + stand_ins.environment("sacct")

    assert "SQUEUE_" not in seen
    assert "SACCT_" not in seen
    assert seen.count("SLURM_TIME_FORMAT=%s") == seen.count("LC_ALL=C\n") == seen.count("SLURM_CONF=/etc/here") == 2


def test_that_a_driver_inside_a_job_hands_none_of_it_on(stand_ins, script, monkeypatch):
    """A worker must not read the driver's job id, restart count or memory as its own; the locale stays the user's."""
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_MEM_PER_NODE", "SLURM_JOB_END_TIME", "SBATCH_TIMELIMIT"):
        monkeypatch.setenv(name, "1")
    for name in ("SLURM_CONF", "SBATCH_ACCOUNT", "LC_ALL", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "kept")
    stand_ins.answers("sbatch", "1\n")

    asyncio.run(stand_ins.backend.submit(script))
    seen = dict(line.split("=", 1) for line in stand_ins.environment("sbatch").splitlines() if "=" in line)

    assert {name for name in seen if name.startswith(("SLURM_", "SBATCH_"))} == {"SLURM_CONF", "SBATCH_ACCOUNT"}
    assert (seen["LC_ALL"], seen["OMP_NUM_THREADS"]) == ("kept", "kept")
