"""Laws of reading PBS: every recorded session, and noise."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.batch.pbs_text import (
    Trailer,
    is_job_id,
    job_name_in,
    never_runs,
    observe,
    parse_ids,
    parse_job_id,
    parse_qstat,
    parse_trailer,
    read_answer,
    refusal,
    stuck,
    vanished,
    version_in,
)
from scalable_hpc.batch.pbs_values import parse_nodes, parse_span, parse_time
from scalable_hpc.batch.pbs_words import END_ROWS, NEGATIVE_STATUSES, Finish, why_ended
from scalable_hpc.errors import LimitRefused, PartitionRefused, SubmissionDeferred, SubmissionError
from scalable_hpc.model.allocations import ExitReason, JobObservation, JobState
from tests.pbs_moments import FILES, Recorded, everything, last_word_on, recorded, text_of, whole_records

BASE = {"Job_Name": "x", "stime": "Sun Nov 22 06:41:44 2026", "Resource_List.walltime": "00:10:00"}
RAN = "Job run at Sun Nov 22 at 06:41 on (node1:ncpus=1)"
DELETED = f"{RAN} and terminated by me@head"


@pytest.fixture
def utc(monkeypatch):
    """PBS prints local time; tests live in UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def finished(**attributes: str) -> JobObservation:
    return observe("1.s", {**BASE, "job_state": "F", "exec_host": "node1/0", **attributes})


@pytest.mark.parametrize(
    ("attributes", "reason", "code", "signal"),
    [
        ({"Exit_status": "0", "substate": "92", "comment": f"{RAN} and finished"}, "COMPLETED", 0, None),
        ({"Exit_status": "3", "substate": "93", "comment": f"{RAN} and failed"}, "FAILED", 3, None),
        ({"Exit_status": "200", "substate": "93", "comment": f"{RAN} and failed"}, "FAILED", 200, None),
        ({"Exit_status": "139", "substate": "93", "comment": f"{RAN} and failed"}, "FAILED", None, 11),
        ({"Exit_status": "266", "substate": "93", "comment": f"{RAN} and failed"}, "FAILED", None, 10),
        ({"Exit_status": "271", "substate": "91", "comment": DELETED}, "CANCELLED", None, 15),
        ({"Exit_status": "265", "substate": "91", "comment": DELETED}, "CANCELLED", None, 9),
        ({"Exit_status": "0", "substate": "91", "comment": DELETED}, "CANCELLED", 0, None),
        ({"substate": "91", "comment": "Can Never Run: x and terminated"}, "CANCELLED", None, None),
        ({"substate": "91"}, "CANCELLED", None, None),
        ({"Exit_status": "-29", "substate": "93", "comment": f"{RAN} and exceeded resource walltime"}, "TIMEOUT", None,
         None),
        ({"Exit_status": "-29", "substate": "93"}, "TIMEOUT", None, None),
        ({"Exit_status": "271", "substate": "93", "comment": f"{RAN} and failed",
          "resources_used.walltime": "00:10:05"}, "TIMEOUT", None, 15),
        ({"Exit_status": "271", "substate": "93", "comment": f"{RAN} and failed",
          "resources_used.walltime": "00:09:05"}, "FAILED", None, 15),
        ({"Exit_status": "-27", "substate": "93", "comment": f"{RAN} and exceeded resource mem"}, "OUT_OF_MEMORY", None,
         None),
        ({"Exit_status": "-26", "substate": "93"}, "OUT_OF_MEMORY", None, None),
        ({"Exit_status": "-28", "substate": "93"}, "TIMEOUT", None, None),
        ({"Exit_status": "265", "substate": "93", "comment": f"{RAN} and failed", "resources_used.diag_messages":
          """'{"node1": "Cgroup mem limit exceeded"}'"""}, "OUT_OF_MEMORY", None, 9),
        ({"Exit_status": "137", "substate": "93", "comment": f"{RAN} and failed", "resources_used.diag_messages":
          """'{"node1": "Cgroup mem limit exceeded"}'"""}, "OUT_OF_MEMORY", None, 9),
        ({"Exit_status": "0", "substate": "92", "comment": f"{RAN} and finished", "resources_used.diag_messages":
          """'{"node1": "Cgroup mem limit exceeded"}'"""}, "COMPLETED", 0, None),
        ({"Exit_status": "-20", "substate": "93", "comment": RAN}, "NODE_FAIL", None, None),
        ({"Exit_status": "-4", "substate": "93"}, "NODE_FAIL", None, None),
        ({"Exit_status": "0", "substate": "93", "comment": RAN}, "NODE_FAIL", 0, None),
        ({"Exit_status": "-11", "substate": "93"}, "REQUEUED", None, None),
        ({"Exit_status": "-1", "substate": "93"}, "LAUNCH_FAILED", None, None),
        ({"Exit_status": "-10", "substate": "93"}, "LAUNCH_FAILED", None, None),
        ({"Exit_status": "254", "substate": "93", "comment": f"{RAN} and failed",
          "resources_used.walltime": "00:00:00"}, "LAUNCH_FAILED", 254, None),
        ({"Exit_status": "254", "substate": "93", "comment": f"{RAN} and failed",
          "resources_used.walltime": "00:01:00"}, "FAILED", 254, None),
        ({"Exit_status": "127", "substate": "93", "comment": f"{RAN} and failed"}, "FAILED", 127, None),
        ({"substate": "92", "Hold_Types": "s"}, "CANCELLED", None, None),
        ({}, "UNKNOWN", None, None),
        ({"Exit_status": "-99", "substate": "93"}, "UNKNOWN", None, None),
        ({"Exit_status": "many", "substate": "93"}, "UNKNOWN", None, None),
    ],
)  # fmt: skip
def test_that_each_way_to_end_has_its_reason(attributes, reason, code, signal):
    """Comment, exit status, substate and the hook's words: together they tell; F alone, or 92 alone, is no success."""
    seen = finished(**attributes)

    assert seen.state is JobState.ENDED
    assert (seen.ending.reason, seen.ending.exit_code, seen.ending.signal) == (ExitReason[reason], code, signal)
    assert seen.ending.raw.startswith("F")


