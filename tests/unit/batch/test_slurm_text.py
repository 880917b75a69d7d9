"""Laws of reading Slurm, held against what a real Slurm printed and against noise."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.batch.slurm_text import (
    SEPARATOR,
    SQUEUE_FIELDS,
    job_name_in,
    never_runs,
    parse_job_id,
    parse_sacct,
    parse_scontrol,
    parse_squeue,
    refusal,
    sacct_format,
    says_accounting_is_off,
    says_unknown_job,
    squeue_format,
    stuck,
)
from scalable_hpc.batch.slurm_told import Told, merge_observations
from scalable_hpc.batch.slurm_words import ENDINGS, STATES
from scalable_hpc.errors import LimitRefused, PartitionRefused, SubmissionDeferred, SubmissionError
from scalable_hpc.model.allocations import ExitReason, JobObservation, JobState
from tests.slurm_moments import MOMENTS, SACCT_DUPLICATES_COLUMNS, SQUEUE_COLUMNS, moment, refusals

ENDED = {
    # moment: (reason, exit code, signal)
    "cancelled-cancelled-by-root-while-pending": (ExitReason.CANCELLED, None, None),
    "cancelled-cancelled-while-running": (ExitReason.CANCELLED, None, None),
    "cancelled-scancel-batch-signal-usr1": (ExitReason.COMPLETED, 0, None),
    "cancelled-term-ignoring-job-after-scancel": (ExitReason.CANCELLED, None, None),
    "completed-completed": (ExitReason.COMPLETED, 0, None),
    "completed-just-completed": (ExitReason.COMPLETED, 0, None),
    "deadline-deadline": (ExitReason.DEADLINE, None, None),
    "failed-bad-interpreter": (ExitReason.FAILED, 2, None),
    "failed-childkill": (ExitReason.FAILED, 9, None),
    "failed-exit3": (ExitReason.FAILED, 3, None),
    "failed-missing-chdir": (ExitReason.LAUNCH_FAILED, None, None),
    "failed-notfound": (ExitReason.FAILED, 127, None),
    "failed-sigkill": (ExitReason.FAILED, None, 9),
    "failed-sigsegv": (ExitReason.FAILED, None, 11),
    "failed-sigterm": (ExitReason.FAILED, None, 15),
    "failed-step-fails-batch-ok": (ExitReason.COMPLETED, 0, None),
    "failed-unwritable-output": (ExitReason.LAUNCH_FAILED, None, None),
    "nodefail-crash-after-crash-no-requeue": (ExitReason.NODE_FAIL, None, None),
    "nodefail-crash-running-again": (ExitReason.COMPLETED, 0, None),
    "nodefail-reboot-after-quick-reboot-no-requeue": (ExitReason.NODE_FAIL, None, None),
    "nodefail-scontrol-scontrol-down-no-requeue": (ExitReason.NODE_FAIL, None, None),
    "old-job-reboot-reboot-2": (ExitReason.NODE_FAIL, None, None),
    "oom-batch-exec-oom": (ExitReason.OUT_OF_MEMORY, None, None),
    "oom-batch-oom": (ExitReason.OUT_OF_MEMORY, None, None),
    "oom-srun-oom-fail": (ExitReason.FAILED, 1, None),
    "oom-step-oom": (ExitReason.COMPLETED, 0, None),
    "partition-net-after-heal": (ExitReason.CANCELLED, None, None),
    "preempt-preemptcancel-after": (ExitReason.PREEMPTED, None, None),
    "preempt-preempted-no-requeue": (ExitReason.PREEMPTED, None, None),
    "preempt-urgent": (ExitReason.COMPLETED, 0, None),
    "preempt-urgent-2": (ExitReason.COMPLETED, 0, None),
    "preempt-urgent-3": (ExitReason.COMPLETED, 0, None),
    "purged-purged-from-slurmctld": (ExitReason.COMPLETED, 0, None),
    "signal-b-10-time-2-signal-usr1-10": (ExitReason.TIMEOUT, None, None),
    "signal-b-60-time-2-signal-usr1-60": (ExitReason.TIMEOUT, None, None),
    "signal-b-90-time-2-signal-usr1-90": (ExitReason.TIMEOUT, None, None),
    "timeout-endtime-endtime-now-2": (ExitReason.TIMEOUT, None, None),
    "timeout-seconds-time-0-05-rounded-up": (ExitReason.TIMEOUT, None, None),
    "timeout-t1-time-1-sleep": (ExitReason.TIMEOUT, None, None),
    "timeout-timelimit-timelimit-lowered": (ExitReason.TIMEOUT, None, None),
    "timeout-trap-time-1-term-ignored": (ExitReason.TIMEOUT, None, None),
}
NOT_ENDED = {
    # moment: (state, the controller's reason)
    "cancelled-just-after-scancel-process-ignores-term": (JobState.ENDING, ""),
    "cancelled-pending-begintime": (JobState.PENDING, "BeginTime"),
    "completed-running": (JobState.RUNNING, "Prolog"),
    "nodefail-crash-after-crash-requeue": (JobState.PENDING, "BeginTime"),
    "nodefail-reboot-after-quick-reboot-requeue": (JobState.PENDING, "BeginTime"),
    "nodefail-scontrol-scontrol-down-requeue": (JobState.PENDING, "BeginTime"),
    "old-job-reboot-reboot": (JobState.PENDING, "BeginTime"),
    "pending-assocgrp": (JobState.PENDING, "AssocGrpCPUMinutesLimit"),
    "pending-dependency": (JobState.PENDING, "Dependency"),
    "pending-dependencyneversatisfied": (JobState.PENDING, "DependencyNeverSatisfied"),
    "pending-jobheldadmin": (JobState.HELD, "JobHeldAdmin"),
    "pending-jobhelduser": (JobState.HELD, "JobHeldUser"),
    "pending-partitiondown": (JobState.PENDING, "PartitionDown"),
    "pending-priority": (JobState.PENDING, "Priority"),
    "pending-qosmaxcpuperuserlimit": (JobState.PENDING, "QOSMaxCpuPerUserLimit"),
    "pending-reqnodenotavail": (JobState.PENDING, "ReqNodeNotAvail, UnavailableNodes:node04"),
    "pending-requeued-by-scontrol": (JobState.PENDING, "BeginTime"),
    "pending-requeuehold": (JobState.HELD, "job requeued in held state"),
    "pending-resources": (JobState.PENDING, "Resources"),
    "pending-running-again": (JobState.RUNNING, ""),
    "pending-suspended": (JobState.SUSPENDED, ""),
    "preempt-preempt-after": (JobState.RUNNING, ""),
    "preempt-preemptgrace-after": (JobState.RUNNING, ""),
    "rejections-assocmaxjobslimit": (JobState.RUNNING, ""),
    "rejections-qosmaxjobsperuserlimit": (JobState.PENDING, "QOSMaxJobsPerUserLimit"),
    "slurmd-killed-after-slurmd-restart": (JobState.PENDING, "BeginTime"),
}
ARRAYS = {
    "pending-array-done": {
        1: JobState.ENDED, 2: JobState.ENDED, 3: JobState.ENDED, 4: JobState.ENDED, 5: JobState.ENDED,
    },
    "pending-array-running-jobarraytasklimit": {
        1: JobState.RUNNING, 2: JobState.RUNNING, 3: JobState.PENDING, 4: JobState.PENDING, 5: JobState.PENDING,
        6: JobState.PENDING,
    },
}  # fmt: skip
"""The state of each member of array 44."""
RESTARTED = {name for name in NOT_ENDED if "requeue" in name or "again" in name} | {
    "nodefail-crash-running-again",
    "old-job-reboot-reboot",
    "partition-net-after-heal",
    "preempt-preempt-after",
    "preempt-preemptgrace-after",
    "slurmd-killed-after-slurmd-restart",
}


def test_that_every_recorded_moment_has_its_law():
    """No transcript is kept that no test reads."""
    assert set(MOMENTS) == ENDED.keys() | NOT_ENDED.keys() | ARRAYS.keys()


@pytest.mark.parametrize("name", ENDED)
def test_that_an_end_is_told_with_its_reason_exit_code_and_signal(name):
    """Each way to end that Slurm knows is one reason of ours."""
    seen = moment(name).merged()

    assert seen.state is JobState.ENDED
    assert seen.ending is not None
    assert (seen.ending.reason, seen.ending.exit_code, seen.ending.signal) == ENDED[name]
    assert seen.ending.ended_at is not None


@pytest.mark.parametrize("name", NOT_ENDED)
def test_that_a_job_that_is_not_over_is_never_called_ended(name):
    """Whatever accounting still says of an earlier incarnation, the controller's word counts."""
    seen = moment(name).merged()

    assert (seen.state, seen.because) == NOT_ENDED[name]
    assert seen.ending is None


