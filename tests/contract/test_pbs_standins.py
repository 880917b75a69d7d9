"""The stand-ins of PBS answer as the real one did: the recorded sessions are typed again."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.pbs_moments import recorded, whole_records
from tests.standins.pbs_print import attribute
from tests.waiting import wait_until

_VALUE = re.compile(r" {4}([A-Za-z_][\w.]*) = (.*)")
REFUSED = [
    one
    for one in recorded("02-qsub-rejections.txt")
    if one.command.startswith("qsub ")
    and one.rc not in (0, 175)
    and not re.search(r"-J|\.sh|x=GRES|x\"y|NoneType|limited", one.command)
]


def test_that_long_values_are_folded_where_the_real_one_folds_them():
    """Every attribute of every recorded job, unfolded and folded again; values with line breaks of their own aside."""
    compared = 0
    for one in whole_records():
        for line in re.split(r"\n(?!\t)", one.stdout):
            if "qstat -f -w" in one.command or not (match := _VALUE.fullmatch(line.replace("\n\t", ""))):
                continue
            compared += 1
            assert attribute(match[1], match[2]) == line
    assert compared > 500


@pytest.mark.parametrize("one", REFUSED, ids=lambda one: one.command.removeprefix("qsub ")[:60])
def test_that_what_the_real_one_refused_is_refused_in_the_same_words(pbs_of_module, one):
    """Exit code and text."""
    answer = pbs_of_module.run(*shlex.split(one.command))

    assert (answer.returncode, answer.stdout, answer.stderr) == (one.rc, one.stdout, one.stderr)


def test_that_a_script_is_read_as_the_real_one_reads_it(pbs_of_module, tmp_path):
    """A line end of Windows, a directive that is none, a directive after a command, a script that is not there."""
    cases = {"dos.sh": "#!/bin/sh\r\ntrue\r\n", "bad2.sh": "#PBS --whatever=3\ntrue\n"}
    for name, text in cases.items():
        (tmp_path / name).write_bytes(text.encode())
        real = [one for one in recorded("02-qsub-rejections.txt") if one.command == f"qsub {name}"][-1]
        answer = pbs_of_module.run("qsub", name, cwd=tmp_path)
        assert (answer.returncode, answer.stderr) == (real.rc, real.stderr)
    (tmp_path / "late.sh").write_text("#!/bin/sh\n#PBS -N early\ntrue\n#PBS -N late\n#PBS --whatever\n")
    job_id = pbs_of_module.run("qsub", "-o", "/dev/null", "-e", "/dev/null", "late.sh", cwd=tmp_path).stdout.strip()
    assert "Job_Name = early\n" in pbs_of_module.run("qstat", "-xf", job_id).stdout
    missing = pbs_of_module.run("qsub", "nosuch.sh", cwd=tmp_path)
    assert (missing.returncode, missing.stderr) == (1, "qsub: script file:: No such file or directory\n")


@pytest.mark.parametrize(
    "command", ["qsub -l walltime=90 -l walltime=80 -- /bin/true", "qsub -l walltime=00:00:30.5 -- /bin/true",
                "qsub -N 1abc -- /bin/true", "qsub -l select=1:ncpus=1000 -N toobig -- /bin/true"]
)  # fmt: skip
def test_that_what_the_real_one_took_is_taken(pbs_of_module, command):
    """One line on standard output, an id, and nothing else."""
    real = next(one for one in recorded("02-qsub-rejections.txt") if one.command == command)
    answer = pbs_of_module.run(*shlex.split(command))

    assert (answer.returncode, answer.stderr) == (real.rc, real.stderr) == (0, "")
    assert re.sub(r"\d+", "N", answer.stdout) == re.sub(r"\d+", "N", real.stdout)


def test_that_other_commands_refuse_in_the_same_words(pbs_of_module):
    """Of ids that are wrong, unknown, finished, and of options that there are not."""
    job_id = pbs_of_module.run("qsub", "--", "/bin/true").stdout.strip()
    wait_until("its end", lambda: pbs_of_module.run("qstat", "-f", job_id).returncode == 35, timeout=20)
    for command in ("qdel all", "qdel -W bogus 1", "qdel", 'qdel ""', "qdel abc"):
        real = next(one for one in recorded("06c-qdel-errors.txt") if one.command == command)
        answer = pbs_of_module.run(*shlex.split(command))
        assert (answer.returncode, answer.stderr) == (real.rc, real.stderr), command
    assert pbs_of_module.run("qdel", job_id).stderr == f"qdel: Job has finished {job_id}\n"
    several = pbs_of_module.run("qdel", "99999", job_id)
    assert (several.returncode, several.stderr.splitlines()[0]) == (35, "qdel: Unknown Job Id 99999.pbshead")


def test_that_the_attributes_of_a_finished_job_are_the_real_ones(pbs_of_module):
    """The same names, in the same order."""
    answer = pbs_of_module.run(
        "qsub", "-N", "x", "-j", "oe", "-l", "walltime=60", "-o", "/dev/null", stdin="sleep 0.6\n"
    )
    job_id = answer.stdout.strip()
    wait_until("its end", lambda: "Exit_status" in pbs_of_module.run("qstat", "-x", "-f", job_id).stdout, timeout=20)
    ours = re.findall(r"(?m)^ {4}([\w.]+) =", pbs_of_module.run("qstat", "-x", "-f", job_id).stdout)
    (real,) = [one for one in recorded("05-walltime-kill.txt") if one.stdout.startswith("Job Id: 57")][:1]
    theirs = re.findall(r"(?m)^ {4}([\w.]+) =", real.stdout)

    assert [name for name in theirs if name in ours] == [name for name in ours if name in theirs]
    assert set(ours) - set(theirs) == set()
    assert set(theirs) - set(ours) <= {"executable", "argument_list", "umask"}


def test_that_the_exit_codes_of_a_script_are_the_real_ones(pbs_of_module):
    """Its own, 128 and more for a signal that its shell saw, 256 and more for one that the shell died of."""
    asked = {
        "exit 300": 44,
        "kill -SEGV $$": 139,
        "exit 7": 7,
        "kill -9 $PPID": 265,
        "kill -TERM $PPID; sleep 0.1": 271,
    }
    ids = {text: pbs_of_module.run("qsub", "-o", "/dev/null", "-e", "/dev/null", stdin=text + "\n") for text in asked}

    def status(text: str) -> int | None:
        match = re.search(r"Exit_status = (-?\d+)", pbs_of_module.run("qstat", "-xf", ids[text].stdout.strip()).stdout)
        return int(match[1]) if match else None

    for text, code in asked.items():
        wait_until(f"the end of {text!r}", lambda text=text: status(text) is not None, timeout=20)
        assert status(text) == code, text


def test_that_output_comes_at_the_end_and_where_it_should(pbs, tmp_path):
    """By the job's name, by its id in a directory, directly where asked; nowhere at all harms no job."""
    (tmp_path / "out").mkdir()
    script = f"echo begin; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done\n"
    for options in (["-N", "one"], ["-o", "out/", "-e", "out/"], ["-N", "two", "-k", "oed"], ["-o", "/no/such/dir/"]):
        assert pbs.run("qsub", *options, stdin=script, cwd=tmp_path).returncode == 0
    wait_until("direct output", (tmp_path / "two.o3").exists, timeout=10, every=0.02)
    assert not (tmp_path / "one.o1").exists()
    (tmp_path / "go").touch()
    wait_until("the end of all", lambda: not pbs.jobs(), timeout=20)

    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        "2.pbshead.ER", "2.pbshead.OU", "STDIN.e4", "go", "one.e1", "one.o1", "two.e3", "two.o3"
    ]  # fmt: skip
    assert (tmp_path / "one.o1").read_text() == "begin\n"
    assert (tmp_path / "one.o1").stat().st_mode & 0o777 == 0o600
    assert "Exit_status = 0" in pbs.run("qstat", "-x", "-f", "4").stdout


