"""What the pretended cluster promises to every test that runs on it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest

from tests.rig.cluster import SlurmRig
from tests.waiting import wait_until

pytestmark = pytest.mark.slurm


def submit(slurm: SlurmRig, script: str = "sleep 600", *options: str) -> str:
    """Submit a job and return its id."""
    return slurm.run(["sbatch", "--parsable", "--output=/dev/null", *options, f"--wrap={script}"]).strip()


def start(slurm: SlurmRig, node: str, *options: str, script: str = "sleep 600") -> str:
    """Submit a job for ``node`` and return its id when it runs."""
    job = submit(slurm, script, f"--nodelist={node}", *options)
    wait_until(f"job {job} runs", lambda: state(slurm, job) == "RUNNING", timeout=20)
    return job


def state(slurm: SlurmRig, job: str) -> str:
    """The controller's word on a job."""
    return slurm.run(["squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job}"]).strip()


def recorded(slurm: SlurmRig, job: str) -> str:
    """The accounting's word on a job."""
    return slurm.run(["sacct", "-n", "-X", "-P", "-j", job, "-o", "State"]).strip()


def can_connect(address: str, port: int) -> bool:
    """Whether a TCP connection is accepted within a second."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def nodes(slurm) -> tuple[str, ...]:
    return slurm.node_names


@pytest.fixture
def own_networks(slurm) -> None:
    if slurm.settings.mode != "netns":
        pytest.skip("nodes share one network here: namespaces need root with CAP_SYS_ADMIN and CAP_NET_ADMIN")


def test_that_a_job_spans_four_nodes_with_names_and_addresses_of_their_own(slurm, nodes, own_networks):
    """``hostname`` and the interface's address differ on every node, and are what the head calls the node."""
    ask = ["ip", "-4", "-o", "address", "show", slurm.interface]

    names = slurm.run(["srun", "-N4", "hostname"]).split()
    addresses = {node: slurm.node("exec", node, *ask).split()[3] for node in nodes}

    assert sorted(names) == list(nodes)
    assert addresses == {node: f"{slurm.node('ip', node)}/24" for node in nodes}


def test_that_head_and_nodes_reach_each_other_over_the_interface(slurm, nodes, own_networks):
    """A server on the head's address is reached from each node, and one on a node from the head."""
    ask = "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 5).recv(99).decode())"
    rig = [sys.executable, "-m", "tests.rig", "-i", str(slurm.settings.instance)]
    with socket.create_server((slurm.head_address, 0)) as server:
        port = server.getsockname()[1]
        for node in nodes:
            with subprocess.Popen(
                [*rig, "node", "exec", node, sys.executable, "-c", ask, slurm.head_address, str(port)],
                stdout=subprocess.PIPE,
                text=True,
            ) as client:
                connection, (peer, _) = server.accept()
                with connection:
                    connection.sendall(b"hello")
                answer, _ = client.communicate(timeout=20)

            assert answer.strip() == "hello"
            assert peer == slurm.node("ip", node)
            assert can_connect(slurm.node("ip", node), slurm.settings.node_port(node))


def test_that_local_disk_and_shared_memory_are_the_nodes_own(slurm, nodes, own_networks, tmp_path):
    """The same path under ``local`` and /dev/shm holds other content on every node; all else is shared."""
    shared, local = tmp_path / "shared", slurm.settings.root / "local/mark"
    for node in nodes[:2]:
        write = f"echo {node} >>{shared}; echo {node} >>{local}; echo {node} >>/dev/shm/mark"
        slurm.node("exec", node, "sh", "-c", write)

    seen = {node: slurm.node("exec", node, "cat", str(local), "/dev/shm/mark").split() for node in nodes[:2]}

    assert shared.read_text().split() == list(nodes[:2])
    assert seen == {node: [node, node] for node in nodes[:2]}


def test_that_a_reported_power_cut_ends_a_job_as_node_fail_at_once(slurm, nodes):
    """``fail``: the processes are gone, and the controller and the accounting say NODE_FAIL within seconds."""
    job = start(slurm, nodes[1], "--no-requeue")

    slurm.node("fail", nodes[1])

    wait_until("NODE_FAIL in the accounting", lambda: recorded(slurm, job) == "NODE_FAIL", timeout=5)
    assert state(slurm, job) == "NODE_FAIL"
    assert slurm.node("pids", nodes[1]) == ""