@pytest.mark.parametrize("name", [name for name in MOMENTS if name not in ARRAYS and "purged" not in name])
def test_that_scontrol_and_squeue_tell_the_same(name):
    """The fallback without accounting is as good as the first source."""
    recorded = moment(name)
    squeue, scontrol = recorded.in_squeue(), recorded.in_scontrol()

    assert scontrol.state is squeue.state
    # An exit code of 53, told by scontrol only, sets a failed launch apart.
    if squeue.ending is not None and scontrol.ending.reason is not ExitReason.LAUNCH_FAILED:
        assert scontrol.ending.reason is squeue.ending.reason
    assert scontrol.nodes == squeue.nodes
    assert scontrol.name == squeue.name
    assert scontrol.submitted_at == squeue.submitted_at
    assert scontrol.ends_at == squeue.ends_at


@pytest.mark.parametrize("name", [name for name in MOMENTS if name not in ARRAYS and "purged" not in name])
def test_that_scontrol_counts_the_restarts(name):
    """A requeued job is told from one that never ran."""
    assert moment(name).in_scontrol().restarts == (1 if name in RESTARTED else 0)


@pytest.mark.parametrize("name", ENDED)
def test_that_accounting_alone_tells_the_same_end(name):
    """Once the controller has forgotten a job, nothing is lost."""
    recorded = moment(name)
    alone = merge_observations(recorded.job_id, Told(sacct=recorded.in_sacct_duplicates()))

    assert alone.ending is not None
    assert (alone.ending.reason, alone.ending.exit_code, alone.ending.signal) == ENDED[name]


