"""The only ways for a value into a job script: each returns Markup, and ``render`` refuses plain text.

Rule 1: a filter either makes a value harmless where it is meant to stand, or raises a TemplateError that quotes it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from scalable_hpc.config.pbs_options import chunk_problem, pbs_option_problem, resource_problem
from scalable_hpc.config.safety import control_problem, directive_problem, option_problem, variable_problem
from scalable_hpc.errors import TemplateError
from scalable_hpc.model.arrays import DIGITS, index_of, trunk

_MIB = 2**20
_ONLY_CODE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
"""Control characters other than tab and newline: shell code has no use for them."""
_BREAKS_QUOTES = re.compile(r"[\"\\]")
_SPLITS = re.compile(r"[\s'#;:]")
"""What Slurm's own reading of a directive line would split or cut at outside double quotes."""


def shell(value: object) -> Markup:
    """One word of a shell command, whatever it holds."""
    return Markup(_quoted(value))  # noqa: S704


def command(words: Iterable[object]) -> Markup:
    """A whole command, one option to a line."""
    lines: list[str] = []
    for word in map(_one_line, words):
        if lines and not word.startswith("--"):
            lines[-1] += f" {_quoted(word)}"
        else:
            lines.append(_quoted(word))
    if not lines:
        raise TemplateError("an empty list of words cannot be run")
    return Markup(" \\\n  ".join(lines))  # noqa: S704


def words(values: Iterable[object]) -> Markup:
    """Several words of a shell command."""
    return Markup(" ".join(_quoted(value) for value in values))  # noqa: S704


def code(value: object) -> Markup:
    """Shell code that its owner wrote to be run; only what no editor shows is refused."""
    text = _text(value)
    if _ONLY_CODE.search(text):
        raise _refusal(value, "holds a control character")
    return Markup(text.rstrip())  # noqa: S704


def variable(value: object) -> Markup:
    """The name of an environment variable."""
    text = _text(value)
    if problem := variable_problem(text):
        raise _refusal(value, problem)
    return Markup(text)  # noqa: S704


def path(value: object) -> Markup:
    """An absolute path as one word of a shell command."""
    return shell(_absolute(value))


def line(value: object) -> Markup:
    """The rest of a comment line that nobody splits (``#LOCAL key=value``)."""
    text = _one_line(value)
    if text != text.strip():
        raise _refusal(value, "begins or ends with a space")
    return Markup(text)  # noqa: S704


def path_line(value: object) -> Markup:
    """An absolute path as the rest of a comment line; ``%`` would be taken for a pattern."""
    if "%" in _absolute(value):
        raise _refusal(value, "holds '%', which stands for the job's id there")
    return line(value)


def directive(value: object) -> Markup:
    """A name, a number or an expression in a directive line: one word without quotes."""
    text = _text(value)
    if problem := directive_problem(text):
        raise _refusal(value, problem)
    return Markup(text)  # noqa: S704


def directive_text(value: object) -> Markup:
    """Text in a directive line, in double quotes where it must be."""
    text = _one_line(value)
    if _BREAKS_QUOTES.search(text):
        raise _refusal(value, "holds a double quote or a backslash")
    if not text or text.startswith("-"):
        raise _refusal(value, "is empty, or starts with a dash")
    return Markup(f'"{text}"' if _SPLITS.search(text) else text)  # noqa: S704


def directive_path(value: object) -> Markup:
    """An absolute path in a directive line; ``%`` is doubled, since Slurm reads patterns in file names."""
    return directive_text(_absolute(value).replace("%", "%%"))


def indices(values: Iterable[object]) -> Markup:
    """Allocations by their indices in an array, ``4-7``; alike in the rest of their names, and one after the other."""
    found = [index_of(str(directive(value))) for value in values]
    if found != list(range(found[0], found[0] + len(found))):
        raise _refusal(values, "is not a list of allocations one after the other")
    return Markup(f"{found[0]}-{found[-1]}")  # noqa: S704


