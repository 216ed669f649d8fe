"""Each method on a case computed by hand: a network of one weight, or two particles side by side."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from farl.continual.replay import AGEM, DarkExperienceReplay, ExperienceReplay, Reservoir, project
from farl.continual.strategies import EWC, LearningWithoutForgetting, OnlineEWC, Strategy, SynapticIntelligence
from farl.particles import WPF

DOUBLE = torch.float64


def networks(strategy, n=2, lr=0.1, replicas=(0,)):
    torch.manual_seed(0)
    filter_ = WPF(
        nn.Linear(3, 2).double(),
        n,
        replicas=replicas,
        optimizer=partial(torch.optim.SGD, lr=lr),
        backend="vmap",
        init="independent",
    )
    strategy.attach(filter_)
    return filter_


def batch(seed=0, size=4, n=2):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 3, generator=generator, dtype=DOUBLE)
    labels = torch.randint(2, (size,), generator=generator)
    return inputs.expand(n, size, 3), labels.expand(n, size)


def learn(filter_, strategy, inputs, labels):
    prepared = strategy.prepare(inputs, labels)
    filter_.step(
        strategy.objective,
        *prepared,
        likelihood=strategy.likelihood,
        adjust=strategy.adjust,
        per_particle=True,
    )
    strategy.after_step(inputs, labels)


def single_gradients(weight, bias, inputs, labels):
    """Gradients of the cross entropy of single samples for one particle, in closed form: (p - y) x^T."""
    p = (inputs @ weight.T + bias).softmax(-1) - F.one_hot(labels, 2)
    return p[:, :, None] * inputs[:, None, :], p


@pytest.mark.parametrize("kind", [EWC, OnlineEWC])
def test_ewc_penalises_by_the_mean_squared_gradient_of_single_samples(kind):
    strategy = kind(strength=2.0)
    filter_ = networks(strategy)
    inputs, labels = batch()
    learn(filter_, strategy, inputs, labels)
    anchor = {name: value.clone() for name, value in filter_.ensemble.parameters.items()}
    strategy.end_task(inputs, labels)
    learn(filter_, strategy, *batch(1))  # away from the anchor
    before = {name: value.clone() for name, value in filter_.ensemble.parameters.items()}
    plain = networks(Strategy())
    for name, value in plain.ensemble.parameters.items():
        value.copy_(before[name])
    learn(filter_, strategy, *batch(2))
    learn(plain, Strategy(), *batch(2))
    for i in range(2):
        gradient, _ = single_gradients(anchor["weight"][i], anchor["bias"][i], inputs[i], labels[i])
        fisher = (gradient**2).mean(0)
        extra = 0.1 * 2.0 * fisher * (before["weight"][i] - anchor["weight"][i])
        torch.testing.assert_close(
            filter_.ensemble.parameters["weight"][i], plain.ensemble.parameters["weight"][i] - extra
        )


def importance_after_two_tasks(strategy):
    filter_ = networks(strategy)
    fishers, anchors = [], []
    for task in range(2):
        learn(filter_, strategy, *batch(task))
        anchors.append(filter_.ensemble.parameters["weight"].clone())
        fishers.append(strategy.fisher(*batch(task))["weight"])
        strategy.end_task(*batch(task))
    return fishers, anchors


def test_ewc_adds_up_one_penalty_for_each_task_at_its_own_anchor():
    strategy = EWC()
    (first, second), (a, b) = importance_after_two_tasks(strategy)
    torch.testing.assert_close(strategy.importance["weight"], first + second)
    torch.testing.assert_close(strategy.anchored["weight"], first * a + second * b)


def test_online_ewc_fades_old_information_and_anchors_at_the_latest_solution():
    strategy = OnlineEWC(decay=0.5)
    (first, second), (_, b) = importance_after_two_tasks(strategy)
    torch.testing.assert_close(strategy.importance["weight"], 0.5 * first + second)
    torch.testing.assert_close(strategy.anchored["weight"], (0.5 * first + second) * b)


def test_synaptic_intelligence_divides_the_path_integral_by_the_distance():
    strategy = SynapticIntelligence(damping=0.01)
    filter_ = networks(strategy)
    start = filter_.ensemble.parameters["weight"].clone()
    path = torch.zeros_like(start)
    for seed in range(3):
        inputs, labels = batch(seed)
        weight, bias = (filter_.ensemble.parameters[name].clone() for name in ("weight", "bias"))
        learn(filter_, strategy, inputs, labels)
        gradient = torch.stack(
            [single_gradients(weight[i], bias[i], inputs[i], labels[i])[0].mean(0) for i in range(2)]
        )
        path -= gradient * (filter_.ensemble.parameters["weight"] - weight)
    strategy.end_task(*batch(2))
    end = filter_.ensemble.parameters["weight"]
    torch.testing.assert_close(strategy.importance["weight"], path.clamp_min(0) / ((end - start) ** 2 + 0.01))
    torch.testing.assert_close(strategy.path["weight"], torch.zeros_like(path))


def test_learning_without_forgetting_adds_the_distance_to_the_previous_networks():
    strategy = LearningWithoutForgetting(strength=3.0, temperature=2.0)
    filter_ = networks(strategy)
    assert len(strategy.prepare(*batch())) == 2
    strategy.end_task(*batch())
    teacher = filter_.ensemble.snapshot()[0]
    learn(filter_, strategy, *batch(1))
    inputs, labels = batch(2)
    prepared = strategy.prepare(inputs, labels)
    old = torch.einsum("nbi,noi->nbo", inputs, teacher["weight"]) + teacher["bias"][:, None]
    torch.testing.assert_close(prepared[2], old)
    new = torch.tensor([[2.0, 0.0]], dtype=DOUBLE)
    said = torch.tensor([[0.0, 0.0]], dtype=DOUBLE)
    loss = strategy.objective(lambda x: new, torch.zeros(1, 3), torch.tensor([0]), said)
    # KL(1/2, 1/2 || sigmoid(1), sigmoid(-1)) by hand, times strength T^2.
    p = 1 / (1 + math.exp(-1))
    distance = 0.5 * math.log(0.5 / p) + 0.5 * math.log(0.5 / (1 - p))
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-2)) + 3 * 4 * distance)


def test_the_reservoir_is_a_uniform_sample_of_the_stream():
    reservoir = Reservoir(400, 1, 5, seed=0)
    for start in range(0, 20, 4):
        reservoir.add(torch.arange(start, start + 4).expand(400, 4))
    assert len(reservoir) == 5
    (held,) = reservoir._store
    counts = torch.bincount(held.flatten(), minlength=20)
    assert all(len(set(row.tolist())) == 5 for row in held)
    # 400 x 5 / 20 = 100 each, with a standard deviation below 9.
    assert ((counts - 100).abs() < 40).all()


def test_networks_of_a_replica_share_a_buffer_and_replicas_do_not():
    reservoir = Reservoir(2, 3, 2, seed=0)
    stream = torch.arange(50).expand(6, 50)
    reservoir.add(stream)
    (held,) = reservoir._store
    assert torch.equal(held[0], held[1])
    assert torch.equal(held[3], held[5])
    assert not torch.equal(held[0], held[3])
    (drawn,) = reservoir.draw(4)
    assert drawn.shape == (6, 4)
    assert all(set(row.tolist()) <= set(kept.tolist()) for row, kept in zip(drawn, held, strict=True))


def test_experience_replay_learns_new_and_stored_samples_together():
    strategy = ExperienceReplay(capacity=4)
    filter_ = networks(strategy)
    learn(filter_, strategy, *batch(0))
    prepared = strategy.prepare(*batch(1))
    assert all(any(torch.equal(row, old) for old in batch(0)[0][0]) for row in prepared[2][0])
    weight, bias = (filter_.ensemble.parameters[name].clone() for name in ("weight", "bias"))
    filter_.step(strategy.objective, *prepared, per_particle=True)
    inputs, labels = torch.cat([prepared[0], prepared[2]], 1), torch.cat([prepared[1], prepared[3]], 1)
    gradient, _ = single_gradients(weight[0], bias[0], inputs[0], labels[0])
    torch.testing.assert_close(filter_.ensemble.parameters["weight"][0], weight[0] - 0.1 * gradient.mean(0))


def test_agem_removes_the_component_in_conflict_and_only_then():
    gradients = {"a": torch.tensor([[1.0, 0.0], [1.0, 0.0]]), "b": torch.tensor([[0.0], [2.0]])}
    reference = {"a": torch.tensor([[-1.0, 1.0], [1.0, 1.0]]), "b": torch.tensor([[0.0], [0.0]])}
    project(gradients, reference)
    # First network: inner product -1, |reference|^2 = 2, so g + r / 2. Second: no conflict.
    torch.testing.assert_close(gradients["a"], torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    torch.testing.assert_close(gradients["b"], torch.tensor([[0.0], [2.0]]))


def test_agem_does_not_raise_the_loss_of_stored_samples_where_plain_training_does():
    strategy = AGEM(capacity=4)
    filter_ = networks(strategy, lr=1e-3)
    inputs, labels = batch(0)
    learn(filter_, strategy, inputs, labels)
    strategy.prepare(inputs, 1 - labels)  # the same images with the opposite labels

    def rise(adjust):
        for value in filter_.ensemble.parameters.values():
            value.zero_()
        stored = partial(filter_.ensemble.evaluate, 0, Strategy().objective, strategy._reference, per_particle=True)
        before = stored()
        filter_.step(strategy.objective, inputs, 1 - labels, adjust=adjust, per_particle=True)
        return stored() - before

    assert (rise(None) > 1e-4).all()
    assert (rise(strategy.adjust) < 1e-6).all()


def test_dark_experience_replay_stores_the_logits_of_the_time_and_weighs_three_terms():
    strategy = DarkExperienceReplay(alpha=0.3, beta=0.7, capacity=4)
    filter_ = networks(strategy)
    inputs, labels = batch(0)
    before = filter_.ensemble(inputs, per_particle=True)
    learn(filter_, strategy, inputs, labels)
    torch.testing.assert_close(strategy.buffer._store[2], before)
    logits = {
        0.0: torch.tensor([1.0, 0.0], dtype=DOUBLE),
        1.0: torch.tensor([2.0, 0.0], dtype=DOUBLE),
        2.0: torch.tensor([0.0, 3.0], dtype=DOUBLE),
    }
    x = [torch.full((1, 3), float(k)) for k in range(3)]
    loss = strategy.objective(
        lambda inputs: torch.stack([logits[float(row[0])] for row in inputs]),
        x[0],
        torch.tensor([0]),
        x[1],
        torch.tensor([[1.0, 1.0]], dtype=DOUBLE),
        x[2],
        torch.tensor([0]),
    )
    expected = math.log(1 + math.exp(-1)) + 0.3 * (1 + 1) / 2 + 0.7 * math.log(1 + math.exp(3))
    assert float(loss) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EWC(strength=-1), "strength must be"),
        (lambda: EWC(strength=math.nan), "strength must be"),
        (lambda: OnlineEWC(decay=2), "decay must lie"),
        (lambda: SynapticIntelligence(damping=0), "damping must be positive"),
        (lambda: LearningWithoutForgetting(temperature=0), "temperature positive"),
        (lambda: Reservoir(1, 1, 0), "capacity of at least 1"),
    ],
)
def test_wrong_settings_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
