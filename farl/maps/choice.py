"""The choice of the next goal among those of the current fragment and of all stored ones."""

from typing import Any

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.planner import search, trace
from farl.maps.roadmap import CROSSING, FAR
from farl.maps.survey import gain_now, goal_gain
from farl.maps.views import cone_cells


@compiled
def choose_goal(
    label: Any,
    box: Any,
    pose: Any,
    origin: Any,
    bits: Any,
    centre: int,
    plan: Any,
    progress: Any,
    gates: Any,
    goals: Any,
    steps: Any,
    counts: Any,
    trip: Any,
    e: int,
    reluctance: float,
    widths: Any,
    scratch: Any,
) -> bool:
    """Plan to the goal with the highest gain / (steps + reluctance), in this fragment or in any other."""
    down, across = centre - origin[e, 0], centre - origin[e, 1]
    n = search(label[e], pose[e, 0], pose[e, 1], -1, -1, scratch)
    _, distance, _, queue, _ = scratch
    trip[e, 0] = -1
    best, best_row, best_col, best_heading = 0.0, -1, -1, -1
    most = cone_cells(widths)
    for i in range(n):
        row, col = queue[i]
        if most <= best * (distance[row, col] + 1 + reluctance):
            break  # nearest first: even a view of nothing but unknown cells would not make up for the way
        for heading in range(4):
            gain = goal_gain(label[e], bits[e], down, across, row, col, heading, widths)
            score = gain / (distance[row, col] + 1 + reluctance)
            if score > best:
                best, best_row, best_col, best_heading = score, row, col, heading
    gate = best_gate(best, pose, origin, bits, centre, gates, goals, steps, counts, e, reluctance, widths, scratch)
    if gate >= 0:
        row, col = gates[e, gate, 0] + origin[e, 0], gates[e, gate, 1] + origin[e, 1]
        trip[e, 0], trip[e, 1], trip[e, 2] = gates[e, gate, 2], gates[e, gate, 0], gates[e, gate, 1]
        progress[e, 0], progress[e, 1] = 0, trace(row, col, scratch, plan[e])
        return True
    progress[e, 0], progress[e, 1] = 0, 0
    if best_heading < 0:
        return False
    length = trace(best_row, best_col, scratch, plan[e])
    if length < plan.shape[1]:
        plan[e, length] = best_heading
        length += 1
    progress[e, 1] = length
    return True


@compiled
def best_gate(
    best: float,
    pose: Any,
    origin: Any,
    bits: Any,
    centre: int,
    gates: Any,
    goals: Any,
    steps: Any,
    counts: Any,
    e: int,
    reluctance: float,
    widths: Any,
    scratch: Any,
) -> int:
    """The portal to the best goal of all other fragments; -1 if none is better than ``best``.

    The gains that were stored are upper bounds: more is known since. So the best one is counted anew until it stands.
    """
    stamp, distance, _, _, current = scratch
    n_gates, n_goals = counts[e]
    away = np.full(n_goals, FAR, np.int64)
    through = np.full(n_goals, -1, np.int64)
    for k in range(n_gates):
        row, col = gates[e, k, 0] + origin[e, 0], gates[e, k, 1] + origin[e, 1]
        if stamp[row, col] == current[0]:
            to_gate = distance[row, col] + CROSSING
            for g in range(n_goals):
                if to_gate + steps[e, k, g] < away[g]:
                    away[g], through[g] = to_gate + steps[e, k, g], k
    while True:
        chosen, highest = -1, best
        for g in range(n_goals):
            if goals[e, g, 3] > highest * (away[g] + reluctance):
                chosen, highest = g, goals[e, g, 3] / (away[g] + reluctance)
        if chosen < 0:
            return -1
        now = gain_now(bits[e], goals[e, chosen, 0] + centre, goals[e, chosen, 1] + centre, goals[e, chosen, 2], widths)
        if now == goals[e, chosen, 3]:
            return int(through[chosen])
        goals[e, chosen, 3] = now