def member_path(value: object) -> Markup:
    """The path of an allocation's file in a directive line, which each member of an array reads as its own."""
    whole = Path(_absolute(value))
    own = f"{trunk(whole.stem)}%{DIGITS}a{whole.suffix}"
    return directive_text(str(whole.parent).replace("%", "%%") + f"/{own}")


def names(values: Iterable[object]) -> Markup:
    """Names joined by commas, in a directive line."""
    return Markup(",".join(str(directive(value)) for value in values))  # noqa: S704


def common(value: object) -> Markup:
    """What the names of an array's allocations have in common, of one of them: a word of a shell command."""
    return shell(trunk(_text(value)))


def option(value: object) -> Markup:
    """One more option of sbatch, as its owner wrote it."""
    text = _text(value)
    if problem := option_problem(text):
        raise _refusal(value, problem)
    return Markup(text)  # noqa: S704


def pbs_option(value: object) -> Markup:
    """One more option of qsub, as its owner wrote it."""
    text = _text(value)
    if problem := pbs_option_problem(text):
        raise _refusal(value, problem)
    return Markup(text)  # noqa: S704


def resource(value: object) -> Markup:
    """``name=value``, a resource of a whole PBS job."""
    text = _text(value)
    if problem := resource_problem(text):
        raise _refusal(value, problem)
    return Markup(text)  # noqa: S704


def chunks(values: Iterable[object]) -> Markup:
    """Resources of each node, each with the colon that puts it into PBS's select statement."""
    texts = [_text(value) for value in values]
    for text in texts:
        if problem := chunk_problem(text):
            raise _refusal(text, problem)
    return Markup("".join(f":{text}" for text in texts))  # noqa: S704


def walltime(value: object) -> Markup:
    """Seconds as ``D-HH:MM:SS``, which Slurm cannot take for anything else; rounded up."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise _refusal(value, "is not a number of seconds")
    days, rest = divmod(-int(-value // 1), 86400)
    return Markup(f"{days}-{rest // 3600:02d}:{rest % 3600 // 60:02d}:{rest % 60:02d}")  # noqa: S704


def hours(value: object) -> Markup:
    """Seconds as ``HH:MM:SS``, with as many hours as there are; rounded up."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise _refusal(value, "is not a number of seconds")
    whole = -int(-value // 1)
    return Markup(f"{whole // 3600:02d}:{whole % 3600 // 60:02d}:{whole % 60:02d}")  # noqa: S704


def mb(value: object) -> Markup:
    """Bytes as PBS's ``512mb`` (mebibytes); rounded up."""
    return Markup(mib(value).replace("M", "mb"))  # noqa: S704


def mib(value: object) -> Markup:
    """Bytes as mebibytes, ``"512M"``; rounded up."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise _refusal(value, "is not a number of bytes")
    return Markup(f"{-(-value // _MIB)}M")  # noqa: S704


FILTERS: Mapping[str, Callable[..., Any]] = {
    one.__name__: one
    for one in (
        *(shell, command, words, code, variable, path),
        *(line, path_line, directive, directive_text, directive_path, names, option, walltime, mib),
        *(indices, member_path, common),
        *(pbs_option, resource, chunks, hours, mb),
    )
}


def _text(value: object) -> str:
    if value is None:
        raise TemplateError("a value is missing: it is None")
    return str(value)


def _quoted(value: object) -> str:
    return shlex.quote(_one_line(value))


def _one_line(value: object) -> str:
    text = _text(value)
    if problem := control_problem(text):
        raise _refusal(value, problem)
    return text


def _absolute(value: object) -> str:
    text = _one_line(value)
    if not text.startswith("/"):
        raise _refusal(value, "is not an absolute path")
    return text


def _refusal(value: object, problem: str) -> TemplateError:
    return TemplateError(f"{str(value)!r} {problem}")