@pytest.mark.parametrize("name", ARRAYS)
def test_that_each_member_of_an_array_is_a_job_of_its_own(name):
    """Also where those that wait are printed as one; scontrol and accounting name them alike."""
    recorded = moment(name)
    queue = parse_squeue(recorded.squeue, SQUEUE_COLUMNS, "|")
    shown, accounted = parse_scontrol(recorded.scontrol), recorded.accounted()

    assert {int(job_id.removeprefix("44_")): job.state for job_id, job in queue.items()} == ARRAYS[name]
    assert {job_id: job.state for job_id, job in shown.items()} == {job_id: job.state for job_id, job in queue.items()}
    if accounted:
        assert accounted["44_3"].ending.exit_code == 9
        assert {job_id: job.state for job_id, job in accounted.items()} == {
            key: job.state for key, job in queue.items()
        }


def test_that_a_member_of_our_arrays_has_its_own_name():
    """Every command prints the array's."""
    row = dict.fromkeys((name for _, name, _ in SQUEUE_FIELDS), "") | {"id": "7_12", "state": "RUNNING"}
    row["name"] = "scalable-RUN-a0010+"

    assert parse_squeue(SEPARATOR.join(row.values()) + SEPARATOR)["7_12"].name == "scalable-RUN-a0012"


