"""The choice of the next goal among those of the current fragment and of all stored ones."""

from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.geometry import Int32Array, IntArray, WordArray
from farl.maps.local_map import MapState
from farl.maps.measuring import Canvas, Outlook, gain_now, goal_gain
from farl.maps.planner import search, trace
from farl.maps.roadmap import GOAL, LANDMARK, Roads
from farl.maps.views import cone_cells

CROSSING = 1
"""Steps that goals of other fragments count as farther away: a recall may cost a step or two, and without it ways of
the same length through different fragments would make agents turn back and forth between them."""


class Memory(NamedTuple):
    """What E agents remember beyond their current maps, for the kernels.

    :ivar bits: uint64[E, 2, S, S / 64], the indices of known places (``KnownCells``)
    :ivar centre: row and column of the indices where the odometry is 0
    :ivar roads: the roadmaps
    :ivar active: int64[E], the current fragments
    """

    bits: WordArray
    centre: int
    roads: Roads
    active: IntArray


class Rule(NamedTuple):
    """How goals are weighed: by gain / (steps + ``reluctance``).

    :ivar widths: int32[V - 1], of the cone (``cone_widths``)
    """

    reluctance: float
    widths: Int32Array


@compiled
def choose_goal(
    e: int, maps: MapState, memory: Memory, rule: Rule, scratch: Any, plan: Any, trip: Any
) -> tuple[int, bool]:
    """Plan to the goal with the highest gain / (steps + reluctance), in agent ``e``'s fragment or any other.

    :param plan: int8[L], written: the way to the goal, or to the landmark where another fragment is to be taken up
    :param trip: int64[3], written: that fragment (-1 for none), and row and column of the landmark by the odometry
    :return: the plan's length, and whether there is any goal
    """
    label, pose, origin = maps.label[e], maps.pose[e], maps.origin[e]
    centre, reluctance, outlook = memory.centre, rule.reluctance, Outlook(memory.bits[e], rule.widths)
    canvas = Canvas(label, maps.box[e], centre - origin[0], centre - origin[1])
    n = search(label, pose[0], pose[1], -1, -1, scratch)
    distance, queue = scratch.distance, scratch.queue
    trip[0] = -1
    best, best_row, best_col, best_heading = 0.0, -1, -1, -1
    most = cone_cells(rule.widths)
    for i in range(n):
        row, col = queue[i]
        if most <= best * (distance[row, col] + 1 + reluctance):
            break  # nearest first: even a view of nothing but unknown cells would not make up for the way
        for heading in range(4):
            gain = goal_gain(canvas, outlook, row, col, heading)
            score = gain / (distance[row, col] + 1 + reluctance)
            if score > best:
                best, best_row, best_col, best_heading = score, row, col, heading
    exit_at, heading, through = best_elsewhere(best, e, maps, memory, rule, scratch)
    if exit_at >= 0:
        place = memory.roads.place[e]
        trip[0], trip[1], trip[2] = through, place[exit_at, 0], place[exit_at, 1]
        length = trace(place[exit_at, 0] + origin[0], place[exit_at, 1] + origin[1], scratch, plan)
        if length == 0:
            plan[0], length = heading, 1  # the other fragment knows that this cell is free
        return length, True
    if best_heading < 0:
        return 0, False
    length = trace(best_row, best_col, scratch, plan)
    if length < len(plan):
        plan[length] = best_heading
        length += 1
    return length, True


@compiled
def best_elsewhere(
    best: float, e: int, maps: MapState, memory: Memory, rule: Rule, scratch: Any
) -> tuple[Any, Any, Any]:
    """Find the goal of another fragment that is better than ``best``, by Dijkstra's algorithm over the roadmap.

    It begins at all landmarks of the current map that were reached by the search in ``scratch``, and ends where no
    goal could be better. Gains were counted when their fragment was left; what is better by them is counted anew.

    :return: the landmark where the current fragment is left, the heading there, and the fragment to be taken up;
        -1, -1, -1 if no goal is better
    """
    roads, active, pose, origin = memory.roads, memory.active[e], maps.pose[e], maps.origin[e]
    centre, reluctance, outlook = memory.centre, rule.reluctance, Outlook(memory.bits[e], rule.widths)
    kind, place, degree, edges = roads.kind[e], roads.place[e], roads.degree[e], roads.edges[e]
    near, nearby, seen, reach = roads.near[e], roads.nearby[e], roads.seen, roads.reach
    stamp, distance, current = scratch.stamp, scratch.distance, scratch.current
    side = len(stamp)
    row, col = pose[0] - origin[0], pose[1] - origin[1]
    if nearby[0] < 0 or abs(row - nearby[2]) + abs(col - nearby[3]) > side // 2:
        _list_near(kind, place, row, col, 2 * side, near, nearby)
    found = (np.int64(-1), np.int64(-1), np.int64(-1))
    most = nearby[1]
    if most <= best * (CROSSING + 1 + reluctance):
        return found
    seen[-1] += 1
    mark = seen[-1]
    heap = [(np.int64(0), np.int64(0))]
    heap.clear()
    for i in range(nearby[0]):
        vertex = near[i]
        row, col = place[vertex, 0] + origin[0], place[vertex, 1] + origin[1]
        if 0 <= row < side and 0 <= col < side and stamp[row, col] == current[0]:
            away = distance[row, col] + CROSSING
            if most > best * (away + 1 + reluctance):
                seen[vertex], reach[vertex, 0], reach[vertex, 1] = mark, away, -1
                heappush(heap, (np.int64(away), np.int64(vertex)))
    while len(heap):
        away, vertex = heappop(heap)
        if most <= best * (away + 1 + reluctance):
            break
        if away > reach[vertex, 0]:
            continue
        for at in range(degree[vertex]):
            to, length, heading, fragment_id = edges[vertex, at]
            if fragment_id == active:
                continue  # the search over the current map has answered for those
            total = away + length
            is_goal = kind[to] == GOAL
            if is_goal:
                if place[to, 3] <= best * (total + reluctance):
                    continue
                place[to, 3] = gain_now(outlook, place[to, 0] + centre, place[to, 1] + centre, place[to, 2])
                score = place[to, 3] / (total + reluctance)
                if score <= best:
                    continue
                best = score
            elif seen[to] == mark and reach[to, 0] <= total:
                continue
            exit_at, first, through = vertex, heading, fragment_id
            if reach[vertex, 1] >= 0:
                exit_at, first, through = reach[vertex, 1], reach[vertex, 2], reach[vertex, 3]
            if is_goal:
                found = (np.int64(exit_at), np.int64(first), np.int64(through))
            else:
                seen[to], reach[to, 0], reach[to, 1], reach[to, 2], reach[to, 3] = mark, total, exit_at, first, through
                heappush(heap, (np.int64(total), np.int64(to)))
    return found


@compiled
def _list_near(kind: Any, place: Any, row: int, col: int, within: int, near: Any, nearby: Any) -> None:
    """List the landmarks that the current map can hold, and note the highest gain."""
    n, most = 0, 0
    for vertex in range(len(kind)):
        if kind[vertex] == GOAL:
            most = max(most, place[vertex, 3])
        elif kind[vertex] == LANDMARK and max(abs(place[vertex, 0] - row), abs(place[vertex, 1] - col)) <= within:
            near[n] = vertex
            n += 1
    nearby[0], nearby[1], nearby[2], nearby[3] = n, most, row, col
