"""The Jinja environment of job scripts: what no filter has made harmless cannot reach a script.

Filters return Markup, and only Markup and numbers are written. What was filtered is finished: it cannot be joined,
cut or formatted any more, since a piece added afterwards would be one that no filter has seen.

Rule 1: Markup has nothing to do with HTML here; it is the mark of a value that a filter has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.loaders import split_template_path
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from scalable_hpc.config.data_files import builtin_directory
from scalable_hpc.config.trust import NOBODY_ELSE, Trust, read_trusted
from scalable_hpc.errors import TemplateError
from scalable_hpc.scripts.filters import FILTERS

_FINISHED = "filtered text is finished: put it together first, then filter it"


class _Generator(CodeGenerator):
    """Compiles templates, but for two things that would pass the checks below: ``~`` and slices."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> NoReturn:  # noqa: N802, ARG002  (Jinja's name)
        self.fail("'~' is not to be had here: join text with '+', then filter it", node.lineno)

    def visit_Slice(self, node: nodes.Slice, frame: Frame) -> NoReturn:  # noqa: N802, ARG002  (Jinja's name)
        self.fail("a slice is not to be had here: take a whole value, then filter it", node.lineno)


class ScriptEnvironment(ImmutableSandboxedEnvironment):
    """Strict, sandboxed, and closed to unfiltered values."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "%", "*"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        """Compute ``left operator right``; refuse filtered text."""
        if isinstance(left, Markup) or isinstance(right, Markup):
            raise TemplateError(_FINISHED)
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse every method of filtered text."""
        return not isinstance(obj, Markup) and super().is_safe_attribute(obj, attr, value)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Refuse pieces of filtered text."""
        if isinstance(obj, Markup):
            raise TemplateError(_FINISHED)
        return super().getitem(obj, argument)


class TrustedLoader(jinja2.FileSystemLoader):
    """Loads templates that only trusted people can have written."""

    def __init__(self, folders: Sequence[Path], trust: Trust) -> None:
        super().__init__(list(folders))
        self._trust = trust

    def get_source(
        self,
        environment: jinja2.Environment,  # noqa: ARG002  (Jinja's signature)
        template: str,
    ) -> tuple[str, str, Callable[[], bool]]:
        """Return a template's text; Jinja's own reading is not used, since it does not look whose file it reads.

        Raises:
            SiteError: somebody else could have written it.
        """
        pieces = split_template_path(template)
        for folder in self.searchpath:
            path = Path(folder, *pieces)
            if path.is_file():
                return read_trusted(path, self._trust), str(path), lambda: True
        raise jinja2.TemplateNotFound(template)


def make_environment(template_dirs: Sequence[Path] = (), trust: Trust = NOBODY_ELSE) -> ScriptEnvironment:
    """Return the environment: directories of one's own first, then ours, which are also ``builtin/...``."""
    ours = jinja2.FileSystemLoader(builtin_directory("templates"))
    environment = ScriptEnvironment(
        loader=jinja2.ChoiceLoader([TrustedLoader(template_dirs, trust), ours, jinja2.PrefixLoader({"builtin": ours})]),
        undefined=jinja2.StrictUndefined,
        autoescape=True,  # makes blocks, macros and super() Markup, so that only loose values are not
        finalize=_only_filtered,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.clear()
    environment.filters.update(FILTERS)
    return environment


def _only_filtered(value: object) -> object:
    """Let through what a filter made, and numbers."""
    if isinstance(value, jinja2.Undefined):
        str(value)  # a strict one raises, naming the variable
    if isinstance(value, Markup) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    raise TemplateError(f"{str(value)!r} reaches the script without a filter", hint="{{ value | shell }}")
