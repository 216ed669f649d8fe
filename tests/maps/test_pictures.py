import networkx as nx
import numpy as np
import torch

from farl.figures import figure_array
from farl.maps.geometry import FREE
from farl.maps.pictures import draw_explored


def stored(row, col):
    return {"label": torch.full((4, 4), FREE, dtype=torch.int32), "corner": [row, col]}


def picture(fragments, graph=None, way=()):
    walls = np.ones((20, 20), bool)
    walls[2:18, 2:18] = False
    steps = np.array(way, np.int64).reshape(-1, 2)
    return figure_array(draw_explored(walls, (5, 5), steps, fragments, graph or nx.MultiGraph(), complete=True))


def test_fragments_their_borders_and_the_way_are_drawn():
    two = {0: stored(0, 0), 1: stored(4, 4)}
    graph = nx.MultiGraph()
    graph.add_edge(0, 1, position=[4, 4, 0])
    plain = picture(two)
    assert (plain != picture({0: two[0]})).any()
    assert (plain != picture(two, graph)).any()
    assert (plain != picture(two, way=[[5, 5], [12, 12]])).any()
