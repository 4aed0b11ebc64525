"""Reads and watches properties through the PropertyCollector, leaf paths only."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vsphere.api import vim, vmodl
from vsphere.errors import TookTooLong
from vsphere.faults import FAILED_CALL

PAGE_OBJECTS = 1000
LONGEST_WAIT_SECONDS = 5  # less than any call is waited for
SHORTEST_WAIT_SECONDS = 1

Properties = dict[str, Any]
Collector: Any = vmodl.query.PropertyCollector
REFUSALS = (vmodl.fault.ManagedObjectNotFound, vim.fault.NoPermission)


@dataclass(frozen=True)
class Found:
    """An object that exists, with the properties that are set.

    refusal: the fault that kept the account from reading others, if one did.
    """

    target: Any
    properties: Properties
    refusal: Any = None


def read(content: Any, target: Any, paths: Sequence[str]) -> Properties:
    """Return the properties of one object, without unset ones.

    Raises, as `read_many` does, the server's NotAuthenticated and NoPermission, and
    ManagedObjectNotFound if there is no such object.
    """
    for _, properties in read_many(content, [target], {type(target): paths}):
        return properties
    raise vmodl.fault.ManagedObjectNotFound(obj=target)


def read_many(
    content: Any, targets: Sequence[Any], paths_by_type: Mapping[Any, Sequence[str]]
) -> Iterator[tuple[Any, Properties]]:
    """Yield (object, properties) for each of `targets` that exists."""
    if not targets:
        return
    objects = [Collector.ObjectSpec(obj=target) for target in targets]
    for found in _retrieve(content, objects, paths_by_type):
        if found.refusal is not None:
            raise found.refusal
        yield found.target, found.properties


def read_inventory(
    content: Any, root: Any, paths_by_type: Mapping[Any, Sequence[str]]
) -> Iterator[Found]:
    """Yield all objects of these types below `root`, page by page."""
    view = content.viewManager.CreateContainerView(
        container=root, type=list(paths_by_type), recursive=True
    )
    try:
        walk = Collector.TraversalSpec(
            name="view", path="view", skip=False, type=vim.view.ContainerView
        )
        start = Collector.ObjectSpec(obj=view, skip=True, selectSet=[walk])
        yield from _retrieve(content, [start], paths_by_type)
    finally:
        with contextlib.suppress(*FAILED_CALL):
            view.DestroyView()


def _retrieve(
    content: Any, objects: Sequence[Any], paths_by_type: Mapping[Any, Sequence[str]]
) -> Iterator[Found]:
    collector = content.propertyCollector
    page = _first_page(content, objects, paths_by_type)
    while True:
        contents = page.objects or [] if page is not None else []
        if not any(one.propSet for one in contents) and not is_signed_in(content):
            raise vim.fault.NotAuthenticated()
        for one in contents:
            found = _read_content(one)
            if found is not None:
                yield found
        if page is None or not page.token:
            return
        page = collector.ContinueRetrievePropertiesEx(token=page.token)


def _first_page(
    content: Any, objects: Sequence[Any], paths_by_type: Mapping[Any, Sequence[str]]
) -> Any:
    spec = Collector.FilterSpec(
        objectSet=list(objects),
        propSet=[
            Collector.PropertySpec(type=kind, pathSet=list(paths), all=False)
            for kind, paths in paths_by_type.items()
        ],
        reportMissingObjectsInResults=True,
    )
    options = Collector.RetrieveOptions(maxObjects=PAGE_OBJECTS)
    return content.propertyCollector.RetrievePropertiesEx(specSet=[spec], options=options)


def is_signed_in(content: Any) -> bool:
    """Tell whether the session still exists, which everybody may ask.

    After its end, the server answers other reads as if there were nothing.
    """
    manager = content.sessionManager
    page = _first_page(
        content, [Collector.ObjectSpec(obj=manager)], {type(manager): ("currentSession",)}
    )
    contents = page.objects or [] if page is not None else []
    return any(each.val is not None for one in contents for each in one.propSet or [])


def _read_content(content: Any) -> Found | None:
    """Return an object as it was answered with; none if it does not exist."""
    refusal = _refusal_in(content.missingSet)
    if isinstance(refusal, vmodl.fault.ManagedObjectNotFound):
        return None
    properties = {one.name: one.val for one in content.propSet or [] if one.val is not None}
    return Found(content.obj, properties, refusal)


def _refusal_in(missing_set: Any) -> Any:
    """Return the fault that says why properties are missing, unless they are just unset.

    Raises:
        NotAuthenticated: the session has ended; a property collector answers all the same.
    """
    refusal = None
    for missing in missing_set or []:
        if isinstance(missing.fault, vim.fault.NotAuthenticated):
            raise missing.fault
        if isinstance(missing.fault, REFUSALS):
            refusal = missing.fault
    return refusal


def watch(
    content: Any,
    paths_by_object: Mapping[Any, Sequence[str]],
    is_over: Callable[[dict[Any, Properties]], bool],
    *,
    doing: str,
    limit_seconds: float,
    check_cancel: Callable[[], None] | None = None,
) -> dict[Any, Properties]:
    """Wait until `is_over` is true for the objects' properties, and return them.

    Each call uses its own collector, so that several threads can wait in one session.
    `check_cancel` is called between waits and may raise.

    Raises:
        TookTooLong: that took longer than `limit_seconds`.
    """
    deadline = time.monotonic() + limit_seconds
    seen: dict[Any, Properties] = {target: {} for target in paths_by_object}
    collector = content.propertyCollector.CreatePropertyCollector()
    try:
        for target, paths in paths_by_object.items():
            collector.CreateFilter(
                spec=Collector.FilterSpec(
                    objectSet=[Collector.ObjectSpec(obj=target)],
                    propSet=[
                        Collector.PropertySpec(type=type(target), pathSet=list(paths), all=False)
                    ],
                ),
                partialUpdates=True,
            )
        version = ""
        while True:
            if check_cancel:
                check_cancel()
            left_seconds = deadline - time.monotonic()
            longest = SHORTEST_WAIT_SECONDS if check_cancel else LONGEST_WAIT_SECONDS
            options = Collector.WaitOptions(
                maxWaitSeconds=max(SHORTEST_WAIT_SECONDS, min(longest, int(left_seconds)))
            )
            updates = collector.WaitForUpdatesEx(version=version, options=options)
            if updates is not None:
                version = updates.version
                _apply(updates, seen)
                if not updates.truncated and is_over(seen):
                    return seen
            if time.monotonic() > deadline:
                raise TookTooLong(
                    f"{doing}: not finished within {limit_seconds:.0f} seconds. Check the task "
                    "in the vSphere client. If it is still running, try again later."
                )
    finally:
        with contextlib.suppress(*FAILED_CALL):
            collector.DestroyPropertyCollector()


def _apply(updates: Any, seen: dict[Any, Properties]) -> None:
    for filter_update in updates.filterSet or []:
        for update in filter_update.objectSet or []:
            if update.kind == "leave":
                raise vmodl.fault.ManagedObjectNotFound(obj=update.obj)
            refusal = _refusal_in(update.missingSet)
            if refusal is not None:
                raise refusal
            for change in update.changeSet or []:
                properties = seen.setdefault(update.obj, {})
                if change.op == "assign" and change.val is not None:
                    properties[change.name] = change.val
                else:
                    properties.pop(change.name, None)


def extra_config(of: Properties) -> dict[str, str]:
    """Return a machine's extraConfig as a dictionary."""
    return {option.key: str(option.value) for option in of.get("config.extraConfig", ())}
