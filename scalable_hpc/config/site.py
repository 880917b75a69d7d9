"""Site configs: what is true of one machine, read from every place that may speak of it.

A place holds ``defaults.yaml`` (for every machine) and one file per site. Lowest first: those that come with the
package, ``/etc/scalable_hpc/sites``, ``~/.config/scalable_hpc/sites``, ``site-configs/`` beside the manifest.

Rule 1: a file that somebody else could have written is not read (``trust``), but for the package's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scalable_hpc.config.check import check, nearest, one_of
from scalable_hpc.config.data_files import builtin_directory
from scalable_hpc.config.issues import Mark, error_for
from scalable_hpc.config.normal import normalise
from scalable_hpc.config.trust import Trust, read_trusted, trust_in
from scalable_hpc.config.yaml_lines import Section, YamlProblem, copied, merge, parse_yaml
from scalable_hpc.errors import SiteError

if TYPE_CHECKING:
    from scalable_hpc.config.site_schema import Site, SiteFacts

ADMIN_DIRECTORY = Path("/etc/scalable_hpc")
ADMIN_VARIABLE = "SCALABLE_HPC_SITE_DIR"
"""Environment: where a site's admin keeps presets and templates, in place of ``/etc/scalable_hpc``."""
DEFAULTS = "defaults"
BUILTIN, ADMIN, USER, PROJECT = "builtin", "admin", "user", "project"
"""Layers of files, lowest first."""
SITE_OF_PROVIDER = {"local": "local", "pbs": "pbs-generic", "slurm": "slurm-generic"}
"""Which site a target means that names none."""


@dataclass(frozen=True, slots=True)
class Place:
    """A folder of site configs, and how its files are called in messages and sources."""

    folder: Path
    shown: str
    layer: str = PROJECT

    def file_of(self, stem: str) -> Path:
        """Return the file of a site, whether it is there or not."""
        return self.folder / f"{stem}.yaml"

    def shown_as(self, stem: str) -> str:
        """Return how that file is called."""
        return f"{self.shown}/{stem}.yaml"


@dataclass(frozen=True, slots=True)
class SiteFile:
    """One file of a site, as it was written."""

    layer: str
    shown: str
    tree: Section


@dataclass(frozen=True, slots=True)
class SiteRead:
    """A site as all its places tell it."""

    name: str
    layers: tuple[Section, ...]
    """Settings, lowest first."""
    facts: SiteFacts
    trust: Trust
    layer_of: Mapping[Path, str]
    """File to the layer that it is."""
    fact_marks: Section
    """Where each fact was written."""
    files: tuple[SiteFile, ...]
    """What was read, lowest first."""


def user_directory(environ: Mapping[str, str]) -> Path | None:
    """Return ``~/.config/scalable_hpc`` (XDG), or None where there is no home."""
    if configured := environ.get("XDG_CONFIG_HOME"):
        return Path(configured) / "scalable_hpc"
    home = environ.get("HOME")
    return Path(home) / ".config" / "scalable_hpc" if home else None


def admin_directory(environ: Mapping[str, str]) -> Path:
    """Return where the site's admin keeps presets and templates."""
    return Path(environ.get(ADMIN_VARIABLE) or ADMIN_DIRECTORY)


def places(base_dir: Path, environ: Mapping[str, str]) -> tuple[Place, ...]:
    """Return the places of site configs, lowest layer first."""
    builtin = builtin_directory("site-configs")
    admin, user = admin_directory(environ) / "sites", user_directory(environ)
    project = base_dir / "site-configs"
    found = [Place(builtin, "built-in site-configs", BUILTIN), Place(admin, str(admin), ADMIN)]
    if user is not None:
        found.append(Place(user / "sites", str(user / "sites"), USER))
    if project.resolve() != builtin.resolve():
        found.append(Place(project, "site-configs", PROJECT))
    return tuple(found)


def site_names(where: Sequence[Place]) -> dict[str, tuple[Place, ...]]:
    """Return every site that a place has a file of, and those places, lowest first."""
    found: dict[str, list[Place]] = {}
    for place in where:
        for path in sorted(place.folder.glob("*.yaml")):
            if path.stem != DEFAULTS:
                found.setdefault(path.stem, []).append(place)
    return {name: tuple(found[name]) for name in sorted(found)}


