"""The order of a machine's points: the chain's, never the clock's.

A clock that is minutes or years off, at this site or at another, must not change which point is
the newest, what is sent first, or what counts as later.
"""

import heapq
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from .manifest import Manifest

Id = TypeVar("Id", bound=str | UUID)


@dataclass(frozen=True)
class Link(Generic[Id]):
    """What decides where a point belongs among those of its machine."""

    point_id: Id
    parent_id: Id | None
    ownership_epoch: int
    taken_at: datetime


def oldest_first(points: Iterable[Manifest], known: Sequence[str] = ()) -> list[Manifest]:
    """Return the points of one machine in the order of `in_order`."""
    by_id = {point.point_id: point for point in points}
    links = [
        Link(point.point_id, point.parent_point_id, point.ownership_epoch, point.taken_at)
        for point in by_id.values()
    ]
    return [by_id[point_id] for point_id in in_order(links, known)]


def in_order(points: Iterable[Link[Id]], known: Sequence[Id] = ()) -> list[Id]:
    """Return the ids of one machine's points, oldest first. Pure.

    A parent comes before its children, then a lower ownership epoch before a higher one. Only
    between points that neither relates, such as two base images of one owner, does the time
    decide; and since nothing is older than its parent, a point counts as no later than any point
    that comes after it.

    known: ids in the order in which they are known to have been taken; the chain overrules it.
    """
    by_id = {point.point_id: point for point in points}
    chain = [
        (point.parent_id, point.point_id)
        for point in by_id.values()
        if point.parent_id is not None and point.parent_id in by_id
    ]
    kept = [point_id for point_id in known if point_id in by_id]
    for edges in ([*chain, *itertools.pairwise(kept)], chain):
        ordered = _sorted(by_id, edges)
        if len(ordered) == len(by_id):
            return ordered
    # Points that name each other as parents. No store accepts those, but nothing may hang on them.
    rest = by_id.keys() - set(ordered)
    return [*ordered, *sorted(rest, key=str)]


def _sorted(by_id: dict[Id, Link[Id]], edges: Sequence[tuple[Id, Id]]) -> list[Id]:
    """Return the ids sorted along the edges, without those that are part of a loop or follow it."""
    later: dict[Id, list[Id]] = {point_id: [] for point_id in by_id}
    for before, after in edges:
        later[before].append(after)
    latest = {point_id: point.taken_at for point_id, point in by_id.items()}
    plain = _walk(later, dict.fromkeys(by_id, (0,)))
    for point_id in reversed(plain):
        latest[point_id] = min([latest[point_id], *(latest[after] for after in later[point_id])])
    ranks = {
        point_id: (point.ownership_epoch, latest[point_id], point.taken_at)
        for point_id, point in by_id.items()
    }
    return _walk(later, ranks)


def _walk(later: dict[Id, list[Id]], ranks: dict[Id, tuple[Any, ...]]) -> list[Id]:
    """Return the ids so that nothing precedes what it follows, the lowest free rank first."""
    waits_for = dict.fromkeys(later, 0)
    for followers in later.values():
        for point_id in followers:
            waits_for[point_id] += 1
    free = [(ranks[point_id], point_id) for point_id, count in waits_for.items() if not count]
    heapq.heapify(free)
    walked = []
    while free:
        _, point_id = heapq.heappop(free)
        walked.append(point_id)
        for after in later[point_id]:
            waits_for[after] -= 1
            if not waits_for[after]:
                heapq.heappush(free, (ranks[after], after))
    return walked
