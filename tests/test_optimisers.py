"""TRAC by hand, and what happens to it when somebody else writes to the parameters."""

import copy
import math
import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from scipy.special import erfi
from torch import nn

from farl.errors import ConfigError
from farl.optimisers import BETAS, Trac, TracAdam
from farl.particles import WPF

DOUBLE = torch.float64


def test_trac_makes_the_first_two_steps_computed_by_hand():
    x = nn.Parameter(torch.tensor([1.0], dtype=DOUBLE))
    trac = Trac([x], partial(torch.optim.SGD, lr=0.1), scale=1e-2, epsilon=1e-8)
    unit = erfi(1 / math.sqrt(2))
    sigma, variance = [1e-8] * 6, [0.0] * 6

    def scale(h):
        total = 0.0
        for i, beta in enumerate(BETAS):
            variance[i] = beta**2 * variance[i] + h**2
            sigma[i] = beta * sigma[i] - h
            ratio = sigma[i] / (math.sqrt(2 * variance[i]) + 1e-8)
            total += 1e-2 / unit * erfi(ratio)
        return max(total, 0.0)

    x.grad = torch.tensor([2.0], dtype=DOUBLE)
    trac.step()
    first = scale(0.0)
    assert x.item() == pytest.approx(1 - 0.2 * first, abs=1e-14)
    x.grad = torch.tensor([3.0], dtype=DOUBLE)
    trac.step()
    way = -0.2 * first / (first + 1e-8)
    second = scale(3.0 * way)
    assert x.item() == pytest.approx(1 + second * (way - 0.3), abs=1e-14)


def test_trac_tunes_every_particle_as_it_would_alone_and_resumes_exactly():
    torch.manual_seed(0)
    start, targets = torch.randn(3, 4, dtype=DOUBLE), torch.randn(3, 4, dtype=DOUBLE)
    base = partial(torch.optim.Adam, lr=0.1)

    def walk(x, target, steps, trac):
        for _ in range(steps):
            x.grad = x.detach() - target
            trac.step()

    together = nn.Parameter(start.clone())
    walk(together, targets, 30, Trac([together], base, scale=0.1, per_particle=True))
    for i in range(3):
        alone = nn.Parameter(start[i].clone())
        walk(alone, targets[i], 30, Trac([alone], base, scale=0.1))
        torch.testing.assert_close(together[i].detach(), alone.detach())
    again = nn.Parameter(start.clone())
    first = Trac([again], base, scale=0.1, per_particle=True)
    walk(again, targets, 15, first)
    second = Trac([again], base, scale=0.1, per_particle=True)
    second.load_state_dict(first.state_dict())
    walk(again, targets, 15, second)
    assert torch.equal(again.detach(), together.detach())


def test_trac_takes_no_closure():
    x = nn.Parameter(torch.zeros(1))
    with pytest.raises(ValueError, match="no closure"):
        Trac([x], partial(torch.optim.SGD, lr=0.1)).step(lambda: 0.0)


def walk(x, target, steps, trac):
    for _ in range(steps):
        x.grad = x.detach() - target
        trac.step()


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def learn(module, optimizer, steps):
    inputs = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(module(inputs), (inputs[:, 0] > 0).long()).backward()
        optimizer.step()


def test_weights_that_are_loaded_into_a_running_model_are_a_new_reference():
    other = nn.utils.parameters_to_vector(network().parameters()).detach() + 1.0
    moved = {}
    for kind in (TracAdam, torch.optim.Adam):
        module = network()
        optimizer = kind(module.parameters(), lr=1e-2)
        learn(module, optimizer, 200)
        nn.utils.vector_to_parameters(other, module.parameters())
        state = module.state_dict()
        learn(module, optimizer, 1)
        module.load_state_dict(state)
        learn(module, optimizer, 1)
        moved[kind] = float((nn.utils.parameters_to_vector(module.parameters()) - other).norm())
    assert moved[TracAdam] <= moved[torch.optim.Adam]
    learn(module := network(), optimizer := TracAdam(module.parameters(), lr=1e-2), 5)
    fresh = network()
    learn(fresh, TracAdam(fresh.parameters(), lr=1e-2), 5)
    for a, b in zip(module.parameters(), fresh.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_only_the_particles_that_were_changed_begin_anew():
    torch.manual_seed(0)
    start, targets = torch.randn(3, 4, dtype=DOUBLE), torch.randn(3, 4, dtype=DOUBLE)
    base = partial(torch.optim.SGD, lr=0.1)
    together, kept = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    changed, same = (Trac([x], base, scale=0.1, per_particle=True) for x in (together, kept))
    walk(together, targets, 20, changed)
    walk(kept, targets, 20, same)
    with torch.no_grad():
        together[1] = 5.0
    walk(together, targets, 10, changed)
    walk(kept, targets, 10, same)
    torch.testing.assert_close(together[[0, 2]].detach(), kept[[0, 2]].detach())
    alone = nn.Parameter(torch.full((4,), 5.0, dtype=DOUBLE))
    walk(alone, targets[1], 10, Trac([alone], base, scale=0.1))
    torch.testing.assert_close(together[1].detach(), alone.detach())


def test_tensors_that_share_memory_do_not_take_each_others_steps_for_changes():
    stack = torch.zeros(4, 3, dtype=DOUBLE)
    leaves = [stack[row : row + 2].detach().requires_grad_() for row in (0, 2)]
    apart = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    for group in (leaves, apart):
        tracs = [Trac([leaf], partial(torch.optim.SGD, lr=0.1), scale=0.1, per_particle=True) for leaf in group]
        for _ in range(20):
            for leaf, trac in zip(group, tracs, strict=True):
                walk(leaf, 1.0, 1, trac)
    assert stack.abs().min() > 0.01
    for one, other in zip(leaves, apart, strict=True):
        torch.testing.assert_close(one, other)


def test_trac_goes_on_after_pickling_and_deep_copies():
    for copied in (copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))):
        module = network()
        optimizer = TracAdam(module.parameters(), lr=1e-2)
        learn(module, optimizer, 5)
        other, its = copied((module, optimizer))
        learn(module, optimizer, 5)
        learn(other, its, 5)
        for a, b in zip(module.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b)


def test_a_particle_that_is_redrawn_starts_from_where_it_was_drawn():
    torch.manual_seed(0)
    filter_ = WPF(nn.Linear(3, 2), 4, optimizer=lambda p: TracAdam(p, per_particle=True), backend="vmap")
    inputs, labels = torch.randn(8, 3), torch.randint(2, (8,))
    for _ in range(3):
        filter_.update(inputs, labels)
    with torch.no_grad():
        filter_.ensemble.parameters["weight"][2] = torch.nan
    filter_.update(inputs, labels)
    drawn = filter_.ensemble.parameters["weight"].clone()
    filter_.update(inputs, labels)
    torch.testing.assert_close(filter_.ensemble.parameters["weight"], drawn, atol=1e-4, rtol=0)
    assert drawn[2].abs().max() > 0.1


def test_what_trac_cannot_go_with_is_refused():
    with pytest.raises(ConfigError, match="weight decay"):
        TracAdam(network().parameters(), weight_decay=0.1)
    with pytest.raises(ConfigError, match="TRAC undo each other"):
        WPF(network(), 3, optimizer=TracAdam, pull=0.1)
