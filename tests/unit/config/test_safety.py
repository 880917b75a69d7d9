from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable_hpc.config.safety import control_problem, directive_problem, option_problem, variable_problem
from scalable_hpc.errors import ManifestError, SiteError
from tests.manifest_files import LOCAL


@given(st.text(max_size=40))
def test_that_what_may_stand_in_a_directive_is_one_plain_word(text):
    """No blank, no quote, no line break, no dash in front: Slurm's splitting and a shell leave it in one piece."""
    if directive_problem(text) is None:
        assert text.split() == [text]
        assert not set(text) & set("\"'\\$`;#<>~{}")
        assert not text.startswith("-")


@pytest.mark.parametrize("text", ["batch", "gpu:a100:2", "[rack1|rack2]&ib", "n[001-004],n9", "/a/b_c.d", "0123"])
def test_that_names_lists_and_expressions_may_stand_in_a_directive(text):
    """What partitions, gres and constraints are made of."""
    assert directive_problem(text) is None


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x00b", "\x1b[0m", "a\u2028b", "a\x85b"])
def test_that_a_line_break_of_any_kind_is_told(text):
    """One line stays one line."""
    assert control_problem(text) is not None


@pytest.mark.parametrize("name", ["A", "_x1", "OMP_NUM_THREADS"])
def test_that_names_of_variables_are_those_of_the_shell(name):
    """bash itself takes them."""
    assert variable_problem(name) is None
    assert subprocess.run(["bash", "-c", f"export {name}=1"], check=False).returncode == 0


@pytest.mark.parametrize("name", ["", "1A", "A-B", "A B", "A=B", "Ä", "A\n"])
def test_that_other_names_are_refused(name):
    """They would be words of their own in the script."""
    assert variable_problem(name) is not None


@pytest.mark.parametrize("line", ["--mail-type=END", "--nice 5", "-H", "--get-user-env"])
def test_that_options_of_the_users_own_are_taken(line):
    """The batch system knows more of them than we do."""
    assert option_problem(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "--time=1:00",
        "-t 60",
        "-pdebug",
        "--job-name=x",
        "-J x",
        "--signal=B:TERM@60",
        "--wait",
        "-W",
        "--licenses=a",
        "-Mc2",
    ],
)
def test_that_options_that_are_ours_are_refused_with_what_to_write_instead(line):
    """Two different words for one thing end in surprises."""
    assert "which is ours" in option_problem(line)


@pytest.mark.parametrize("line", ["mail", "", "--a\n#SBATCH -p x", "-", "--", "echo hi"])
def test_that_what_is_no_option_is_refused(line):
    """It would be read as something else."""
    assert option_problem(line) is not None


HOSTILE_VALUES = ["a; touch pwned", "$(touch pwned)", "`touch pwned`", "a b", "'", '"', "a\nb", "\\", "&", ">x"]


@pytest.mark.parametrize("value", HOSTILE_VALUES)
@pytest.mark.parametrize("setup", ["'cd ${WHERE}'", "[ls, 'cd ${WHERE:-/}']", "'cd \"${WHERE}\"'"])
def test_that_no_variable_becomes_shell_code(desk, value, setup):
    """In the manifest as in a site config; the refusal names the variable and says how to have the shell read it."""
    desk.environ["WHERE"] = value
    with pytest.raises(ManifestError, match="the variable 'WHERE'") as caught:
        desk.load(LOCAL + f"        setup: {setup}\n")
    assert "$${WHERE}" in str(caught.value) or "\n" in value

    desk.write(f"batch: local\nsetup: {setup}\n", "site-configs/juniper.yaml")
    with pytest.raises(SiteError, match="the variable 'WHERE'"):
        desk.load(LOCAL + "        site: juniper\n")


def test_that_a_plain_word_of_a_variable_may_stand_in_code(desk):
    """And ``$${VAR}`` is left to the shell of the job, whatever it holds."""
    desk.environ.update(WHERE="/scratch/me-1", EVIL="$(touch pwned)")
    found = desk.load(LOCAL + "        setup: ['cd ${WHERE}', 'echo \"$${EVIL}\"']\n")

    assert found.target.setup == ("cd /scratch/me-1", 'echo "${EVIL}"')


@pytest.mark.parametrize("key", ["partition", "account", "venv", "conda", "node_local", "python", "image"])
def test_that_no_variable_brings_a_line_break(desk, key):
    """Wherever it is used."""
    desk.environ["EVIL"] = "x\n#SBATCH --uid=0"
    tail = "    components: {a: {image: '${EVIL}'}}\n" if key == "image" else f"        {key}: '${{EVIL}}'\n"

    with pytest.raises(ManifestError, match="the variable 'EVIL' holds a line break"):
        desk.load(LOCAL.replace("provider: local", "provider: slurm") + tail)