def test_that_every_row_of_the_end_table_decides_something():
    """None is in the shadow of those above it."""
    cases = [Finish(status, substate, "", diagnosis, used, 10.0)
             for status in (None, 0, 1, 137, 254, 265, 271) for substate in (None, 91, 92, 93)
             for diagnosis in ("", "mem limit exceeded") for used in (None, 0.0, 5.0, 11.0)]  # fmt: skip
    deciding = {next(words for words, holds, _ in END_ROWS if holds(case)) for case in cases}

    assert deciding == {words for words, _, _ in END_ROWS}
    assert all(why_ended(Finish(status)) is reason for status, reason in NEGATIVE_STATUSES.items())


@pytest.mark.parametrize(
    ("job_id", "state", "reason"),
    [
        ("3.pbshead", JobState.ENDED, ExitReason.COMPLETED),
        ("34.pbshead", JobState.ENDED, ExitReason.FAILED),  # not executable: 127
        ("57.pbshead", JobState.ENDED, ExitReason.TIMEOUT),
        ("59.pbshead", JobState.ENDED, ExitReason.CANCELLED),
        ("72.pbshead", JobState.ENDED, ExitReason.OUT_OF_MEMORY),
        ("292.pbshead", JobState.ENDED, ExitReason.OUT_OF_MEMORY),  # by the cgroups hook
        ("93.pbshead", JobState.ENDED, ExitReason.CANCELLED),  # by force, its node down
        ("99.pbshead", JobState.ENDED, ExitReason.NODE_FAIL),  # a sister node of it
        ("102.pbshead", JobState.ENDED, ExitReason.NODE_FAIL),
        ("101.pbshead", JobState.ENDED, ExitReason.COMPLETED),  # requeued first
        ("413.pbshead", JobState.ENDING, None),
        ("9.pbshead", JobState.HELD, None),
        ("279.pbshead", JobState.PENDING, None),
    ],
)
def test_that_recorded_jobs_are_read_as_what_they_were(utc, job_id, state, reason):
    """The last whole record of each."""
    seen = last_word_on(job_id)

    assert (seen.state, seen.ending.reason if seen.ending else None) == (state, reason)


