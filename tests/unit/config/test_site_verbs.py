from __future__ import annotations

import json
import os
from pathlib import Path
from textwrap import dedent

import pytest

from scalable_hpc.batch import survey
from scalable_hpc.batch.machine import MachineSeen, QueueSeen
from scalable_hpc.cli import main
from scalable_hpc.config import surroundings
from scalable_hpc.config.site import ADMIN, Place, read_site
from scalable_hpc.errors import BatchSilent, MissingCommandError, SiteError

JUNIPER = """\
batch: slurm
description: an imaginary cluster
partitions:
  standard: {default: true, walltime: 1d, nodes: 128, cpus: 64, memory: 240G, gpus: 0}
detect: {hostnames: ["login*.juniper.example"]}
partition: standard
lead: 5m
"""


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """A home, an admin's directory and a project of nobody else's, on a host without signs."""
    for name in ("home/.config/scalable_hpc/sites", "etc/sites", "project/site-configs"):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        folder.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("SCALABLE_HPC_SITE_DIR", str(tmp_path / "etc"))
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(surroundings, "hostnames", lambda: ("desk",))
    monkeypatch.setattr(survey, "batch_here", lambda: None)
    return tmp_path


def write(file: Path, text: str) -> Path:
    file.write_text(dedent(text))
    file.chmod(0o644)
    return file


