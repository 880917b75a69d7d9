"""Site configs: what is true of one machine, read from every place that may speak of it.

A place holds ``defaults.yaml`` (for every machine) and one file per site. Lowest first: those that come with the
package, ``/etc/scalable_hpc/sites``, ``~/.config/scalable_hpc/sites``, ``site-configs/`` beside the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scalable_hpc.config.check import check, nearest, one_of
from scalable_hpc.config.data_files import builtin_directory
from scalable_hpc.config.issues import error_for
from scalable_hpc.config.normal import normalise
from scalable_hpc.config.yaml_lines import Section, YamlProblem, parse_yaml
from scalable_hpc.errors import SiteError

ADMIN_DIRECTORY = Path("/etc/scalable_hpc")
DEFAULTS = "defaults"
SITE_OF_PROVIDER = {"local": "local", "slurm": "slurm-generic"}
"""Which site a target means that names none."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of site configs, and how its files are called in messages and sources."""

    folder: Path
    shown: str


def user_directory(environ: Mapping[str, str]) -> Path | None:
    """Return ``~/.config/scalable_hpc`` (XDG), or None where there is no home."""
    if configured := environ.get("XDG_CONFIG_HOME"):
        return Path(configured) / "scalable_hpc"
    home = environ.get("HOME")
    return Path(home) / ".config" / "scalable_hpc" if home else None


def places(base_dir: Path, environ: Mapping[str, str]) -> tuple[Place, ...]:
    """Return the places of site configs, lowest layer first."""
    builtin = builtin_directory("site-configs")
    user = user_directory(environ)
    project = base_dir / "site-configs"
    found = [Place(builtin, "built-in site-configs"), Place(ADMIN_DIRECTORY / "sites", str(ADMIN_DIRECTORY / "sites"))]
    if user is not None:
        found.append(Place(user / "sites", str(user / "sites")))
    if project.resolve() != builtin.resolve():
        found.append(Place(project, "site-configs"))
    return tuple(found)


def read_site(name: str, provider: str, where: Sequence[Place], environ: Mapping[str, str]) -> list[Section]:
    """Return the layers of a site, lowest first: each place's defaults, then its file of that name.

    Raises:
        SiteError: no place knows the site, a file is wrong, or the site is one of another batch system.
    """
    layers: list[Section] = []
    known = False
    for place in where:
        for stem in (DEFAULTS, name):
            path = place.folder / f"{stem}.yaml"
            if path.is_file():
                layers.append(_read(path, f"{place.shown}/{path.name}", provider, environ))
                known = known or stem == name
    if not known or name == DEFAULTS:
        names = sorted({path.stem for place in where for path in place.folder.glob("*.yaml")} - {DEFAULTS})
        looked = ", ".join(f"'{place.folder}'" for place in where)
        raise SiteError(
            f"no site config '{name}'{nearest(name, names)} (there is: {one_of(names)})",
            hint=f"write {name}.yaml into one of {looked}",
        )
    return layers


def _read(path: Path, shown: str, provider: str, environ: Mapping[str, str]) -> Section:
    from scalable_hpc.config.schema import Site

    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), path, shown, environ)
    except YamlProblem as err:
        raise SiteError(str(err.issue)) from err
    except (OSError, UnicodeDecodeError) as err:
        raise SiteError(f"cannot read site config '{path}': {err}", hint=f"ls -l {path}") from err
    normalise(tree, ())
    site, issues = check(Site, tree)
    if site is None:
        found = error_for(issues)
        raise SiteError(found.message, hint=found.hint)
    if site.batch not in (None, provider):
        raise SiteError(
            f"{shown}: this site runs {site.batch}, the target's provider is '{provider}'",
            hint=f"set provider: {site.batch}, or another site",
        )
    if "batch" in tree:
        tree.drop("batch")
    return tree