def test_that_steps_and_headers_are_no_jobs():
    """``sacct`` with its header and steps gives one observation, of the job itself."""
    recorded = moment("failed-exit3")
    seen = recorded.in_sacct()

    assert (seen.job_id, seen.ending.exit_code, seen.nodes) == (recorded.job_id, 3, ("node01",))


def test_that_incarnations_of_a_requeued_job_are_counted():
    """``sacct -D`` has a row for each; the last one tells the state."""
    seen = moment("nodefail-crash-running-again").in_sacct_duplicates()

    assert (seen.ending.reason, seen.restarts) == (ExitReason.COMPLETED, 1)


def test_that_the_planned_start_of_a_waiting_job_is_not_told_as_a_fact():
    """squeue prints the scheduler's forecast for pending jobs."""
    seen = moment("pending-priority").merged()

    assert seen.submitted_at is not None
    assert (seen.started_at, seen.ends_at) == (None, None)


def test_that_a_running_job_tells_when_its_walltime_ends_it():
    """One hour after its start, and on which nodes."""
    seen = moment("preempt-preempt-after").merged()

    assert seen.ends_at - seen.started_at == 1800
    assert seen.nodes == ("node01", "node02", "node03", "node04")


def _line(**values: str) -> str:
    row = {"id": "7", "state": "RUNNING", "reason": "None", "restarts": "0", "exit": "0", "name": "n", **values}
    return "".join(f"{row.get(name, ''):<20}{SEPARATOR}" for _, name, _ in SQUEUE_FIELDS) + "\n"


@pytest.mark.parametrize(
    ("status", "reason", "exit_code", "signal"),
    [
        ("768", ExitReason.FAILED, 3, None),
        ("9", ExitReason.FAILED, None, 9),
        ("51200", ExitReason.FAILED, 200, None),
        ("4021", ExitReason.LAUNCH_FAILED, None, None),
    ],
)
def test_that_squeue_alone_tells_how_a_failed_job_ended(status, reason, exit_code, signal):
    """squeue prints a wait status; these four were seen for exit 3, kill -9, exit 200 and a missing directory."""
    ending = parse_squeue(_line(state="FAILED", reason="JobLaunchFailure", exit=status))["7"].ending

    assert (ending.reason, ending.exit_code, ending.signal) == (reason, exit_code, signal)


def test_that_a_requeued_job_is_pending_with_its_restarts():
    """The same id waits again: neither ended nor new."""
    seen = parse_squeue(_line(state="PENDING", reason="BeginTime", restarts="2"))["7"]
    old = parse_sacct("7|NODE_FAIL|0:0|1795335218|1795335236", SACCT_DUPLICATES_COLUMNS, "|")["7"]
    merged = merge_observations("7", Told(seen, old))

    assert (merged.state, merged.restarts, merged.ending) == (JobState.PENDING, 2, None)


@pytest.mark.parametrize("stale", ["PENDING", "RUNNING", "SUSPENDED", "WHATEVER"])
def test_that_accounting_of_a_job_that_the_controller_lost_ends_nothing(stale):
    """A controller that was killed forgets jobs that accounting shows as pending or running for ever."""
    row = parse_sacct(f"319|{stale}|0:0|Unknown|Unknown", SACCT_DUPLICATES_COLUMNS, "|")["319"]
    merged = merge_observations("319", Told(sacct=row))

    assert (merged.state, merged.raw, merged.ending) == (JobState.UNKNOWN, stale, None)


def test_that_a_job_nobody_knows_is_unknown():
    """Silence never ends a job."""
    for accounting in ("on", "off", "silent"):
        merged = merge_observations("7", Told(accounting=accounting))

        assert (merged.job_id, merged.state, merged.ending) == ("7", JobState.UNKNOWN, None)
        assert merged.because


def test_that_a_state_of_tomorrow_is_unknown_with_its_words():
    """Not even an end in accounting outweighs a controller that still has the job, in a state we do not know."""
    seen = parse_squeue(_line(state="HIBERNATING", reason="Snow"))["7"]
    old = parse_sacct("7|PREEMPTED|0:0|1795335218|1795335236", SACCT_DUPLICATES_COLUMNS, "|")["7"]

    assert merge_observations("7", Told(seen, old)) == seen
    assert (seen.state, seen.raw) == (JobState.UNKNOWN, "HIBERNATING (Snow)")


