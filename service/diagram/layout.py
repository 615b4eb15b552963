"""A drawn part of a topology -> columns of points, rows in order, and coordinates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.diagram.heights import heights
from circuit_atlas.service.diagram.order import Columns, ordered
from circuit_atlas.service.diagram.topology import JOINTS, UNIT, Topology

Ints = NDArray[np.int64]

_UNIT_ROOM, _JOINT_ROOM, _BEND_ROOM = 1.4, 0.6, 0.16
_MARGIN, _JOINT_MARGIN, _BEND_MARGIN = 0.8, 0.3, 0.06
_SIDE, _TOP = 1.2, 1.3  # before the first column; above the first row, for its name
_ASPECT = 1.7
_NEAREST, _FARTHEST = 2.4, 64.0
_NARROW = 0.45  # of a column's width, where a column holds joints alone


@dataclass(frozen=True)
class Layout:
    """Holds the points of a drawing, in rows: a row is 1 high.

    Attributes:
        nodes: the drawn nodes of the topology, ascending; they are the first points.
        bend_of: for each bend, which follow them: the point whose line passes there.
        line_from, line_to: points of each line that was asked for; lines to bends come after.
        x, y: of each point.
        before, after: crossings with the rows as they are numbered, and as they are laid out.
    """

    nodes: Ints
    bend_of: Ints
    line_from: Ints
    line_to: Ints
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    before: int
    after: int


def lay_out(topology: Topology, start: Ints, end: Ints) -> Layout:
    """Lay out lines between nodes of a topology, each from a lower to a higher rank."""
    nodes = np.unique(np.concatenate([start, end]))
    if not len(nodes):
        none = np.zeros(0, np.int64)
        return Layout(nodes, none, none, none, np.zeros(0), np.zeros(0), 0, 0)
    start, end = np.searchsorted(nodes, start), np.searchsorted(nodes, end)
    ranks, column = np.unique(topology.rank[nodes], return_inverse=True)
    kind, owner = topology.kind[nodes], topology.owner[nodes]
    # A line that passes columns bends in each; all lines of a node share its bends.
    last = np.zeros(len(nodes), np.int64)
    np.maximum.at(last, start, column[end])
    passed = np.maximum(last - column - 1, 0)
    bend_of = np.repeat(np.arange(len(nodes)), passed)
    first = np.cumsum(passed) - passed
    step = np.arange(len(bend_of)) - first[bend_of]
    bend_column = column[bend_of] + 1 + step
    through = column[end] - column[start] - 1
    line_from = np.where(through > 0, len(nodes) + first[start] + through - 1, start)
    carried_to = len(nodes) + np.arange(len(bend_of))
    carried_from = np.where(step > 0, carried_to - 1, bend_of)
    groups = np.unique(np.stack([kind.astype(np.int64), owner]), axis=1, return_inverse=True)[1]
    group = np.concatenate([groups.ravel(), groups.max() + 1 + np.arange(len(bend_of))])
    columns = np.concatenate([column, bend_column])
    columns_of = Columns(
        columns,
        group,
        _places(columns, group),
        np.concatenate([line_from, carried_from]),
        np.concatenate([end, carried_to]),
    )
    found = ordered(columns_of)
    joint = np.isin(kind, JOINTS)
    room = np.where(joint, _JOINT_ROOM, 1.0)
    room[kind == UNIT] = _UNIT_ROOM
    margin = np.where(joint, _JOINT_MARGIN, _MARGIN)
    bends = len(bend_of)
    room = np.concatenate([room, np.full(bends, _BEND_ROOM)])
    margin = np.concatenate([margin, np.full(bends, _BEND_MARGIN)])
    y = heights(found, room, margin)
    wide = np.zeros(len(ranks), np.bool_)
    wide[column[~joint]] = True
    return Layout(
        nodes,
        bend_of,
        columns_of.start,
        columns_of.end,
        _across(wide, float((y + room / 2).max()))[columns] + _SIDE,
        y + _TOP,
        columns_of.crossings(),
        found.crossings(),
    )


def _places(column: Ints, group: Ints) -> Ints:
    """Rows as they are numbered: group after group in each column."""
    order = np.lexsort((np.arange(len(column)), group, column))
    rank = np.empty(len(order), np.int64)
    cuts = np.searchsorted(column[order], np.arange(column.max() + 1))
    rank[order] = np.arange(len(order)) - cuts[column[order]]
    return rank


def _across(wide: NDArray[np.bool_], height: float) -> NDArray[np.float64]:
    """The middle of each column: farther apart in a higher drawing."""
    half = np.where(wide, 0.5, _NARROW / 2)
    steps = half[1:] + half[:-1]
    total = float(steps.sum()) or 1.0
    apart = min(_FARTHEST, max(_NEAREST, _ASPECT * height / total))
    return np.concatenate([[0.0], np.cumsum(steps * apart)])