def test_that_the_json_of_three_builds_differs_as_theirs_does(pbs):
    """One answers about the first id only, one writes what is no JSON; none of it is used."""
    import json

    for name in ("inf", "b"):
        pbs.run("qsub", "-h", "-A", name, "--", "/bin/true")
    ask = ("qstat", "-f", "-F", "json", "1", "2")
    good = json.loads(pbs.run(*ask).stdout)
    pbs.configure(json="first-only")
    first = json.loads(pbs.run(*ask).stdout)
    pbs.configure(json="release")
    broken = pbs.run(*ask).stdout

    assert (list(good["Jobs"]), list(first["Jobs"])) == (["1.pbshead", "2.pbshead"], ["1.pbshead"])
    assert '"Account_Name":inf' in broken


def test_that_jobs_wait_for_others_as_the_real_ones_did(pbs, tmp_path):
    """The recorded session again, with a parent that ends when it is told to: held, then released, or over for good."""
    session = recorded("09-dependencies.txt")
    first = 77  # of the recorded jobs; here it is 1
    gate = f"while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; exit 1"

    def here(text: str) -> str:
        return re.sub(r"\b(\d+)(?=\.pbshead)", lambda match: str(int(match[1]) - first + 1), text)

    def told(record: str) -> dict[str, str]:
        found = dict(re.findall(r"(?m)^ {4}([\w.]+) = (.*)$", record))
        compared = ("job_state", "depend", "Hold_Types", "substate", "Exit_status", "run_count")
        return {name: found[name] for name in compared if name in found}

    for one in session[:5]:
        answer = pbs.run(*shlex.split(here(one.command).replace("sleep 3; exit 1", gate)), cwd=tmp_path)
        assert (answer.returncode, answer.stdout, answer.stderr) == (one.rc, here(one.stdout), "")
    wait_until("the parent to run", lambda: "substate = 42" in pbs.run("qstat", "-f", "1").stdout, timeout=20)
    waits = next(one for one in session if one.command == "qstat -f 78.pbshead")
    assert told(pbs.run("qstat", "-f", "2").stdout) == told(here(waits.stdout))
    parent = next(one for one in session if one.command.startswith("qstat -f 77.pbshead"))
    assert told(pbs.run("qstat", "-f", "1").stdout)["depend"] == told(here(parent.stdout))["depend"]
    (tmp_path / "go").touch()
    wait_until("the end of all", lambda: not pbs.jobs(), timeout=20)

    for number in (78, 79, 80, 81):
        real = next(one for one in session if one.command.startswith(f"qstat -xf {number}.pbshead |"))
        ours = told(pbs.run("qstat", "-xf", str(number - first + 1)).stdout)
        ours.pop("Hold_Types")  # left out of what was recorded
        assert ours == told(here(real.stdout)), number
    refused = session[-1]
    answer = pbs.run(*shlex.split(refused.command))
    assert (answer.returncode, answer.stderr) == (refused.rc, refused.stderr)