def test_that_a_recorded_job_tells_all_of_its_life(utc):
    """Name, times, nodes, walltime's end while it runs, and starts again."""
    first, second = (last_word_on(job_id) for job_id in ("101.pbshead", "57.pbshead"))
    running = next(one.jobs["47.pbshead"] for one in whole_records() if "47.pbshead" in one.jobs)

    assert (first.name, first.restarts, first.ending.nodes) == ("nd-ry", 1, ("node1",))
    assert first.ending.ended_at == 1795331347.0
    assert first.submitted_at < first.started_at < first.ending.ended_at
    assert (second.restarts, second.ends_at) == (0, None)
    assert running.ends_at == running.started_at + 60
    assert running.because.startswith("Job run at")


def test_that_folded_and_whole_text_say_the_same():
    """A value may be cut anywhere, in the middle of a word."""
    whole, folded = (one for one in recorded("03-qstat-forms.txt") if re.fullmatch(r"qstat -f (-w )?47\S+", one.command)
                     and one.stdout)  # fmt: skip

    assert "\n\t" in folded.stdout
    assert "\n\t" not in whole.stdout
    assert folded.jobs == whole.jobs
    assert last_word_on("72.pbshead").raw.endswith("and exceeded resource mem)")


@pytest.mark.parametrize("file", FILES)
def test_that_no_session_brings_a_parser_down_or_invents_a_state(file):
    """Whole files, which no command ever printed, and each command's output, stdout and stderr alike."""
    letters = set(re.findall(r"job_state = (\w)", text_of(file)))
    texts = [text_of(file), *(text for one in recorded(file) for text in (one.stdout, one.stderr))]
    for text in texts:
        for seen in parse_qstat(text).values():
            assert (seen.ending is not None) == (seen.state is JobState.ENDED)
            assert seen.state is JobState.UNKNOWN or seen.raw[0] in letters
        read_answer(0, text, text, ("1.pbshead",))
        parse_ids(text), parse_job_id(text), parse_trailer(text, None), version_in(text)


def test_that_every_recorded_submission_is_told_from_every_refusal():
    """An id alone is a job; what failed has its class by the exit code, with PBS's words."""
    submissions = [
        one for one in everything() if re.match(r"(PBS_SERVER=\S+ )?qsub\b(?!.*([;&|]|--version))", one.command)
    ]
    taken = [one for one in submissions if one.rc == 0 and one.stdout.strip()]
    refused = [one for one in submissions if one.rc not in (0, 124) and not one.stdout.strip()]

    assert len(taken) > 60
    assert len(refused) > 50
    assert all(is_job_id(parse_job_id(one.stdout) or "") for one in taken)
    for one in refused:
        error = refusal(one.rc, one.stdout, one.stderr)
        assert isinstance(error, (SubmissionError, SubmissionDeferred))
        assert one.stderr.strip().splitlines()[-1].removeprefix("qsub: ").strip() in error.message


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("Unknown queue", PartitionRefused),
        ("Queue is not enabled", PartitionRefused),
        ("Job violates queue and/or server resource limits", LimitRefused),
        ("would exceed complex's per-user limit", SubmissionDeferred),
        ("cannot connect to server pbshead (errno=15010)", SubmissionDeferred),
        ("Unauthorized Request", PartitionRefused),
        ("Array job exceeds server or queue size limit", LimitRefused),
    ],
)
def test_that_refusals_have_their_class(words, error):
    """For good or not now, and whose matter it is."""
    one = next(one for one in everything() if one.command.startswith("qsub") and words in one.stderr and one.rc > 2)

    assert type(refusal(one.rc, one.stdout, one.stderr)) is error


def test_that_the_exit_code_is_believed_and_not_a_stale_text():
    """qsub's background process printed the words of an earlier refusal."""
    stale = [one for one in recorded("30-qsub-daemon.txt") if one.command == "qsub -W foo=bar -- /bin/true"]

    assert {one.stderr for one in stale} == {"qsub: Unknown resource Resource_List.procs\n", "qsub: Unknown queue\n"}
    errors = [refusal(one.rc, one.stdout, one.stderr) for one in stale]
    assert {type(error) for error in errors} == {SubmissionError}
    assert all("may be of an earlier error" in error.message for error in errors)


