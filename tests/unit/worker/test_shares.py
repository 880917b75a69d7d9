"""Laws of sharing a worker's cpus and gpus out among slots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.worker.shares import (
    DEVICES_VARIABLES,
    THREAD_VARIABLES,
    Seat,
    environment_of,
    seats_needed,
    share_out,
    visible_gpus,
)

CUDA, ROCR, ZE = DEVICES_VARIABLES


@given(slots=st.integers(1, 64), cores=st.sets(st.integers(0, 255), min_size=1), spare=st.integers(0, 8))
def test_that_bound_slots_share_all_cores_and_none_twice(slots, cores, spare):
    """Where there is a core for each slot, every core belongs to exactly one."""
    seats = share_out(slots=slots, cpus=len(cores) + spare, available=sorted(cores), is_confined=True)

    bound = [core for seat in seats for core in seat.cpus]
    assert [seat.index for seat in seats] == list(range(slots))
    assert bound == ([] if slots > len(cores) else sorted(cores))
    assert max(len(seat.cpus) for seat in seats) - min(len(seat.cpus) for seat in seats) <= 1


@pytest.mark.parametrize(
    ("cpus", "is_confined"),
    [(8, False), (4, True)],
    ids=["the machine is everybody's", "we were given fewer cores than we may run on"],
)
def test_that_slots_are_not_bound_on_a_shared_machine(cpus, is_confined):
    """All workers of a machine would bind their first slots to the same core."""
    seats = share_out(slots=2, cpus=cpus, available=range(8), is_confined=is_confined)

    assert [seat.cpus for seat in seats] == [(), ()]


@given(slots=st.integers(1, 16), gpus=st.integers(0, 16))
def test_that_every_gpu_is_used_and_no_slot_goes_without(slots, gpus):
    """More slots than gpus take turns; more gpus than slots are shared out."""
    names = tuple(f"GPU-{number}" for number in range(gpus))

    seats = share_out(slots=slots, cpus=slots, available=[], is_confined=False, gpus=names)

    assert {gpu for seat in seats for gpu in seat.gpus} == set(names)
    assert all(seat.gpus for seat in seats) == (gpus > 0)


def test_that_the_batch_systems_gpus_are_used_under_its_names():
    """Slurm and PBS may give devices 2 and 3, or name them by UUID."""
    assert visible_gpus(2, {CUDA: "2,GPU-8a"}) == ("2", "GPU-8a")
    assert visible_gpus(2, {}) == ("0", "1")
    assert visible_gpus(0, {CUDA: "0"}) == ()


@pytest.mark.parametrize(
    ("there", "told"),
    [({}, CUDA), ({CUDA: "2,3", ROCR: "2,3", ZE: "2,3"}, CUDA), ({ROCR: "2,3"}, ROCR), ({CUDA: "", ZE: "2,3"}, ZE)],
)
def test_that_an_attempt_is_told_its_gpus_as_the_batch_system_tells_ours(there, told):
    """In one variable only: AMD's libraries would look for the gpus of one among those of the other."""
    gpus = visible_gpus(2, there)
    seats = share_out(slots=2, cpus=2, available=[], is_confined=False, gpus=gpus)
    environments = [environment_of([seat], chosen=there) for seat in seats]

    assert gpus == (("2", "3") if there else ("0", "1"))
    assert [environment[told] for environment in environments] == list(gpus)
    assert all(set(environment).isdisjoint({CUDA, ROCR, ZE} - {told}) for environment in environments)


@given(slots=st.integers(1, 32), per_slot=st.integers(1, 16), cpus=st.integers(1, 600))
def test_that_an_attempt_gets_the_cpus_it_asks_for_or_is_refused(slots, per_slot, cpus):
    """It holds the fewest seats that have as many cpus together, and is refused only by a worker too small."""
    width = seats_needed(cpus=cpus, gpus=0, slots=slots, worker_cpus=slots * per_slot, worker_gpus=0)

    if cpus > slots * per_slot:
        assert width is None
    else:
        assert (width - 1) * per_slot < cpus <= width * per_slot


def test_that_gpus_count_like_cpus():
    """Two of four gpus are two of four seats; a worker without gpus takes no attempt that wants one."""
    assert seats_needed(cpus=1, gpus=2, slots=4, worker_cpus=4, worker_gpus=4) == 2
    assert seats_needed(cpus=1, gpus=1, slots=4, worker_cpus=4, worker_gpus=2) == 2
    assert seats_needed(cpus=1, gpus=1, slots=4, worker_cpus=4, worker_gpus=0) is None


def test_that_libraries_are_told_how_many_threads_to_start():
    """As many as the seats have cpus together, but never against the user's own setting."""
    seats = (Seat(0, 4, gpus=("0",)), Seat(1, 4, gpus=("0",)))

    environment = environment_of(seats, chosen={"OMP_NUM_THREADS": "1"})

    assert "OMP_NUM_THREADS" not in environment
    assert {environment[name] for name in THREAD_VARIABLES[1:]} == {"8"}
    assert environment[CUDA] == "0"