def test_that_a_failed_launch_is_recognised_when_squeue_lacks_the_exit_code():
    """JobLaunchFailure alone also means death by a signal; accounting knows which."""
    seen = parse_squeue(_line(state="FAILED", reason="JobLaunchFailure", exit="N/A"))["7"]
    rows = {code: parse_sacct(f"7|FAILED|{code}|1|2", SACCT_DUPLICATES_COLUMNS, "|")["7"] for code in ("0:53", "0:9")}

    assert merge_observations("7", Told(seen, rows["0:53"])).ending.reason is ExitReason.LAUNCH_FAILED
    assert merge_observations("7", Told(seen, rows["0:9"])).ending.signal == 9


def test_that_names_and_comments_may_hold_anything_but_the_separator():
    """Bars, commas, equal signs and blanks in a comment do not shift the columns."""
    seen = parse_squeue(_line(name="scalable-r-a1", comment="a|b, JobState=FAILED (null)"))["7"]

    assert (seen.name, seen.comment, seen.state) == ("scalable-r-a1", "a|b, JobState=FAILED (null)", JobState.RUNNING)


def test_that_a_comment_cannot_change_what_scontrol_says_before_it():
    """The first word for a field counts."""
    seen = parse_scontrol("JobId=7 JobName=n JobState=RUNNING Reason=None Comment=x JobState=FAILED ExitCode=1:0")["7"]

    assert seen.state is JobState.RUNNING


@pytest.mark.parametrize(
    ("printed", "job_id"),
    [
        ("25\n", "25"),
        ("25;cluster-2\n", "25"),
        ("*** Welcome! 2 jobs running ***\n====\n1234567\n", "1234567"),
        ("Submitted batch job 20\n", "20"),
        ("", None),
        ("sbatch: Job 24 to start at 2026-11-22T08:07:15\n", None),
    ],
)
def test_that_the_job_id_is_found_below_any_banner(printed, job_id):
    """Sites print greetings before sbatch's own line."""
    assert parse_job_id(printed) == job_id


EXPECTED_REFUSALS = (
    ("-p nosuch", PartitionRefused),
    ("-p debug -t 10:00", LimitRefused),
    ("-A nosuch", PartitionRefused),
    ("-A vip", PartitionRefused),
    ("-p retired", PartitionRefused),
    ("-p private", PartitionRefused),
    ("-N 99", LimitRefused),
    ("-p debug -N 3", LimitRefused),
    ("-c 5", LimitRefused),
    ("--mem 5000", LimitRefused),
    ("--qos short -t 10", LimitRefused),
    ("--deadline", LimitRefused),
    ("--qos limited", SubmissionDeferred),
    ("-A capped", SubmissionDeferred),
    ("dead.conf", SubmissionDeferred),
)


@pytest.mark.parametrize("case", refusals(), ids=lambda case: case.command[:40])
def test_that_a_refusal_is_told_apart_and_keeps_slurms_words(case):
    """Partition, limit, not now; everything else is refused for good."""
    expected = next((error for words, error in EXPECTED_REFUSALS if words in case.command), SubmissionError)
    error = refusal(case.rc, "", case.stderr)

    assert type(error) is expected
    assert case.stderr.splitlines()[-1].removeprefix("sbatch: ").removeprefix("error: ") in error.message


