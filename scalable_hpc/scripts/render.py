"""Renders job scripts: ours, or a user's or site admin's of the same name, under the same rules.

A template directory of one's own is searched first. A template in it may extend ours by its full name:
``{% extends "builtin/slurm/worker.sh.j2" %}``.

Rule 1: an unfiltered value, an unknown variable or an unsafe value is a TemplateError with file and line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from scalable_hpc.config.data_files import builtin_directory
from scalable_hpc.config.trust import NOBODY_ELSE, Trust
from scalable_hpc.errors import TemplateError
from scalable_hpc.scripts.context import ScriptContext

_SUFFIX = ".j2"


def render_worker(
    context: ScriptContext,
    *,
    system: str,
    template_dirs: Sequence[Path] = (),
    trust: Trust = NOBODY_ELSE,
    role: str = "worker",
) -> str:
    """Return the job script of one allocation, or of a driver.

    Args:
        context: the allocation.
        role: the template's name: ``worker`` or ``driver``.
        system: the batch system: the folder of the template.
        template_dirs: searched before the built-in templates.
        trust: whose templates are read, besides the user's own and root's.

    Raises:
        SiteError: somebody else could have written a template.
        TemplateError: a template is missing or wrong, or a value is unsafe where it stands.
    """
    import jinja2

    from scalable_hpc.scripts.sandbox import make_environment

    name = f"{system}/{role}.sh.j2"
    try:
        text = make_environment(template_dirs, trust).get_template(name).render(context.variables())
    except jinja2.TemplateNotFound as err:
        looked = ", ".join(f"'{folder}'" for folder in (*template_dirs, builtin_directory("templates")))
        raise TemplateError(f"there is no template '{err.name}' in {looked}") from err
    except jinja2.TemplateSyntaxError as err:
        raise TemplateError(f"{err.filename or err.name}:{err.lineno}: {err.message}") from err
    except jinja2.TemplateError as err:
        raise TemplateError(f"{_place(err.__traceback__) or name}: {err.message}", hint=_hint(err)) from err
    except TemplateError as err:
        raise TemplateError(f"{_place(err.__traceback__) or name}: {err.message}", hint=err.hint) from err
    except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError) as err:
        raise TemplateError(f"{_place(err.__traceback__) or name}: {type(err).__name__}: {err}") from err
    if not text.startswith("#!"):
        raise TemplateError(f"'{name}' does not begin with '#!': {text[:40]!r}")
    return text.rstrip("\n") + "\n"


def _place(traceback: TracebackType | None) -> str | None:
    """Return ``file:line`` of the innermost template in a traceback; Jinja puts its templates' lines there."""
    found = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file.endswith(_SUFFIX):
            found = f"{file}:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return found


def _hint(err: Exception) -> str | None:
    from jinja2 import UndefinedError

    names = ", ".join(
        sorted((*ScriptContext.__dataclass_fields__, "activate", "worker", "placement", "wants_gpus", "workers"))
    )
    return f"a template may use: {names}" if isinstance(err, UndefinedError) else None