def test_that_good_ids_among_bad_ones_are_read():
    """The exit code is that of the last error: it says nothing about the others."""
    (one,) = [one for one in recorded("03-qstat-forms.txt") if one.command == "qstat -f 47.pbshead 99999 48.pbshead"]
    answer = read_answer(one.rc, one.stdout, one.stderr, ("47.pbshead", "99999.pbshead", "48.pbshead"))

    assert one.rc == 153
    assert set(answer.jobs) == {"47.pbshead", "48.pbshead"}
    assert (answer.unknown, answer.is_silent) == ({"99999.pbshead"}, False)


def _answer(file: str, command: str, *asked: str):
    one: Recorded = next(one for one in recorded(file) if one.command == command)
    return read_answer(one.rc, one.stdout, one.stderr, asked)


def test_that_a_server_that_is_down_has_said_nothing():
    """Whatever the exit code."""
    answer = _answer("23-server-down.txt", "qstat -f -F json 254.pbshead", "254.pbshead")

    assert (answer.is_silent, answer.unknown, answer.jobs) == (True, frozenset(), {})


def test_that_words_nobody_knows_about_a_job_are_silence():
    """An error that names no job is no word on any."""
    assert read_answer(163, "", "qstat: internal server error\n", ("1.s",)).is_silent
    assert not read_answer(153, "", "qstat: Unknown Job Id 1.s\n", ("1.s",)).is_silent


def test_that_a_pbs_without_history_is_recognised():
    """Exit code 0, no data, and a sentence: about running jobs too."""
    answer = _answer("24-history-off.txt", "qstat -x 256.pbshead", "256.pbshead")

    assert (answer.has_no_history, answer.is_silent, answer.unknown) == (True, False, frozenset())


def test_that_a_finished_job_asked_for_without_history_is_known_to_be_over():
    """PBS says so, and where to ask."""
    answer = _answer("06c-qdel-errors.txt", "qstat 70.pbshead", "70.pbshead")

    assert (answer.finished, answer.is_silent) == ({"70.pbshead"}, False)


def test_that_a_server_of_another_name_is_the_same_server():
    """The number counts."""
    answer = read_answer(0, "Job Id: 7.other.name\n    job_state = R\n", "", ("7.head",))

    assert answer.jobs["7.head"].state is JobState.RUNNING


def test_that_an_environment_cannot_pass_for_attributes():
    """Variables may hold line breaks, tabs, and lines that look like anything."""
    evil = (
        "Job Id: 1.s\n    Job_Name = mine\n    job_state = R\n    Variable_List = A=1\n    job_state = F\n\tcomment\n"
    )
    evil += "BASH_FUNC_x=() {\n    Exit_status = 0\n}\n    comment = Job run\n\t at dawn\n"
    seen = parse_qstat(evil)["1.s"]

    assert (seen.state, seen.because) == (JobState.RUNNING, "Job run at dawn")


@pytest.mark.parametrize(
    ("letter", "state"),
    [("Q", JobState.PENDING), ("W", JobState.PENDING), ("T", JobState.PENDING), ("H", JobState.HELD),
     ("R", JobState.RUNNING), ("B", JobState.RUNNING), ("S", JobState.SUSPENDED), ("U", JobState.SUSPENDED),
     ("E", JobState.ENDING), ("F", JobState.ENDED), ("X", JobState.ENDED), ("M", JobState.UNKNOWN),
     ("Z", JobState.UNKNOWN), ("", JobState.UNKNOWN)],
)  # fmt: skip
def test_that_each_state_is_in_our_words(letter, state):
    """What is not known is UNKNOWN; what waits has no start, no end and no node, whatever is left over from before."""
    seen = observe("1.s", {**BASE, "job_state": letter, "exec_host": "node1/0", "run_count": "1"})

    assert seen.state is state
    if state in (JobState.PENDING, JobState.HELD, JobState.UNKNOWN):
        assert (seen.started_at, seen.ends_at, seen.nodes) == (None, None, ())
    assert seen.restarts == (1 if state in (JobState.PENDING, JobState.HELD) else 0)