def read_site(name: str, provider: str | None, where: Sequence[Place], environ: Mapping[str, str]) -> SiteRead:
    """Return a site: each place's defaults, then its file of that name, lowest layer first.

    Args:
        name: the site's.
        provider: what the target runs on; None: whatever the site runs.
        where: the places, lowest layer first.
        environ: for ``${VAR}``.

    Raises:
        SiteError: no place knows the site, a file is wrong or somebody else's, or the site is one of another system.
    """
    if name == DEFAULTS or not any(place.file_of(name).is_file() for place in where):
        names = list(site_names(where))
        looked = ", ".join(f"'{place.folder}'" for place in where)
        raise SiteError(
            f"no site config '{name}'{nearest(name, names)} (there is: {one_of(names)})",
            hint=f"write {name}.yaml into one of {looked}",
        )
    from scalable_hpc.config.site_schema import SiteFacts

    layers: list[Section] = []
    files: list[SiteFile] = []
    facts, trust, layer_of = Section(Mark("default", None)), Trust(), {}
    for place in where:
        for stem in (DEFAULTS, name):
            path = place.file_of(stem)
            if not path.is_file():
                continue
            tree, site = read_site_file(path, place.shown_as(stem), environ, None if place.layer == BUILTIN else trust)
            if provider is not None and site.batch not in (None, provider):
                raise SiteError(
                    f"{place.shown_as(stem)}: this site runs {site.batch}, the target's provider is '{provider}'",
                    hint=f"set provider: {site.batch}, or another site",
                )
            trust = trust.and_also(_policy(site, place, stem))
            layer_of[path] = place.layer
            files.append(SiteFile(place.layer, place.shown_as(stem), copied(tree)))
            facts = merge(facts, _take_facts(tree))
            layers.append(tree)
    known, issues = check(SiteFacts, facts)
    if known is None:
        raise SiteError(str(issues[0]), hint=issues[0].hint)
    return SiteRead(name, tuple(layers), known, trust, layer_of, facts, tuple(files))


def read_site_file(path: Path, shown: str, environ: Mapping[str, str], trust: Trust | None) -> tuple[Section, Site]:
    """Return one file of a site, as written and as checked.

    Args:
        path: the file.
        shown: how messages call it.
        environ: for ``${VAR}``.
        trust: whose files are read; None: anybody's, for those of the package itself.

    Raises:
        SiteError: it is wrong, or somebody else could have written it.
    """
    from scalable_hpc.config.site_schema import Site

    try:
        text = path.read_text(encoding="utf-8") if trust is None else read_trusted(path, trust)
        tree = parse_yaml(text, path, shown, environ)
    except YamlProblem as err:
        raise SiteError(str(err.issue)) from err
    except (OSError, UnicodeDecodeError) as err:
        raise SiteError(f"cannot read site config '{path}': {err}", hint=f"ls -l {path}") from err
    normalise(tree, ())
    site, issues = check(Site, tree)
    if site is None:
        found = error_for(issues)
        raise SiteError(found.message, hint=found.hint)
    return tree, site


def _take_facts(tree: Section) -> Section:
    """Move what is no setting of a target out of a site's file."""
    from scalable_hpc.config.site_schema import SiteFacts

    facts = Section(tree.mark)
    for key in [key for key in tree if key in SiteFacts.model_fields]:
        mark = tree.key_marks[key]
        facts.put(key, tree.drop(key), mark)
    return facts


def _policy(site: Site, place: Place, stem: str) -> Trust:
    if place.layer == PROJECT and (site.trust.users or site.trust.groups or site.trust.cache_group):
        raise SiteError(
            f"{place.shown_as(stem)}: a project cannot say whom to trust",
            hint="write trust: into ~/.config/scalable_hpc/sites/defaults.yaml, or ask the machine's admin",
        )
    return trust_in(site.trust.users, site.trust.groups)