@pytest.mark.slow
def test_that_a_silent_power_cut_is_noticed_by_slurm_itself(slurm, nodes):
    """``crash`` tells nobody: the job stays RUNNING for a while, then it is a NODE_FAIL and the node is down."""
    job = start(slurm, nodes[2], "--no-requeue")

    slurm.node("crash", nodes[2])

    assert state(slurm, job) == "RUNNING"
    wait_until("NODE_FAIL in the accounting", lambda: recorded(slurm, job) == "NODE_FAIL", timeout=60)
    assert slurm.run(["sinfo", "-h", "-p", "batch", "-n", nodes[2], "-o", "%t"]).startswith("down")


def test_that_a_node_that_starts_again_takes_jobs_without_being_told(slurm, nodes):
    """After ``fail`` and ``start`` a job for that very node runs."""
    slurm.node("fail", nodes[0])
    slurm.node("start", nodes[0])

    start(slurm, nodes[0])


@pytest.mark.slow
def test_that_a_lost_job_runs_again_elsewhere_under_its_id_unless_it_forbids_it(slurm, nodes, tmp_path):
    """JobRequeue is on, as on many real clusters: a job must say ``--no-requeue`` to end with its node."""
    marks = tmp_path / "marks"
    script = f'echo "${{SLURM_RESTART_COUNT:-0}} $SLURMD_NODENAME" >>{marks}; sleep 600'
    job = submit(slurm, script)
    wait_until("the first start", lambda: marks.exists() and marks.read_text(), timeout=20)
    first = marks.read_text().split()[1]

    slurm.node("fail", first)

    wait_until("the second start", lambda: len(marks.read_text().splitlines()) == 2, timeout=60)
    count, second = marks.read_text().splitlines()[1].split()
    assert count == "1"
    assert second != first
    assert state(slurm, job) == "RUNNING"


def test_that_a_partition_cuts_the_network_both_ways_and_healing_mends_it(slurm, nodes, own_networks):
    """While partitioned a node runs on but is not reached; a short partition costs no job."""
    job = start(slurm, nodes[3], "--no-requeue")
    address, port = slurm.node("ip", nodes[3]), slurm.settings.node_port(nodes[3])

    slurm.node("partition", nodes[3])
    reached_while_cut = can_connect(address, port)
    running_while_cut = slurm.node("pids", nodes[3])
    slurm.node("heal", nodes[3])

    assert not reached_while_cut
    assert len(running_while_cut.split()) > 2
    wait_until("the node is reached again", lambda: can_connect(address, port), timeout=10)
    assert state(slurm, job) == "RUNNING"


def test_that_a_job_over_its_memory_is_killed(slurm, nodes):
    """With cgroups the accounting says OUT_OF_MEMORY; where slurmd has to look itself, FAILED."""
    hungry = f"{sys.executable} -c 'import time; held = bytearray(300_000_000); time.sleep(600)'"

    job = submit(slurm, f"exec {hungry}", "--mem=50M")

    expected = "OUT_OF_MEMORY" if slurm.settings.memory_limit == "cgroup" else "FAILED"
    wait_until(expected, lambda: recorded(slurm, job) == expected, timeout=30)