@pytest.mark.parametrize(
    "words",
    [
        "Batch job submission failed: Socket timed out on send/recv operation",
        "Batch job submission failed: Connection reset by peer",
        "Batch job submission failed: Resource temporarily unavailable",
        "Slurm temporarily unable to accept job, sleeping and retrying",
        "Batch job submission failed: Zero Bytes were transmitted or received",
        "Batch job submission failed: Unable to contact slurm controller (receive failure)",
        "Batch job submission failed: Rate limit exceeded, please retry momentarily",
        "Batch job submission failed: MaxJobCount limit reached",
        "QOSGrpSubmitJobsLimit\nJob violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
    ],
)
def test_that_what_may_pass_is_deferred(words):
    """A busy controller or a full queue is no reason to give up a run."""
    assert type(refusal(1, "", f"sbatch: error: {words}")) is SubmissionDeferred


def test_that_a_submit_filter_that_says_nothing_known_refuses_for_good():
    """Words of a site's own filter are passed on."""
    error = refusal(1, "", "sbatch: error: Please give a project with -A, see https://site/help")

    assert type(error) is SubmissionError
    assert "Please give a project with -A" in error.message


@pytest.mark.parametrize(
    "reason",
    [
        "PartitionTimeLimit", "BadConstraints", "InvalidAccount", "InvalidQOS", "QOSMaxWallDurationPerJobLimit",
        "AssocMaxWallDurationPerJobLimit", "QOSMaxCpuPerJobLimit", "AssocMaxNodePerJobLimit", "QOSMaxMemoryPerNode",
        "QOSMinGRES", "AssocGrpCPUMinutesLimit", "QOSGrpGRESMinutes", "DependencyNeverSatisfied", "JobHoldMaxRequeue",
        "(PartitionTimeLimit)", "AccountNotAllowed", "launch failed requeued held", "ReservationDeleted",
    ],
)  # fmt: skip
def test_that_reasons_which_never_pass_are_named(reason):
    """Such a job would wait for ever; the words say why."""
    assert never_runs(reason)


@pytest.mark.parametrize(
    "reason",
    [
        "", "None", "Resources", "Priority", "PartitionDown", "PartitionInactive", "Dependency", "BeginTime",
        "NodeDown", "QOSMaxJobsPerUserLimit", "QOSMaxCpuPerUserLimit", "AssocMaxJobsLimit", "AssocGrpCpuLimit",
        "AssocGrpCPURunMinutesLimit", "QOSGrpMemoryRunMinutes", "JobHeldUser", "PartitionNodeLimit", "Prolog",
        "ReqNodeNotAvail, UnavailableNodes:node04", "JobArrayTaskLimit", "Licenses", "Reservation",
        "QOSUsageThreshold",
    ],
)  # fmt: skip
def test_that_reasons_which_may_pass_are_waited_for(reason):
    """Waiting is right, so nothing is said."""
    assert never_runs(reason) is None


@pytest.mark.parametrize(
    ("reason", "is_stuck"),
    [
        *((reason, True) for reason in (
            "PartitionDown", "PartitionInactive", "NodeDown", "ReqNodeNotAvail, UnavailableNodes:node04",
            "(PartitionDown)", "QOSMaxJobsPerUserLimit", "AssocGrpCpuLimit", "Licenses", "JobHeldAdmin",
            "PartitionNodeLimit", "PartitionTimeLimit",
        )),
        *((reason, False) for reason in ("", "None", "Resources", "Priority", "BeginTime", "Prolog", "Cleaning")),
    ],
)  # fmt: skip
def test_that_a_turn_in_the_queue_is_told_from_what_others_must_remove(reason, is_stuck):
    """A queue is waited out; of the rest a fallback may make the best."""
    assert (stuck(reason) is not None) == is_stuck


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("#!/bin/bash\n#SBATCH --job-name=scalable-r-a0001\n", "scalable-r-a0001"),
        ("#!/bin/bash\n#SBATCH -J first\n#SBATCH --job-name='second'\n", "second"),
        ("#!/bin/bash\necho '#SBATCH'\n", None),
    ],
)
def test_that_the_job_name_of_a_script_is_read_as_sbatch_does(script, name):
    """By it a job is found whose submission got no answer."""
    assert job_name_in(script) == name


