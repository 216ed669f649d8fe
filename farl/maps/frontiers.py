"""Frontiers: the unknown cells next to known free ones, their clusters, and the choice among them.

FARMap, section 3.3: clusters of neighbouring frontier cells, one subgoal for each, sampled by size over distance.
"""

from typing import Any, NamedTuple

import numpy as np

from farl.maps.compiled import compiled
from farl.maps.geometry import FREE, STEP_COLS, STEP_ROWS, UNKNOWN, next_random
from farl.maps.planner import Scratch, plan_to_state

BEHIND = 1e-5
"""The weight of subgoals behind the agent, relative to those ahead (FARMap, appendix)."""


class FrontierRule(NamedTuple):
    """How a subgoal is sampled among clusters: the weight of each is 1 over its straight distance, times factors.

    :ivar by_size: times the cluster's size
    :ivar heading_bias: times ``BEHIND`` for those behind the agent
    :ivar least: clusters of fewer cells count only if there are no larger ones
    """

    by_size: bool
    heading_bias: bool
    least: int


@compiled
def is_frontier(label: Any, row: int, col: int) -> bool:
    """Whether a cell is unknown and touches a known free cell, by an edge or a corner."""
    if label[row, col] != UNKNOWN:
        return False
    for dr in range(-1, 2):
        for dc in range(-1, 2):
            if label[row + dr, col + dc] == FREE:
                return True
    return False


@compiled
def count_frontier(label: Any, box: Any) -> int:
    """Number of frontier cells of a map, int32[S, S], whose known cells lie in ``box``, int64[4]."""
    n = 0
    for row in range(box[0] - 1, box[1] + 2):
        for col in range(box[2] - 1, box[3] + 2):
            if is_frontier(label, row, col):
                n += 1
    return n


@compiled
def find_clusters(label: Any, box: Any, scratch: Any) -> Any:
    """Cluster the frontier cells of a map over edges and corners.

    Returns float64[n, 3]: the size of each cluster, and the row and column of its subgoal: the known free cell next to
    the member that is nearest to the centroid, by an edge if there is one.
    """
    stamp, queue, current = scratch.stamp, scratch.queue, scratch.current
    current[0] += 1
    mark = current[0]
    clusters = np.empty((64, 3))
    n = 0
    for row in range(box[0] - 1, box[1] + 2):
        for col in range(box[2] - 1, box[3] + 2):
            if stamp[row, col] == mark or not is_frontier(label, row, col):
                continue
            stamp[row, col] = mark
            queue[0, 0], queue[0, 1] = row, col
            head, tail = 0, 1
            sum_row, sum_col = 0, 0
            while head < tail:
                r, c = queue[head]
                head += 1
                sum_row += r
                sum_col += c
                # No cell farther than one from the box is a frontier, and the canvas may end two from it.
                for rr in range(max(r, box[0]) - 1, min(r, box[1]) + 2):
                    for cc in range(max(c, box[2]) - 1, min(c, box[3]) + 2):
                        if stamp[rr, cc] != mark and is_frontier(label, rr, cc):
                            stamp[rr, cc] = mark
                            queue[tail, 0], queue[tail, 1] = rr, cc
                            tail += 1
            # In whole numbers: where two cells are as near to the centre, rounding would depend on the canvas.
            nearest, best = 0, np.int64(-1)
            for i in range(tail):
                away = (tail * queue[i, 0] - sum_row) ** 2 + (tail * queue[i, 1] - sum_col) ** 2
                if best < 0 or away < best:
                    nearest, best = i, away
            r, c = queue[nearest]
            goal_row, goal_col, closest = r, c, 3
            for dr in range(-1, 2):
                for dc in range(-1, 2):
                    if label[r + dr, c + dc] == FREE and abs(dr) + abs(dc) < closest:
                        goal_row, goal_col, closest = r + dr, c + dc, abs(dr) + abs(dc)
            if n == len(clusters):
                larger = np.empty((2 * n, 3))
                larger[:n] = clusters
                clusters = larger
            clusters[n, 0], clusters[n, 1], clusters[n, 2] = tail, goal_row, goal_col
            n += 1
    return clusters[:n]


@compiled
def plan_to_frontier(
    label: Any,
    pose: Any,
    clusters: Any,
    rule: FrontierRule,
    random: Any,
    e: int,
    scratch: Scratch,
    plan: Any,
) -> int:
    """Sample a subgoal among ``clusters``, float64[n, 3], and plan to it; return the plan's length, 0 if there is none.

    Subgoals that turn out to be unreachable are dropped and the others sampled again.
    """
    n = len(clusters)
    weights = np.zeros(n)
    largest = 0.0
    for i in range(n):
        largest = max(largest, clusters[i, 0])
    for i in range(n):
        down, across = clusters[i, 1] - pose[0], clusters[i, 2] - pose[1]
        away = np.sqrt(down**2 + across**2)
        if clusters[i, 0] < min(float(rule.least), largest) or away == 0.0:
            continue
        weights[i] = 1.0 / away
        if rule.by_size:
            weights[i] *= clusters[i, 0]
        if rule.heading_bias and down * STEP_ROWS[pose[2]] + across * STEP_COLS[pose[2]] < 0:
            weights[i] *= BEHIND
    for _ in range(n):
        total = weights.sum()
        if total <= 0.0:
            return 0
        left = next_random(random, e) * total
        chosen = n - 1
        for i in range(n):
            left -= weights[i]
            if left < 0.0:
                chosen = i
                break
        while chosen > 0 and weights[chosen] == 0.0:
            chosen -= 1  # rounding can end past the last subgoal that has a weight
        row, col = int(clusters[chosen, 1]), int(clusters[chosen, 2])
        length = plan_to_state(label, pose, row, col, quadrant(row - pose[0], col - pose[1]), scratch, plan)
        if length > 0:
            return length
        weights[chosen] = 0.0
    return 0


@compiled
def quadrant(down: int, across: int) -> int:
    """The heading in whose quadrant a displacement lies."""
    if abs(down) >= abs(across):
        return 0 if down < 0 else 1
    return 2 if across < 0 else 3
