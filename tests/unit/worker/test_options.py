"""Laws of a worker's command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.worker.options import WorkerOptions, parse_options

NAMES = st.from_regex(r"[a-z0-9_][a-z0-9_-]{0,20}", fullmatch=True)
OPTIONS = st.builds(
    WorkerOptions,
    run_dir=NAMES.map(lambda name: Path("/runs") / name),
    allocation=NAMES,
    worker_type=NAMES,
    slots=st.integers(1, 512),
    cpus=st.integers(1, 512),
    memory=st.none() | st.integers(1, 2**50),
    gpus=st.integers(0, 16),
    walltime_s=st.none() | st.floats(0, 1e7),
    interface=st.none() | NAMES,
    orphan_grace_s=st.floats(0, 1e6),
)


@given(OPTIONS)
def test_that_the_courier_gets_the_options_its_launcher_got(options):
    """What is written as a command line is read back as an equal value."""
    read = parse_options(options.to_argv())

    assert read == options


@pytest.mark.parametrize("mistake", ["--slots=0", "--cpus=-1", "--walltime=inf", "--orphan-grace=-1", "--slot=2"])
def test_that_a_mistake_ends_with_usage(mistake, capsys):
    """Numbers that make no sense and abbreviations are refused with exit status 2 and the usage line."""
    argv = ["--run-dir=/r", "--allocation=a", "--worker-type=t", "--slots=1", "--cpus=1", mistake]

    with pytest.raises(SystemExit) as caught:
        parse_options(argv)

    assert caught.value.code == 2
    assert "usage: python -m scalable_hpc.worker" in capsys.readouterr().err