def test_that_an_unknown_job_and_missing_accounting_are_not_taken_for_an_outage():
    """These two failures are answers; others are silence."""
    assert says_unknown_job("slurm_load_jobs error: Invalid job id specified\n")
    assert not says_unknown_job("slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    assert says_accounting_is_off("Slurm accounting storage is disabled\n")
    assert not says_accounting_is_off("sacct: error: Problem talking to the database: Connection refused")


def test_that_asked_and_read_fields_agree():
    """What is asked of the commands is what the parsers read, in the same order."""
    asked = [part.split(":")[0] for part in squeue_format().split(",")]

    assert asked == [name for name, _, _ in SQUEUE_FIELDS]
    assert sacct_format().split(",")[:2] == ["JobID", "State"]
    assert SEPARATOR not in sacct_format()


noise = st.one_of(
    st.text(),
    st.lists(st.text(max_size=8), max_size=30).map(SEPARATOR.join),
    st.lists(st.sampled_from(["7", "RUNNING", "FAILED", "JobId=7", "JobState=", "ExitCode=0:9", "|", "\n", "[1-"])).map(
        "|".join
    ),
)


@given(noise)
def test_that_no_noise_raises(text):
    """Whatever a command prints, the answer is facts or nothing."""
    for found in (
        parse_squeue(text),
        parse_squeue(text, SQUEUE_COLUMNS, "|"),
        parse_sacct(text),
        parse_sacct(text, SACCT_DUPLICATES_COLUMNS, "|"),
        parse_scontrol(text),
    ):
        assert all(isinstance(seen, JobObservation) for seen in found.values())
    assert isinstance(refusal(1, text, text), (SubmissionError, SubmissionDeferred))
    assert never_runs(text) is None or never_runs(text)
    parse_job_id(text)
    job_name_in(text)


words = st.text(alphabet=st.characters(blacklist_characters=SEPARATOR + "\n"), min_size=1)


@given(st.one_of(words, st.builds(lambda known, more: known + more, st.sampled_from([*ENDINGS, *STATES]), words)))
def test_that_no_word_but_those_of_the_table_ends_a_job(printed):
    """A state that is not known never means that the job is over; 'CANCELLED by 999' is CANCELLED."""
    word = re.match(r"[A-Z_]*", printed.strip())[0]
    for seen in parse_squeue(_line(state=printed)).values():
        assert (seen.state is JobState.ENDED) == (word in ENDINGS)
        assert (seen.state is JobState.UNKNOWN) == (word not in ENDINGS and word not in STATES)


@given(st.sampled_from(MOMENTS), st.data())
def test_that_output_cut_anywhere_invents_no_job(name, data):
    """A command that was killed while printing tells less, never of other jobs."""
    recorded = moment(name)
    text = recorded.squeue
    cut = text[: data.draw(st.integers(0, len(text)))]
    whole = parse_squeue(text, SQUEUE_COLUMNS, "|")

    for job_id, seen in parse_squeue(cut, SQUEUE_COLUMNS, "|").items():
        assert seen.state is whole[job_id].state


@pytest.mark.parametrize(
    ("state", "start", "expected"),
    [("PENDING", "2026-11-22T12:00:00", True), ("PENDING", "N/A", False), ("RUNNING", "2026-11-22T12:00:00", False)],
)
def test_that_a_forecast_is_told_from_a_start(state, start, expected):
    """squeue prints both in one column; only a job that waits has a forecast, and only one that runs has a start."""
    row = dict.fromkeys((name for _, name, _ in SQUEUE_FIELDS), "") | {"id": "7", "state": state, "start": start}

    seen = parse_squeue(SEPARATOR.join(row.values()) + SEPARATOR)["7"]

    assert (seen.expected_start is not None) == expected
    assert (seen.started_at is not None) == (state == "RUNNING")


def test_that_the_name_of_a_cluster_above_the_rows_is_no_job():
    """``squeue --clusters=c2`` prints it even where no header is wanted."""
    assert list(parse_squeue(f"CLUSTER: c2\n{_line()}")) == ["7"]
