from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scalable_hpc.errors import TemplateError
from scalable_hpc.scripts import filters

LINES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=30)
HOSTILE = ["a\nb", "\r", "a\x00", "\x1b]0;x\x07", "a\u2028b"]


@given(LINES)
@example("$(touch x)")
@example("`touch x`")
@example("-rf")
@example("'; touch x; '")
def test_that_a_shell_word_is_read_back_as_it_was(text):
    """One word, whatever it holds."""
    assert shlex.split(filters.shell(text)) == [text]


@settings(max_examples=25)
@given(LINES)
def test_that_bash_itself_reads_back_what_was_quoted(text):
    """Not only Python's idea of a shell."""
    answer = subprocess.run(["bash", "-c", f"printf %s {filters.shell(text)}"], capture_output=True, check=True)

    assert answer.stdout.decode() == text


@given(st.lists(LINES, min_size=1, max_size=5))
def test_that_a_command_over_several_lines_is_the_same_words(words):
    """Line breaks are escaped, words are not changed."""
    assert shlex.split(filters.command(words).replace("\\\n", "")) == words
    assert shlex.split(filters.words(words)) == words


def test_that_a_command_puts_each_option_on_a_line():
    """Scripts are read by people."""
    assert filters.command(["python", "-m", "x", "--a", "1", "--b=2"]) == "python -m x \\\n  --a 1 \\\n  --b=2"


def test_that_an_empty_command_is_refused():
    """``exec`` alone would do nothing and say so to nobody."""
    with pytest.raises(TemplateError):
        filters.command([])


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    "name",
    ["shell", "path", "line", "path_line", "directive", "directive_text", "directive_path", "variable", "option"],
)
def test_that_a_line_break_is_refused_everywhere_but_in_code(name, text):
    """With the value, escaped, in the message."""
    with pytest.raises(TemplateError) as caught:
        filters.FILTERS[name](f"/{text}")

    assert repr(f"/{text}") in str(caught.value)


@pytest.mark.parametrize("text", ["-x", "a b", "a;b", "$(x)", "`x`", "a'b", 'a"b', "a#b", "a\\b", "", "a>b"])
def test_that_a_directive_is_one_plain_word(text):
    """What Slurm would split, cut or take for an option is refused."""
    with pytest.raises(TemplateError):
        filters.directive(text)


@given(LINES)
def test_that_text_in_a_directive_stands_in_quotes_or_needs_none(text):
    """Or is refused."""
    try:
        shown = str(filters.directive_text(text))
    except TemplateError:
        assert not text or text[0] == "-" or {'"', "\\"} & set(text)
    else:
        quoted = shown == f'"{text}"' and '"' not in text
        assert quoted or (shown == text and not set(text) & set(" \t'#;:"))


def test_that_a_percent_sign_in_a_slurm_path_is_doubled():
    """``%j`` in a directory's name is no pattern."""
    assert filters.directive_path("/a%j/b c") == '"/a%%j/b c"'


@pytest.mark.parametrize("name", ["path", "path_line", "directive_path"])
@pytest.mark.parametrize("text", ["a/b", "-x", "~/a", "", "$HOME/a"])
def test_that_a_path_must_be_absolute(name, text):
    """A relative one would depend on where the job happens to start."""
    with pytest.raises(TemplateError, match="absolute"):
        filters.FILTERS[name](text)


@pytest.mark.parametrize("text", [" a", "a ", "a\tb"])
def test_that_blanks_at_the_ends_of_a_line_are_refused(text):
    """A reader of ``key=value`` lines strips them."""
    with pytest.raises(TemplateError):
        filters.line(text)


def test_that_code_keeps_its_lines_and_loses_only_the_last_break():
    """It is the owner's."""
    assert filters.code("if true; then\n\techo\nfi\n\n") == "if true; then\n\techo\nfi"
    with pytest.raises(TemplateError):
        filters.code("a\x00b")


@pytest.mark.parametrize("text", ["1A", "A=B", "A B", "", "A-B", "A;x"])
def test_that_only_a_name_can_be_exported(text):
    """Anything else would be a word of its own."""
    with pytest.raises(TemplateError, match="variable name"):
        filters.variable(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "0-00:00:01"), (59.2, "0-00:01:00"), (3600, "0-01:00:00"), (86_399, "0-23:59:59"), (200_000, "2-07:33:20")],
)
def test_that_a_walltime_is_written_in_full(seconds, text):
    """Days, hours, minutes and seconds leave nothing to guess; rounded up."""
    assert filters.walltime(seconds) == text


@given(st.integers(1, 10**8))
def test_that_a_walltime_is_worth_its_seconds(seconds):
    """Read back, it is the same time."""
    days, clock = str(filters.walltime(seconds)).split("-")
    hours, minutes, rest = map(int, clock.split(":"))

    assert int(days) * 86_400 + hours * 3600 + minutes * 60 + rest == seconds
    assert hours < 24


@pytest.mark.parametrize("value", [0, -1, "60", None, True, float("nan"), float("inf")])
def test_that_what_is_no_time_or_size_is_refused(value):
    """Text of a time has been made seconds long before."""
    with pytest.raises(TemplateError):
        filters.walltime(value)
    with pytest.raises(TemplateError):
        filters.mib(value)


@pytest.mark.parametrize(("size", "text"), [(1, "1M"), (2**20, "1M"), (2**20 + 1, "2M"), (64 * 2**30, "65536M")])
def test_that_memory_is_rounded_up_to_mebibytes(size, text):
    """Never less than what was asked for."""
    assert filters.mib(size) == text


def test_that_a_missing_value_is_told():
    """``None`` never becomes the word None."""
    with pytest.raises(TemplateError, match="missing"):
        filters.shell(None)


def test_that_names_are_joined_by_commas():
    """Each of them a plain word."""
    assert filters.names(["n1", "n[2-3]"]) == "n1,n[2-3]"
    with pytest.raises(TemplateError):
        filters.names(["n1", "n 2"])
