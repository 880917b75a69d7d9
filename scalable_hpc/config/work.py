"""Settles worker types (components) and what is said of task names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scalable_hpc.config.check import nearest, one_of
from scalable_hpc.config.own import settle_fallbacks
from scalable_hpc.config.resolved import EVERY_TASK, TaskDefaults
from scalable_hpc.config.sheet import Sheet
from scalable_hpc.model.resources import Needs, WorkerType
from scalable_hpc.model.tasks import RetryPolicy
from scalable_hpc.model.units import format_memory, format_walltime

if TYPE_CHECKING:
    from scalable_hpc.config.schema import Component, Manifest, Target, Task

RUNTIMES = ("apptainer", "singularity", "podman-hpc", "shifter", "charliecloud")
"""Container runtimes that run unprivileged on a node under the batch system."""
_TAKE_NAMES = ("podman-hpc", "shifter")
"""Those that know images by name, and no files."""
DEFAULT_TYPE = "default"
"""The worker type of a manifest without components."""


def settle_worker_types(
    manifest: Manifest, target: Target, sheet: Sheet, cpus_here: int | None
) -> dict[str, WorkerType]:
    """Return the worker types by name.

    Args:
        manifest: the checked manifest.
        target: the target over its site.
        sheet: takes what is found.
        cpus_here: what Local may use; None on a batch system.
    """
    if manifest.components:
        chains = settle_fallbacks(manifest.components, sheet)
        return {
            name: replace(_worker_type(name, part, target, sheet), fallbacks=chains[name])
            for name, part in manifest.components.items()
        }
    cpus = cpus_here or 1
    if cpus_here is None:
        text = "there are no components: each allocation has one cpu and one slot"
        sheet.warn("components", text, "W_NO_COMPONENTS", "components: {work: {cpus: 8, memory: 16G}}")
    return {DEFAULT_TYPE: WorkerType(DEFAULT_TYPE, cpus=cpus, slots=cpus)}


def _worker_type(name: str, part: Component, target: Target, sheet: Sheet) -> WorkerType:
    where = f"components.{name}"
    for key in ("cpus", "memory", "gpus", "slots", "nodes"):
        sheet.sources.setdefault(f"{where}.{key}", "default")
    if part.tags:
        text = (
            "'tags' has no effect here: it is a label; tasks go to components by name (task, tag) or by what they need"
        )
        sheet.warn(f"{where}.tags", text, "W_NO_EFFECT")
    if part.nodes > 1 and (part.slots or 1) > 1:
        text = f"slots is {part.slots}, nodes is {part.nodes}: a task that has several nodes has them for itself"
        sheet.error(f"{where}.slots", text, "E_CONFLICT", "leave 'slots' out")
    image, runtime = _container(part, where, target, sheet)
    return WorkerType(
        name=name,
        cpus=part.cpus,
        memory=part.memory,
        gpus=part.gpus,
        slots=part.slots or (1 if part.nodes > 1 else part.cpus),
        image=image,
        runtime=runtime,
        mounts=tuple((str(sheet.path_of(host)), inside) for host, inside in part.mounts.items()) if image else (),
        env=tuple(part.env.items()),
        preload_script=_preload_script(part, where, sheet),
        tags=part.tags,
        nodes=part.nodes,
    )


def _container(part: Component, where: str, target: Target, sheet: Sheet) -> tuple[str | None, str | None]:
    """Return image and runtime, or nothing where the component has no image or the target uses none."""
    if part.image is None:
        for key in ("runtime", "mounts"):
            if getattr(part, key):
                sheet.warn(f"{where}.{key}", f"'{key}' has no effect here: the component has no image", "W_NO_EFFECT")
        return None, None
    if target.containers == "none":
        text = f"the image of {where} is not used on targets.{sheet.target_name}: containers is none there"
        sheet.warn(f"{where}.image", text, "W_NO_EFFECT", "set containers: auto in the target")
        return None, None
    runtime = part.runtime or target.container_runtime or RUNTIMES[0]
    if runtime not in RUNTIMES:
        key = f"{where}.runtime" if part.runtime else "target.container_runtime"
        word = key.rsplit(".", maxsplit=1)[-1]
        text = f"{word} is '{runtime}': allowed is {one_of(RUNTIMES)}{nearest(runtime, RUNTIMES)}"
        sheet.error(key, text, "E_BAD_VALUE")
    has_ending = part.image.endswith((".sif", ".sqfs")) and ":" not in part.image
    is_file = part.image.startswith((".", "~", "/")) or has_ending
    if is_file and runtime in _TAKE_NAMES:
        text = f"image of {where} is a file; {runtime} takes the name of an image that it has pulled"
        sheet.error(f"{where}.image", text, "E_BAD_VALUE", "such as docker.io/library/python:3.11")
    return str(sheet.path_of(part.image)) if is_file else part.image, runtime


def _preload_script(part: Component, where: str, sheet: Sheet) -> str | None:
    if part.preload_script is None:
        return None
    if part.preload_script.endswith(".py"):
        text = "a Python preload_script is not run: tasks run in processes that import what they need"
        sheet.warn(f"{where}.preload_script", text, "W_NO_EFFECT", "name a shell script, or import it in the task")
        return None
    return str(sheet.path_of(part.preload_script))


def settle_tasks(
    manifest: Manifest, kinds: dict[str, WorkerType], lasting: Mapping[str, int], sheet: Sheet
) -> dict[str, TaskDefaults]:
    """Return what is said of each task name; ``*`` says what holds where a name's own entry says nothing.

    Args:
        manifest: the checked manifest.
        kinds: the worker types.
        lasting: the walltime (seconds) of each one's allocations.
        sheet: takes what is found.
    """
    every = manifest.tasks.get(EVERY_TASK)
    basis = {} if every is None else _retry_words(every, f"tasks.{EVERY_TASK}", sheet)
    settled = {}
    for name, part in manifest.tasks.items():
        own = basis if part is every else {**basis, **_retry_words(part, f"tasks.{name}", sheet)}
        whole = (
            part
            if every is None
            else every.model_copy(update={key: getattr(part, key) for key in part.model_fields_set})
        )
        settled[name] = _task(name, whole, _policy(own, f"tasks.{name}", sheet), kinds, lasting, sheet)
    return settled


def _task(
    name: str,
    part: Task,
    policy: RetryPolicy | None,
    kinds: dict[str, WorkerType],
    lasting: Mapping[str, int],
    sheet: Sheet,
) -> TaskDefaults:
    where = f"tasks.{name}"
    if part.outputs is not None:
        text = "'outputs' has no effect here: what a task returns is its result, files it writes stay where they are"
        sheet.warn(f"{where}.outputs", text, "W_NO_EFFECT")
    if part.component is not None and part.component not in kinds:
        text = f"component is '{part.component}', which is not there{nearest(part.component, kinds)}"
        sheet.error(f"{where}.component", text, "E_UNKNOWN_COMPONENT", f"components of this manifest: {one_of(kinds)}")
    needs = Needs(cpus=part.cpus or 1, memory=part.memory, gpus=part.gpus or 0, worker_type=part.component)
    if needs.worker_type in (None, *kinds) and not any(kind.fits(needs) for kind in kinds.values()):
        sheet.error(where, f"{where} fits no component: it wants {_told(needs)}", "E_TASK_TOO_LARGE")
    if part.persist is False and part.pure is False:
        text = "a result that is not kept may have to be computed again, which 'pure: false' forbids"
        sheet.error(f"{where}.persist", text, "E_CONFLICT", "leave one of the two out")
    if part.persist is False and part.cache:
        text = "a result that is not kept cannot go to the shared cache, which 'cache: true' asks for"
        sheet.error(f"{where}.persist", text, "E_CONFLICT", "leave one of the two out")
    walltime_s = lasting.get(needs.worker_type or "", max(lasting.values()))
    is_too_long = part.expected_runtime is not None and part.expected_runtime >= walltime_s
    if part.expected_runtime is not None and is_too_long and not part.checkpoints:
        text = (
            f"expected_runtime is {format_walltime(part.expected_runtime)}, the walltime of"
            f" targets.{sheet.target_name} {format_walltime(walltime_s)}: such tasks can never finish there"
        )
        sheet.warn(f"{where}.expected_runtime", text, "W_TASK_TOO_LONG")
    return TaskDefaults(
        name=name,
        needs=needs,
        policy=policy,
        timeout_s=part.timeout,
        expected_runtime_s=part.expected_runtime,
        cache=part.cache,
        pure=part.pure is not False,
        persist=part.persist is not False,
        verify_pure=part.verify_pure or 0.0,
        checkpoints=part.checkpoints,
    )


def _told(needs: Needs) -> str:
    parts = [f"{needs.cpus} cpus"]
    parts += [format_memory(needs.memory)] if needs.memory is not None else []
    parts += [f"{needs.gpus} gpus"] if needs.gpus else []
    parts += [f"of component '{needs.worker_type}'"] if needs.worker_type is not None else []
    return ", ".join(parts)


def _retry_words(part: Task, where: str, sheet: Sheet) -> dict[str, Any]:
    """Return what an entry says of retries, as RetryPolicy has it: one word for each thing."""
    given = {} if part.retry is None else {k: v for k, v in part.retry.model_dump().items() if v is not None}
    for short in ("base", "cap", "max_elapsed"):
        if short in given:
            value = given.pop(short)
            _say(given, f"{short}_s", value, f"{where}.retry.{short}", f"{short} is {value:g}", sheet)
    if "attempts" in given:
        attempts = given.pop("attempts")
        _say(given, "retries", attempts - 1, f"{where}.retry.attempts", f"attempts is {attempts}", sheet)
    if part.retries is not None:
        _say(given, "retries", part.retries, f"{where}.retries", f"retries is {part.retries}", sheet)
    return given


def _say(given: dict[str, Any], key: str, value: Any, where: str, told: str, sheet: Sheet) -> None:
    """Take a value for a key of RetryPolicy's that another spelling may have set to something else."""
    if given.setdefault(key, value) != value:
        sheet.error(where, f"{told}, retry.{key} {given[key]}: write one of them", "E_BAD_VALUE")


def _policy(given: dict[str, Any], where: str, sheet: Sheet) -> RetryPolicy | None:
    try:
        return RetryPolicy(**given) if given else None
    except ValueError as err:
        sheet.error(f"{where}.retry", f"{where}.retry cannot be: {err}", "E_BAD_VALUE")
        return None