def test_that_a_requeue_ends_no_wait_and_a_deletion_does(pbs):
    """A requeue is no end; a qdel is one, and whatever the parent came to is known afterwards too."""
    parent = pbs.run("qsub", "-r", "y", "--", "/bin/sleep", "60").stdout.strip()
    pbs.run("qsub", "-W", f"depend=afterany:{parent}", "--", "/bin/true")
    wait_until("the parent to run", lambda: "substate = 42" in pbs.run("qstat", "-f", parent).stdout, timeout=20)
    pbs.control("rerun", parent)
    wait_until("its second start", lambda: "run_count = 2" in pbs.run("qstat", "-f", parent).stdout, timeout=20)
    assert "job_state = H" in pbs.run("qstat", "-f", "2").stdout
    pbs.run("qdel", parent)
    wait_until("the end of all", lambda: not pbs.jobs(), timeout=20)
    late = pbs.run("qsub", "-W", f"depend=afterok:{parent}", "--", "/bin/true").stdout.strip()

    assert "Exit_status = 0" in pbs.run("qstat", "-xf", "2").stdout
    last = pbs.run("qstat", "-xf", late).stdout
    assert "job_state = F" in last
    assert "Exit_status" not in last


def test_that_a_block_waits_for_the_end_and_its_exit_code(pbs):
    """``-W block=true``."""
    assert pbs.run("qsub", "-W", "block=true", "-o", "/dev/null", "-e", "/dev/null", stdin="exit 9\n").returncode == 9


@pytest.fixture(scope="module")
def pbs_of_module(tmp_path_factory):
    """One for all, since nothing here disturbs another."""
    from tests.pbs_support import StandInPbs

    rig = StandInPbs(tmp_path_factory.mktemp("pbs") / "state")
    rig.up()
    rig.configure(stale_text=False)
    yield rig
    rig.down()