def test_that_the_list_names_every_site_with_its_layers(world, capsys):
    """Those of the package, the admin, the user and the project; a broken one with what is wrong."""
    write(world / "etc" / "sites" / "juniper.yaml", JUNIPER)
    write(world / "project" / "site-configs" / "juniper.yaml", "lead: 1m\n")
    write(world / "home" / ".config" / "scalable_hpc" / "sites" / "oak.yaml", "partitions: 7\n")

    assert main(["site", "list"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert {"SITE", "juniper", "oak", "perlmutter", "frontier", "pbs-generic", "local"} <= set(rows)
    assert rows["juniper"].split(maxsplit=4)[1:] == ["slurm", "admin,", "project", "an imaginary cluster"]
    assert "must be a mapping" in rows["oak"]


def test_that_a_site_is_shown_value_by_value_with_its_layer(world, capsys):
    """And what each value is laid over."""
    write(world / "etc" / "sites" / "juniper.yaml", JUNIPER)
    write(world / "project" / "site-configs" / "juniper.yaml", "partitions: {standard: {walltime: 2h}}\nlead: 1m\n")

    assert main(["site", "show", "juniper", "--layers"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    admin = f"admin: {world}/etc/sites/juniper.yaml"
    assert lines["partitions.standard.nodes"].endswith(f"128  [{admin}:4]")
    assert lines["partitions.standard.walltime"].endswith(
        f"2h  [project: site-configs/juniper.yaml:1], over 1d [{admin}:4]"
    )
    assert "1m  [project: site-configs/juniper.yaml:2], over 5m" in lines["lead"]
    assert lines["lead"].endswith("over 2m [builtin: site-configs/defaults.yaml:10]")


@pytest.mark.parametrize("name", ["juniper", "perlmutter", "frontier", "polaris", "gadi", "slurm-generic"])
def test_that_what_is_shown_is_a_site_config_that_says_the_same(world, capsys, name):
    """It can be saved and changed."""
    write(world / "etc" / "sites" / "juniper.yaml", JUNIPER + 'setup: "echo $${HOME} \'a b\' \\"c\\""\n')
    main(["site", "show", name])
    text = capsys.readouterr().out
    folder = world / "copy"
    folder.mkdir(mode=0o755)
    write(folder / f"{name}.yaml", text)
    from scalable_hpc.config.site import places

    original = read_site(name, None, places(Path.cwd(), os.environ), os.environ)
    copy = read_site(name, None, [Place(folder, "copy", ADMIN)], os.environ)
    assert copy.facts == original.facts
    assert main(["site", "check", str(folder / f"{name}.yaml")]) == 0


CONTRADICTIONS = {
    "two defaults": ("partitions: {a: {default: true}, b: {default: true}}", "several are the default: a, b"),
    "no such partition": ("partition: c\npartitions: {long: {}}", "'c' is none of the partitions"),
    "nodes": ("partitions: {a: {nodes: 2, least_nodes: 3}}", "3 is more than nodes, 2"),
    "bins shrink": (
        "partitions: {a: {bins: [{nodes: 4, walltime: 1h}, {nodes: 2, walltime: 2h}]}}", "2 nodes come after 4",
    ),
    "bin too long": ("partitions: {a: {walltime: 1h, bins: [{nodes: 4, walltime: 2h}]}}", "02:00:00 is longer"),
    "source": ("sources: [{url: x, read: 2026-11-22, facts: [jobs]}]", "says nothing of 'jobs'"),
}  # fmt: skip


@pytest.mark.parametrize("text", CONTRADICTIONS)
def test_that_contradictions_are_found_with_their_line(world, capsys, text):
    """Each key may be right by itself."""
    file = write(world / "x.yaml", "batch: slurm\n" + CONTRADICTIONS[text][0] + "\n")

    assert main(["site", "check", str(file)]) == SiteError.exit_code
    err = capsys.readouterr().err
    assert CONTRADICTIONS[text][1] in err
    assert f"{file}:2: " in err


def test_that_a_misspelt_key_and_a_foreign_writer_are_refused(world, capsys):
    """With the key that was meant; and the file's mode."""
    file = write(world / "x.yaml", "batch: slurm\npartitons: {}\n")
    assert main(["site", "check", str(file)]) == SiteError.exit_code
    assert "partitions" in capsys.readouterr().err

    write(file, JUNIPER).chmod(0o666)
    assert main(["site", "check", str(file)]) == SiteError.exit_code
    assert "can be written by everybody" in capsys.readouterr().err


def test_that_a_check_says_what_it_cannot_know(world, capsys):
    """Silence about a limit is no limit, and said to be none."""
    file = write(world / "x.yaml", "batch: slurm\npartitions: {a: {cpus: 4}}\n")

    assert main(["site", "check", str(file)]) == 0
    err = capsys.readouterr().err
    assert "not checked: partitions: walltime of a" in err
    assert "never find this machine" in err


@pytest.mark.parametrize(
    ("hosts", "batch", "name"),
    [
        (("login1.juniper.example",), "slurm", "juniper"),
        (("desk",), "slurm", "slurm-generic"),
        (("desk",), "pbs", "pbs-generic"),
        (("desk",), None, "local"),
    ],
)
def test_that_this_machine_is_told_by_name(world, capsys, monkeypatch, hosts, batch, name):
    """One word on stdout, for scripts; why, on stderr."""
    write(world / "etc" / "sites" / "juniper.yaml", JUNIPER)
    write(world / "etc" / "sites" / "oak.yaml", "partitions: 7\n")
    monkeypatch.setattr(surroundings, "hostnames", lambda: hosts)
    monkeypatch.setattr(survey, "batch_here", lambda: batch)

    assert main(["site", "detect"]) == 0
    told = capsys.readouterr()
    assert told.out == f"{name}\n"
    assert "site 'oak' is left out" in told.err


def test_that_two_sites_with_the_same_signs_are_an_error(world, capsys, monkeypatch):
    """Both are named."""
    for name in ("juniper", "oak"):
        write(world / "etc" / "sites" / f"{name}.yaml", JUNIPER)
    monkeypatch.setattr(surroundings, "hostnames", lambda: ("login1.juniper.example",))

    assert main(["site", "detect"]) == SiteError.exit_code
    told = capsys.readouterr()
    assert told.out == ""
    assert "juniper: hostname" in told.err
    assert "oak: hostname" in told.err


def test_that_a_draft_never_takes_the_place_of_a_file(world, capsys, monkeypatch):
    """What an admin has corrected is not lost; nor is anything written outside of the named file."""
    machine = MachineSeen("slurm", "larch", "24.05", (QueueSeen("standard", is_default=True),))
    monkeypatch.setattr(survey, "batch_here", lambda: "slurm")
    monkeypatch.setattr(survey, "survey", lambda _: machine)

    assert main(["site", "new", "--output", "larch.yaml", "--name", "larch-2"]) == 0
    assert "# Draft for larch-2, from what Slurm 24.05 said" in Path("larch.yaml").read_text()
    assert main(["site", "new", "--output", "larch.yaml"]) == SiteError.exit_code
    assert main(["site", "new", "--name", "../x"]) == SiteError.exit_code
    assert "File exists" in capsys.readouterr().err


def test_that_a_draft_needs_a_batch_system(world, capsys):
    """Which is looked for on PATH."""
    assert main(["site", "new"]) == MissingCommandError.exit_code
    assert "neither 'scontrol' nor 'qstat'" in capsys.readouterr().err


def test_that_the_schema_is_json(world, capsys):
    """For editors."""
    assert main(["site", "schema"]) == 0
    assert "partitions" in json.loads(capsys.readouterr().out)["properties"]


def test_that_render_shows_the_layer_of_each_value_beside_the_script(world, capsys):
    """On stderr, so that the script can be piped; with values from the admin, the manifest and the command line."""
    write(world / "etc" / "sites" / "juniper.yaml", JUNIPER)
    manifest = "version: 1\ntargets: {c: {provider: slurm, site: juniper}}\ncomponents: {work: {cpus: 1}}\n"
    write(world / "project" / "scalable.yaml", manifest)

    assert main(["render", "--layers"]) == 0
    told = capsys.readouterr()
    lines = {line.split()[0]: line for line in told.err.splitlines() if line.startswith("  ")}
    assert told.out.startswith("#!/bin/bash\n#SBATCH ")
    assert "settings, and who set them" not in told.out
    assert lines["target.partition"].endswith(f"standard  [admin: {world}/etc/sites/juniper.yaml:6]")
    assert lines["target.lead"].split(maxsplit=1)[1].startswith("300 s  [admin: ")
    assert lines["components.work.cpus"].endswith("1  [project: scalable.yaml:3]")


def commands(folder: Path, **says: str) -> None:
    """Put commands on a PATH of their own that print a text, or run a line of shell."""
    folder.mkdir()
    for name, line in says.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)


def test_that_a_live_pbs_is_asked_by_its_own_commands(world, capsys, monkeypatch):
    """What a real PBS answered once, through the commands' own names and arguments."""
    transcripts = Path(__file__).parents[2] / "transcripts" / "pbs"
    commands(
        world / "bin",
        qmgr=f'[[ "$*" == "-c print server" ]] && cat {transcripts}/qmgr-print-server.txt',
        pbsnodes=f'[[ "$*" == "-a" ]] && cat {transcripts}/11-pbsnodes.txt',
        qstat='[[ "$*" == "--version" ]] && echo "pbs_version = 22.05.11"',
    )
    monkeypatch.setenv("PATH", f"{world / 'bin'}:/usr/bin:/bin")

    assert main(["site", "new", "--batch", "pbs", "--name", "pine", "--output", "pine.yaml"]) == 0
    text = Path("pine.yaml").read_text()
    assert "from what PBS 22.05.11 said" in text
    assert "queues:" in text
    assert "No answer" not in text
    assert main(["site", "check", "pine.yaml"]) == 0


def test_that_a_pbs_whose_qmgr_is_not_for_users_is_asked_by_what_is(world, capsys, monkeypatch):
    """``qstat -Qf`` and ``-Bf`` say the same of its queues, and every user may ask them."""
    transcript = Path(__file__).parents[2] / "transcripts" / "pbs" / "03-qstat-forms.txt"

    def answer(option: str) -> str:
        """Print what stands in the transcript between the command and its errors."""
        return f"sed -n '/\\$ qstat {option}$/,/^--- stderr/p' {transcript} | sed '1,2d;$d'"

    commands(
        world / "bin",
        qmgr="echo 'qmgr: Unauthorized Request' >&2; exit 1",
        qstat=f'case "$*" in -Qf) {answer("-Qf")};; -Bf) {answer("-Bf")};; *) exit 1;; esac',
    )
    monkeypatch.setenv("PATH", f"{world / 'bin'}:/usr/bin:/bin")

    assert main(["site", "new", "--batch", "pbs", "--name", "pine", "--output", "pine.yaml"]) == 0
    text = Path("pine.yaml").read_text()
    assert 'short: {walltime: "00:02:00"' in text
    assert "# it is not enabled: " in text
    assert main(["site", "check", "pine.yaml"]) == 0


def test_that_a_command_without_an_answer_is_told(world, capsys, monkeypatch):
    """The one without which nothing is known is an error with its words; another, a line of the draft."""
    commands(world / "bin", qmgr="echo 'cannot connect to server' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{world / 'bin'}:/usr/bin:/bin")
    assert main(["site", "new", "--batch", "pbs"]) == BatchSilent.exit_code
    assert "cannot connect to server" in capsys.readouterr().err

    (world / "bin" / "qmgr").write_text("#!/bin/bash\necho 'create queue workq'\n")
    assert main(["site", "new", "--batch", "pbs"]) == 0
    assert "# No answer from 'pbsnodes -a'" in capsys.readouterr().out