@pytest.mark.parametrize(
    ("comment", "never"),
    [
        ("Can Never Run: Insufficient amount of resource: ncpus (R: 1000 A: 16 T: 16)", True),
        ("job held, too many failed attempts to run", True),
        ("Not Running: Insufficient amount of resource: ncpus ", False),
        ("Not Running: User has reached server running job limit.", False),
        ("Not Running: Queue not started.", False),
        ("Job held by me on Sun Nov 22 06:55:34 2026", False),
        ("", False),
    ],
)
def test_that_waiting_for_ever_is_told_from_waiting(comment, never):
    """By the scheduler's comment."""
    assert (never_runs(comment) is not None) == never


@pytest.mark.parametrize(
    ("comment", "is_stuck"),
    [
        ("Can Never Run: Insufficient amount of resource: ncpus (R: 1000 A: 16 T: 16)", True),
        ("Not Running: Queue not started.", True),
        ("Not Running: User has reached server running job limit.", True),
        ("Not Running: User has reached queue limited running job limit.", True),
        ("Not Running: Server per-user limit reached on resource ncpus", True),
        ("Job held by me on Sun Nov 22 06:55:34 2026", True),
        ("Not Running: Insufficient amount of resource: ncpus ", False),
        ("", False),
    ],
)
def test_that_a_turn_in_the_queue_is_told_from_what_others_must_remove(comment, is_stuck):
    """A queue is waited out; of the rest a fallback may make the best."""
    assert (stuck(comment) is not None) == is_stuck


def test_that_a_job_that_vanished_ends_by_what_is_known_of_it():
    """Our own deletion, its walltime, its script's last word; else nobody knows, and nothing is made up."""
    last = JobObservation("1.s", JobState.RUNNING, "R", name="n", ends_at=100.0, nodes=("node1",))
    ways = {
        "ours": vanished("1.s", last, trailer=None, was_cancelled=True, now=50.0),
        "late": vanished("1.s", last, trailer=None, was_cancelled=False, now=101.0),
        "well": vanished("1.s", last, trailer=Trailer(0, 90.0), was_cancelled=False, now=101.0),
        "badly": vanished("1.s", last, trailer=Trailer(3, 90.0), was_cancelled=False, now=95.0),
        "unknown": vanished("1.s", None, trailer=None, was_cancelled=False, now=95.0),
    }

    assert {way: (seen.ending.reason.name, seen.ending.exit_code) for way, seen in ways.items()} == {
        "ours": ("CANCELLED", None),
        "late": ("TIMEOUT", None),
        "well": ("COMPLETED", 0),
        "badly": ("FAILED", 3),
        "unknown": ("UNKNOWN", None),
    }
    assert all("keeps no history" in seen.ending.raw for seen in ways.values())
    assert ways["well"].ending.ended_at == 90.0
    assert ways["badly"].ending.nodes == ("node1",)


def test_that_a_trailer_is_one_line_and_nothing_else():
    """A file that was cut, or is someone else's, tells nothing."""
    assert parse_trailer("exit 3\n", 7.0) == Trailer(3, 7.0)
    assert [parse_trailer(text, 7.0) for text in ("", "exit", "exit x", "3", "exit -1", "exit 3 4")] == [None] * 6


def test_that_ids_are_found_below_banners():
    """Sites greet their users."""
    assert parse_job_id("=== 3 nodes are down ===\n12\n123.head.site.org\n\n") == "123.head.site.org"
    assert parse_job_id("74[].head\n") == "74[].head"
    assert parse_job_id("12\nwelcome\n") is None
    assert parse_ids("1.s\n2.s\nqselect: x\n") == ("1.s", "2.s")


def test_that_versions_tell_pbs_from_the_others():
    """Torque prints its version on stderr, and in other words."""
    assert version_in("pbs_version = 23.06.06\n") == "23.06.06"
    assert version_in("Version: 6.1.2\nCommit: abc\n") is None


