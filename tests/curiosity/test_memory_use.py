"""What the curiosity says that it holds is what the process takes for it, and a full memory takes no more."""

import gc

import networkx as nx
import numpy as np
import psutil
import pytest
import torch

from farl.curiosity import MODULES, RND, FARCuriosity, Transitions
from farl.curiosity.module import ActionSpec
from farl.fragmentation import NoRecall, Uniform
from farl.memory import LongTermMemory
from farl.memory.footprint import footprint, graph_footprint
from farl.memory.pages import OwnPages

N_ENVS = 4


def explore(curiosity, steps, every=20, seed=0):
    rng = np.random.default_rng(seed)
    for step in range(steps):
        seen = torch.from_numpy(rng.normal(size=(N_ENVS, 64)).astype(np.float32))
        curiosity.step(Transitions(seen, torch.zeros(N_ENVS), seen), np.zeros(N_ENVS, bool))
        if step % every == every - 1:
            curiosity.update()


def resident():
    gc.collect()
    return psutil.Process().memory_info().rss


def make(capacity, **settings):
    memory = LongTermMemory(capacity)
    module = RND((64,), features=64, hidden=128, seed=1)
    return FARCuriosity(module, memory, Uniform(5), NoRecall(), N_ENVS, warmup=8, batch_size=16, **settings)


def test_memory_that_is_reported_is_what_the_process_takes_and_a_full_memory_takes_no_more():
    curiosity = make(capacity=240)
    explore(curiosity, 120)  # libraries and the heap grow by what is made once
    before, reported = resident(), curiosity.memory_bytes
    explore(curiosity, 190)
    grown, more = resident() - before, curiosity.memory_bytes - reported
    assert len(curiosity.memory) == 240
    assert more > 40 * 2**20
    assert grown == pytest.approx(more, rel=0.1)
    full, files = resident(), psutil.Process().num_fds()
    explore(curiosity, 120, seed=1)
    assert curiosity.router.fractures > 300
    assert resident() == pytest.approx(full, rel=0.05)
    assert psutil.Process().num_fds() == files


def test_every_part_that_grows_is_counted():
    curiosity = make(capacity=50)
    explore(curiosity, 20)
    empty = curiosity.memory_parts
    explore(curiosity, 61, every=60)
    grown = {name: size - empty[name] for name, size in curiosity.memory_parts.items()}
    waiting = curiosity.trainer.state_dict()["waiting"]["prepared"]
    assert grown["modules"] >= 10 * curiosity.modules.bank.module_bytes
    assert grown["samples"] > sum(tensor.nbytes for tensor in waiting.values()) - empty["samples"]
    assert grown["index"] >= len(curiosity.memory.graph.edges) * 300
    assert sum(curiosity.memory_parts.values()) == curiosity.memory_bytes


def test_copies_and_gradients_that_updates_work_with_are_counted():
    curiosity = make(capacity=50)
    explore(curiosity, 61, every=60)
    bank, ids = curiosity.modules.bank, np.array(curiosity.memory.ids[:4])
    assert curiosity.memory_parts["working"] == curiosity.trainer.working_bytes
    prepared = curiosity.module.prepare(Transitions(*(torch.zeros(4, 64), torch.zeros(4), torch.zeros(4, 64))))
    parameters = bank.module_bytes // 3
    curiosity.modules.train(ids, prepared)
    assert bank.copied_bytes == 8 * parameters  # and gradients
    apart = ids[[0, 1, 3]]
    curiosity.modules.train(apart, {name: tensor[:3] for name, tensor in prepared.items()})
    assert bank.copied_bytes == 6 * parameters


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"recognition"}))
def test_what_modules_hold_of_their_own_is_counted(name):
    """At the least their parameters and buffers."""
    module = MODULES[name]().build((6,), ActionSpec(3, discrete=True), seed=0)
    held = {tensor.data_ptr(): tensor.nbytes for tensor in (*module.parameters(), *module.buffers())}
    assert sum(held.values()) <= footprint(module) <= 1.5 * sum(held.values()) + 100_000


class Keeps:
    __module__ = "farl.test"

    def __init__(self, held):
        self.held = held


class KeepsMore(Keeps):
    __module__ = "farl.test"
    held_bytes = 5


def test_tensors_and_arrays_count_once_wherever_they_are():
    tensor, array = torch.zeros(1000, 100), np.zeros(100)
    assert footprint(tensor) == 400_000
    assert footprint([tensor, {"a": tensor, "b": tensor.numpy()}], Keeps([array])) == 400_800
    assert footprint(Keeps(array), tensor, apart_from=[tensor]) == 800
    assert footprint(KeepsMore(tensor), object(), "text", Keeps, np.zeros(0)) == 5
    circle = Keeps(array)
    circle.again = circle
    assert footprint(circle) == 800


def test_a_graph_counts_by_its_size():
    graph = nx.MultiGraph()
    graph.add_nodes_from(range(100))
    nodes = graph_footprint(graph)
    graph.add_edges_from((node, node + 1, {"kind": "recall", "position": [1, 2]}) for node in range(99))
    assert nodes == 100 * graph_footprint(nx.MultiGraph({0: {}}))
    assert 99 * 500 < graph_footprint(graph) - nodes < 99 * 1500


@pytest.mark.parametrize("shape", [(3, 5), (3, 70_000), (0, 4)])
def test_pages_of_their_own_hold_zeros_that_can_be_written_and_given_back(shape):
    pages = OwnPages(shape)
    tensor = pages.tensor
    assert tensor.shape == shape
    assert tensor.dtype == torch.float32
    assert not tensor.any()
    tensor += 1.0
    assert tensor.sum() == tensor.numel()
    row = shape[1]
    pages.give_back(row, 2 * row)
    assert (tensor[[0, 2]] == 1.0).all() if len(tensor) else True
    del pages
    assert (tensor[:1] == 1.0).all()


def test_pages_take_memory_while_they_are_used():
    before, size = resident(), 40_000_000
    pages = OwnPages((4, size // 4))
    assert resident() - before < size
    pages.tensor[1:3] = 1.0
    assert resident() - before == pytest.approx(2 * size, rel=0.1)
    pages.give_back(size // 4, size // 2)
    assert resident() - before == pytest.approx(size, rel=0.1)
    del pages
    assert resident() - before < 0.1 * size