REFUSALS = {
    "no such partition": (["-p", "nosuch"], "invalid partition specified: nosuch"),
    "an inactive partition": (["-p", "retired"], "Required partition not available"),
    "a partition of another account": (["-p", "private"], "Invalid account or account/partition combination"),
    "no such account": (["-A", "nosuch"], "Invalid account"),
    "another's account": (["-A", "vip"], "Invalid account"),
    "no such QOS": (["--qos", "nosuch"], "Invalid qos specification"),
    "more time than the partition gives": (["-p", "debug", "-t", "6"], "Requested time limit is invalid"),
    "more nodes than the partition gives": (["-p", "debug", "-N", "3"], "Node count specification invalid"),
    "more processors than a node has": (["-N1", "-c", "5"], "Requested node configuration is not available"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_that_a_request_over_a_limit_is_refused_when_submitted(slurm, case):
    """sbatch ends with 1 and Slurm's own words, as on a cluster with EnforcePartLimits=ALL."""
    options, words = REFUSALS[case]

    done = slurm.attempt(["sbatch", *options, "--wrap=true"])

    assert done.returncode == 1
    assert words in done.stderr


def test_that_the_limited_qos_runs_one_job_and_takes_three(slurm):
    """The second job waits for the QOS, the fourth is refused: a submit limit to back off from."""
    jobs = [submit(slurm, "sleep 600", "--qos=limited") for _ in range(3)]
    fourth = slurm.attempt(["sbatch", "--qos=limited", "--wrap=true"])
    ask = ["squeue", "-h", "-o", "%T %r", "-j", jobs[1]]

    wait_until("the first runs", lambda: state(slurm, jobs[0]) == "RUNNING", timeout=20)
    wait_until("why the second waits", lambda: slurm.run(ask).strip() == "PENDING QOSMaxJobsPerUserLimit", timeout=20)
    assert fourth.returncode == 1
    assert "QOSMaxSubmitJobPerUserLimit" in fourth.stderr


def test_that_an_urgent_job_preempts_one_that_may_be_preempted(slurm, nodes):
    """The victim ends PREEMPTED, because its partition is of a lower tier and it must not be requeued."""
    victim = start(slurm, nodes[0], "--partition=preempt", "--exclusive", "--no-requeue")

    start(slurm, nodes[0], "--partition=urgent", "--exclusive")

    wait_until("PREEMPTED in the accounting", lambda: recorded(slurm, victim) == "PREEMPTED", timeout=20)


def test_that_a_killed_controller_is_silent_and_its_jobs_survive_it(slurm, nodes):
    """While slurmctld is away squeue fails; when it is back, a job that it had written down still runs."""
    job = start(slurm, nodes[0])
    changed, saved = time.time(), slurm.settings.root / "state/job_state"
    slurm.run(["scontrol", "update", f"jobid={job}", "comment=write this down"])
    wait_until("the job is written down", lambda: saved.exists() and saved.stat().st_mtime > changed, timeout=20)
    slurm.daemon("kill", "slurmctld")

    silent = slurm.attempt(["squeue"])
    slurm.daemon("start", "slurmctld")

    assert silent.returncode != 0
    assert "Unable to contact slurm controller" in silent.stderr
    assert state(slurm, job) == "RUNNING"


def test_that_a_reset_leaves_nothing_of_what_a_test_did(slurm, nodes):
    """Crashed, hung, drained nodes and every job are gone and mended, and all nodes take a job at once."""
    submit(slurm, "trap '' TERM; sleep 600 & wait", "-N4", "--exclusive")
    submit(slurm, "sleep 600", "-N4")
    slurm.node("crash", nodes[0])
    slurm.node("hang", nodes[1])
    slurm.node("kill-slurmd", nodes[2])
    slurm.run(["scontrol", "update", f"nodename={nodes[3]}", "state=drain", "reason=test"])

    slurm.reset()

    assert slurm.run(["squeue", "-h"]) == ""
    assert sorted(slurm.run(["srun", "-N4", "printenv", "SLURMD_NODENAME"]).split()) == list(nodes)


def test_that_a_reset_mends_a_partition_with_a_job_still_running_behind_it(slurm, nodes, own_networks):
    """The node that was cut off is back, without the job that Slurm could not tell to end."""
    start(slurm, nodes[0])
    slurm.node("partition", nodes[0])

    slurm.reset()

    assert "sleep 600" not in slurm.node("exec", nodes[0], "ps", "-eo", "args")
    start(slurm, nodes[0])


def test_that_starting_a_running_cluster_changes_nothing(slurm):
    """``up`` may be called by anybody at any time: no process is replaced."""
    before = slurm.status()

    SlurmRig(instance=slurm.settings.instance).up()

    assert slurm.status() == before
    assert all(part.is_up for part in before)