def test_that_the_name_of_a_script_is_read_as_qsub_does():
    """The last one counts."""
    assert job_name_in("#!/bin/bash\n#PBS -N one\n#PBS -l x\n#PBS -Ntwo\n") == "two"
    assert job_name_in("#!/bin/bash\n") is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:10:00", 600), ("90", 90), ("1:30", 90), ("100:00:00", 360000), ("00:00:30.5", 30),
                          ("", None), ("1:2:3:4", None), ("soon", None), ("-5", None)]
)  # fmt: skip
def test_that_spans_are_seconds(text, seconds):
    """As PBS writes them, and as a user may."""
    assert parse_span(text) == seconds


def test_that_dates_are_local_time(utc):
    """And nothing else is a date."""
    assert parse_time("Sun Nov 22 06:41:44 2026") == 1795329704.0
    assert parse_time("Sun Nov  2 06:41:44 2026") == 1793601704.0
    assert parse_time("1795329704") == 1795329704.0
    assert [parse_time(text) for text in ("", "Sun Foo 22 06:41:44 2026", "Sun Nov 32 06:41:44 2026", "now")] == [
        None
    ] * 4


@pytest.mark.parametrize("text", ["Sun Nov 22 06:41:44 2026", "1795329704"])
def test_that_the_schedulers_forecast_is_read(utc, text):
    """Not recorded: the reference guide has the attribute, and qstat prints it as its other dates, or as it is kept."""
    waits = observe("1.s", {"job_state": "Q", "estimated.start_time": text})
    runs = observe("1.s", {"job_state": "R", "estimated.start_time": text})

    assert (waits.expected_start, runs.expected_start) == (1795329704.0, None)


@pytest.mark.parametrize(
    ("attributes", "because"),
    [
        ({"comment": "Job held by me on Sun Nov 22 06:55:34 2026", "Hold_Types": "u", "substate": "20"}, "Job held by"),
        ({"Hold_Types": "o", "substate": "20"}, "held (Hold_Types = o)"),
        ({"Hold_Types": "s", "substate": "22"}, "waits for other jobs (depend)"),
    ],
)
def test_that_a_held_job_always_says_why(attributes, because):
    """PBS has no comment for holds of the system: then its attributes tell; only other jobs are worth waiting for."""
    seen = observe("1.s", {"job_state": "H", **attributes})

    assert seen.because.startswith(because)
    assert (stuck(seen.because) is None) == (attributes["substate"] == "22")


def test_that_hosts_are_each_named_once():
    """In their order."""
    assert parse_nodes("node1/0*2+node2/0+node1/1") == ("node1", "node2")
    assert parse_nodes("") == ()


LINES = st.sampled_from(
    ["Job Id: 1.s", "Job Id: 2[].s", "    job_state = F", "    job_state = R", "    Exit_status = 0",
     "    substate = 92", "    comment = and terminated", "\t by me@s", "", "    exec_host = node1/0*2",
     "    stime = Sun Nov 22 06:41:44 2026",
     "    Resource_List.walltime = 99999999:00:00", "    run_count = 21", "    Variable_List = A=\x1c", "}", "\t",
     "qstat: Unknown Job Id 1.s", "1.s Job has finished, use -x or -H"]
)  # fmt: skip


@given(st.lists(st.one_of(LINES, st.text(max_size=40))), st.integers(-1, 300))
def test_that_noise_brings_no_exception_and_no_end(lines, rc):
    """Whatever a broken pipe, a wrapper or a full disk makes of it: only F and X end a job."""
    text = "\n".join(lines)
    for seen in parse_qstat(text).values():
        assert (seen.state is JobState.ENDED) == (seen.ending is not None)
        assert seen.state is not JobState.ENDED or seen.raw[0] in "FX"
        assert is_job_id(seen.job_id)
    answer = read_answer(rc, text, text, ("1.s", "3.s"))
    assert set(answer.jobs) <= {"1.s", "3.s"}
    refusal(rc, text, text)
    for parse in (parse_ids, parse_job_id, parse_nodes, parse_span, parse_time, version_in, job_name_in, never_runs):
        parse(text)
    parse_trailer(text, None)
