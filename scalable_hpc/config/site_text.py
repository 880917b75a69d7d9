"""A site as people read it: as one YAML file, or value by value with the layer of each; pure.

Rule 1: what is shown as YAML can be saved as a site config and says the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import reduce
from typing import Any

from scalable_hpc.config.issues import Mark
from scalable_hpc.config.settings import as_written
from scalable_hpc.config.site import SiteRead
from scalable_hpc.config.yaml_lines import Items, Section, mark_at, merge, value_at, walk

_PLAIN = re.compile(r"[A-Za-z0-9/][A-Za-z0-9_./-]*")
_WORDS_OF_YAML = {"y", "n", "yes", "no", "on", "off", "null"}
_WIDEST = 110


def as_yaml(site: SiteRead) -> str:
    """Return the site as one file."""
    return "\n".join(_block(_whole(site), "")) + "\n"


def by_layer(site: SiteRead) -> list[str]:
    """Return one line for each value: its layer and line, and the values that it takes the place of."""
    whole = _whole(site)
    keys: list[tuple[str, ...]] = []
    walk(whole, lambda where, _: keys.append(where))
    width = max((len(".".join(where)) for where in keys), default=0)
    return [f"{'.'.join(where):{width}}  {_told(where, whole, site)}" for where in sorted(keys)]


def _whole(site: SiteRead) -> Section:
    return reduce(merge, (file.tree for file in site.files), Section(Mark("default", None)))


def _told(where: tuple[str, ...], whole: Section, site: SiteRead) -> str:
    mark = str(mark_at(whole, where)).removeprefix("built-in ")
    said = [
        (f"{file.layer}: {mark_at(file.tree, where)}".replace(": built-in ", ": "), as_written(value))
        for file in site.files
        if (value := value_at(file.tree, where)) is not None
    ]
    under = "".join(f", over {value} [{layer}]" for layer, value in reversed(said) if not layer.endswith(f": {mark}"))
    layer = next((layer for layer, _ in said if layer.endswith(f": {mark}")), mark)
    return f"{as_written(value_at(whole, where))}  [{layer}]{under}"


def _block(tree: Section, indent: str) -> Iterator[str]:
    for key, value in tree.items():
        short = f"{indent}{_text(key)}: {_flow(value)}"
        if isinstance(value, Section) and value and len(short) > _WIDEST:
            yield f"{indent}{_text(key)}:"
            yield from _block(value, indent + "  ")
        elif isinstance(value, Items) and value and len(short) > _WIDEST:
            yield f"{indent}{_text(key)}:"
            yield from (f"{indent}  - {_flow(item)}" for item in value)
        else:
            yield short


def _flow(value: Any) -> str:
    if isinstance(value, Section):
        return f"{{{', '.join(f'{_text(key)}: {_flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, Items):
        return f"[{', '.join(map(_flow, value))}]"
    return "null" if value is None else _text(str(value)).replace("${", "$${")


def _text(word: str) -> str:
    return word if _PLAIN.fullmatch(word) and word.lower() not in _WORDS_OF_YAML else json.dumps(word)
