import itertools
import logging
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from farl.particles import WPF, DatasetTempering, EssFloorTempering, FixedTempering, Resampling
from farl.particles.resampling import multinomial, systematic
from farl.particles.weights import effective_sample_size, temperature_for

SGD = torch.optim.SGD


def batches(n=5, size=6, features=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(size, features, dtype=torch.float64, generator=generator),
            torch.randint(2, (size,), generator=generator),
        )
        for _ in range(n)
    ]


def double(features=3, classes=2):
    return nn.Linear(features, classes).double()


def run(order, lr, loss=F.cross_entropy, **arguments):
    torch.manual_seed(0)
    filter_ = WPF(double(), 8, loss=loss, optimizer=partial(SGD, lr=lr), backend="vmap", **arguments)
    data = batches()
    for i in order:
        filter_.update(*data[i])
    return filter_


def distance(a, b):
    return max(
        float((p - q).abs().max())
        for p, q in zip(a.ensemble.parameters.values(), b.ensemble.parameters.values(), strict=True)
    )


@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_weights_of_fixed_particles_do_not_depend_on_the_order_of_batches(order):
    first, second = run(range(5), 0.0), run(order, 0.0)
    assert (first.log_weights - second.log_weights).abs().max() < 1e-12
    assert effective_sample_size(first.log_weights) < 7.99


@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_under_linear_losses_neither_positions_nor_weights_depend_on_the_order(order):
    def linear(outputs, targets):
        return (outputs * torch.stack([targets, 1 - 3 * targets], -1)).mean()

    first, second = run(range(5), 0.3, linear), run(order, 0.3, linear)
    assert distance(first, second) < 1e-10
    assert (first.log_weights - second.log_weights).abs().max() < 1e-10
    assert distance(first, run([], 0.3)) > 0.1


def test_under_logistic_losses_the_difference_between_orders_falls_as_the_square_of_the_learning_rate():
    rates = torch.tensor([1e-4, 1e-3, 1e-2], dtype=torch.float64)
    differences = torch.tensor(
        [distance(run(range(5), float(lr)), run((4, 3, 2, 1, 0), float(lr))) for lr in rates], dtype=torch.float64
    )
    x, y = rates.log(), differences.log()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    assert 1.8 < slope < 2.2


def test_one_update_is_the_published_one_on_a_case_computed_by_hand():
    # One weight x, loss x^2 / 2 at input 1 and target 0: the gradient is x, so x' = (1 - lr) x.
    module = nn.Linear(1, 1, bias=False).double()
    filter_ = WPF(module, 2, loss=lambda out, target: ((out - target) ** 2 / 2).mean(), optimizer=partial(SGD, lr=0.5))
    with torch.no_grad():
        filter_.ensemble.parameters["weight"].copy_(torch.tensor([1.0, 3.0]).reshape(2, 1, 1))
    filter_.update(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    assert filter_.ensemble.parameters["weight"].flatten().tolist() == [0.5, 1.5]
    evidence = torch.tensor([(0.5 + 0.125) / 2, (4.5 + 1.125) / 2], dtype=torch.float64)
    torch.testing.assert_close(filter_.weights, torch.softmax(-evidence, 0))


def test_any_elementwise_optimiser_moves_each_particle_as_it_would_move_alone():
    torch.manual_seed(0)
    filter_ = WPF(double(), 3, optimizer=partial(torch.optim.Adam, lr=0.1), backend="chunked", chunk_size=2)
    start = filter_.ensemble.snapshot()[0]
    for data in batches():
        filter_.update(*data)
    for i in range(3):
        alone = double()
        alone.load_state_dict({name: value[i] for name, value in start.items()})
        optimizer = torch.optim.Adam(alone.parameters(), lr=0.1)
        for inputs, targets in batches():
            optimizer.zero_grad()
            F.cross_entropy(alone(inputs), targets).backward()
            optimizer.step()
        for name, value in alone.named_parameters():
            torch.testing.assert_close(filter_.ensemble.parameters[name][i], value.detach())


class Recurrent(nn.Module):
    """Uses one weight twice, and another besides in a product of its own."""

    def __init__(self):
        super().__init__()
        self.step = nn.Linear(3, 3, bias=False)
        self.head = nn.Linear(3, 2)

    def forward(self, inputs):
        hidden = torch.tanh(self.step(torch.tanh(self.step(inputs))))
        return self.head(hidden) + (hidden @ self.head.weight.T).sin()


@pytest.mark.parametrize("broken", [False, True])
def test_plain_descent_by_factors_of_the_gradients_is_descent_by_the_gradients(broken):
    def moved(**options):
        torch.manual_seed(0)
        filter_ = WPF(Recurrent().double(), 5, optimizer=partial(SGD, lr=0.3), backend="vmap", seed=1)
        if broken:
            with torch.no_grad():
                filter_.ensemble.parameters["step.weight"][2] = torch.nan
        for inputs, targets in batches():
            filter_.step(filter_.objective, inputs, targets, **options)
        return filter_

    # A function that may change the gradients has to be given whole ones.
    by_factors, whole = moved(), moved(adjust=lambda chunk, leaves: None)
    assert by_factors.optimizer.is_plain_descent
    assert distance(by_factors, moved(adjust=lambda chunk, leaves: leaves["step.weight"].grad.zero_())) > 1e-3
    assert distance(by_factors, whole) < 1e-12
    torch.testing.assert_close(by_factors.log_weights, whole.log_weights)


@pytest.mark.parametrize("optimizer", [SGD, torch.optim.Adam])
def test_auto_takes_many_small_networks_at_once(optimizer, caplog):
    module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    filter_ = WPF(module, 30, optimizer=partial(optimizer, lr=0.1), backend="auto")
    with caplog.at_level(logging.WARNING):
        filter_.update(*batches()[0])
    assert not caplog.text
    assert filter_.ensemble.chunk_size > 1


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"weight_decay": 0.1}, {"maximize": True}])
def test_only_plain_descent_goes_by_factors(options):
    filter_ = WPF(double(), 3, optimizer=partial(SGD, lr=0.3, **options), backend="vmap")
    assert not filter_.optimizer.is_plain_descent


def test_an_optimiser_that_would_couple_particles_is_refused():
    filter_ = WPF(double(), 3, optimizer=torch.optim.LBFGS)
    with pytest.raises(ValueError, match="LBFGS does not act on every element"):
        filter_.update(*batches()[0])


def test_replicas_equal_separate_filters_with_their_own_batches():
    torch.manual_seed(0)
    module = double()
    data = [batches(seed=seed) for seed in (0, 1)]
    together = WPF(module, 4, replicas=(5, 6), optimizer=partial(SGD, lr=0.1))
    for pair in zip(*data, strict=True):
        together.update(torch.stack([p[0] for p in pair]), torch.stack([p[1] for p in pair]))
    for r, seed in enumerate((5, 6)):
        alone = WPF(module, 4, replicas=(seed,), optimizer=partial(SGD, lr=0.1))
        for inputs, targets in data[r]:
            alone.update(inputs[None], targets[None])
        torch.testing.assert_close(together.log_weights[r], alone.log_weights[0])
        test = data[0][0][0]
        torch.testing.assert_close(together.predict(test)[r], alone.predict(test)[0])


def test_replicas_need_a_batch_for_each():
    with pytest.raises(ValueError, match="first axis of 2 replicas"):
        WPF(double(), 4, replicas=(5, 6)).update(*batches()[0])


@pytest.mark.parametrize("mixture", ["probabilities", "logits", "mean"])
def test_the_prediction_is_the_weighted_mixture(mixture):
    filter_ = run(range(5), 0.1, mixture=mixture)
    inputs = batches()[0][0]
    outputs, weight = filter_.ensemble(inputs), filter_.weights[:, None, None]
    expected = {
        "probabilities": (weight * outputs.softmax(-1)).sum(0),
        "logits": (weight * outputs).sum(0).softmax(-1),
        "mean": (weight * outputs).sum(0),
    }
    torch.testing.assert_close(filter_.predict(inputs, batch_size=4), expected[mixture])


def test_fit_learns_a_separable_problem_and_predicts_probabilities():
    torch.manual_seed(0)
    inputs = torch.randn(256, 2)
    targets = (inputs[:, 0] > inputs[:, 1]).long()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(inputs, targets), batch_size=8)
    filter_ = WPF(nn.Linear(2, 2), n_particles=10, optimizer=partial(SGD, lr=0.1)).fit(loader, progress=False)
    probabilities = filter_.predict(inputs)
    assert (probabilities.argmax(-1) == targets).float().mean() > 0.9
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(256))


@pytest.mark.parametrize("optimizer", [partial(SGD, lr=0.1, momentum=0.9), partial(torch.optim.Adam, lr=0.05)])
def test_a_loaded_filter_goes_on_exactly_as_the_saved_one(tmp_path, optimizer):
    data = batches(8)
    arguments = {"optimizer": optimizer, "resampling": Resampling(threshold=0.9), "backend": "vmap"}
    torch.manual_seed(0)
    filter_ = WPF(double(), 6, mixture="logits", tempering=FixedTempering(50.0), **arguments)
    for pair in data[:4]:
        filter_.update(*pair)
    filter_.save(tmp_path / "filter.safetensors")
    loaded = WPF.load(tmp_path / "filter.safetensors", double(), tempering=FixedTempering(50.0), **arguments)
    for pair in data[4:]:
        filter_.update(*pair)
        loaded.update(*pair)
    assert distance(filter_, loaded) == 0
    assert torch.equal(filter_.log_weights, loaded.log_weights)
    assert torch.equal(filter_.predict(data[0][0]), loaded.predict(data[0][0]))
    assert [p.name for p in tmp_path.iterdir()] == ["filter.safetensors"]


def test_fit_refuses_a_loader_without_batches_and_changes_nothing():
    filter_ = WPF(nn.Linear(2, 2), n_particles=3)
    filter_.ensemble.train(False)
    before = filter_.ensemble.snapshot()
    nothing = torch.utils.data.TensorDataset(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match=r"pass 1 of 1: loader .*empty.*DataLoader"):
        filter_.fit(torch.utils.data.DataLoader(nothing), progress=False)
    torch.testing.assert_close(filter_.ensemble.snapshot(), before, rtol=0, atol=0)
    assert not filter_.ensemble.module.training
    once = iter([(torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))])
    with pytest.raises(ValueError, match=r"pass 2 of 2: loader .*used up.*iterator"):
        filter_.fit(once, epochs=2, progress=False)


def test_files_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "filter.safetensors"
    filter_ = WPF(double(), 4)
    filter_.save(path)
    with pytest.raises(ValueError, match="another network"):
        WPF.load(path, double(features=4))
    with pytest.raises(ValueError, match="build it alike"):
        WPF(double(), 5).restore(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        WPF.load(path, double())
    with pytest.raises(ValueError, match="no such file"):
        WPF.load(tmp_path / "other", double())
    with pytest.raises(ValueError, match=r"folder .* does not exist"):
        filter_.save(tmp_path / "missing" / "filter.safetensors")


def test_dataset_tempering_counts_every_sample_once_however_the_data_are_cut():
    inputs, targets = (torch.cat(parts) for parts in zip(*batches(4), strict=True))
    data = torch.utils.data.TensorDataset(inputs, targets)

    def evidence(batch_size, epochs):
        torch.manual_seed(0)
        filter_ = WPF(double(), 8, optimizer=partial(SGD, lr=0.0), tempering=DatasetTempering())
        loader = torch.utils.data.DataLoader(data, batch_size=batch_size)
        return filter_, filter_.fit(loader, epochs=epochs, progress=False).log_weights

    filter_, whole = evidence(24, 1)
    torch.testing.assert_close(whole, evidence(4, 3)[1])
    losses = torch.stack([F.cross_entropy(out, targets, reduction="sum") for out in filter_.ensemble(inputs)])
    torch.testing.assert_close(whole, torch.log_softmax(-losses, 0))


def test_the_floor_of_the_effective_sample_size_is_met_and_does_not_break_order_invariance():
    tempering = EssFloorTempering(floor=0.5, beta=100.0)
    orders = list(itertools.islice(itertools.permutations(range(5)), 0, 120, 40))
    filters = [run(order, 0.0, tempering=tempering) for order in orders]
    assert effective_sample_size(filters[0].log_weights) < 2
    torch.testing.assert_close(filters[0].effective_sample_size, torch.tensor(4.0, dtype=torch.float64))
    for other in filters[1:]:
        assert (filters[0].weights - other.weights).abs().max() < 1e-10


def test_the_temperature_is_one_where_the_floor_holds_anyway():
    log_weights = torch.tensor([[0.0, 0.1, -0.1], [0.0, 50.0, 0.0]])
    tau = temperature_for(log_weights, 2.0)
    assert tau[0] == 1
    assert tau[1] < 1


def test_beta_zero_is_plain_averaging():
    filter_ = run(range(5), 0.1, tempering=FixedTempering(0.0))
    torch.testing.assert_close(filter_.weights, torch.full((8,), 1 / 8, dtype=torch.float64))


def test_resampling_keeps_heavy_particles_and_levels_the_weights():
    torch.manual_seed(0)
    filter_ = WPF(double(), 8, optimizer=partial(SGD, lr=0.0), resampling=Resampling(threshold=0.5, jitter=0.0))
    filter_.log_weights = torch.log_softmax(torch.tensor([0.0] * 7 + [30.0], dtype=torch.float64), 0)
    heavy = filter_.ensemble.parameters["weight"][7].clone()
    report = filter_.update(*batches()[0])
    assert bool(report.resampled)
    torch.testing.assert_close(filter_.ensemble.parameters["weight"], heavy.expand(8, -1, -1))
    torch.testing.assert_close(filter_.weights, torch.full((8,), 1 / 8, dtype=torch.float64))


def test_systematic_resampling_gives_each_particle_floor_or_ceil_of_its_share():
    weight = torch.tensor([0.5, 0.26, 0.14, 0.1]).repeat_interleave(5) / 5
    for seed in range(20):
        ancestors = systematic(weight, torch.Generator().manual_seed(seed))
        counts = torch.bincount(ancestors, minlength=20)
        assert ((counts - 20 * weight).abs() < 1).all()


def test_multinomial_resampling_is_unbiased():
    weight = torch.tensor([0.7, 0.2, 0.1])
    drawn = multinomial(weight.expand(5000, 3), torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.bincount(drawn.flatten()) / 15000, weight, atol=0.02, rtol=0)


def test_mixture_motion_follows_the_gradient_of_the_mixture_likelihood():
    torch.manual_seed(0)
    filter_ = WPF(double(), 3, optimizer=partial(SGD, lr=1.0), motion="mixture", init="independent")
    inputs, targets = batches()[0]
    start = {name: value.clone().requires_grad_() for name, value in filter_.ensemble.parameters.items()}
    outputs = torch.einsum("bi,noi->nbo", inputs, start["weight"]) + start["bias"][:, None]
    losses = torch.stack([F.cross_entropy(out, targets) for out in outputs])
    (-torch.logsumexp(-losses - torch.tensor(3.0).log(), 0)).backward()
    filter_.update(inputs, targets)
    for name, value in start.items():
        torch.testing.assert_close(filter_.ensemble.parameters[name], (value - 3 * value.grad).detach())


def test_the_pull_moves_particles_to_their_weighted_mean():
    filter_ = run([], 0.0, pull=0.25)
    filter_.update(*batches()[0])
    moved = filter_.ensemble.parameters["weight"]
    start = run([], 0.0).ensemble.parameters["weight"]
    mean = (filter_.weights[:, None, None] * start).sum(0)
    torch.testing.assert_close(moved, 0.75 * start + 0.25 * mean)


def test_a_particle_with_a_loss_that_is_not_finite_is_redrawn_and_touches_no_other(caplog):
    def spoiled(position):
        torch.manual_seed(0)
        filter_ = WPF(double(), 5, optimizer=partial(torch.optim.Adam, lr=0.1), backend="vmap")
        filter_.update(*batches()[0])
        with torch.no_grad():
            if position is not None:
                filter_.ensemble.parameters["weight"][position, 0, 0] = torch.nan
        with caplog.at_level(logging.WARNING):
            report = filter_.update(*batches()[1])
        return filter_, report

    sound, report = spoiled(None)
    assert report.redrawn == 0
    assert not caplog.text
    filter_, report = spoiled(2)
    assert report.redrawn == 1
    assert "1 of 5 particles had a loss that is not finite" in caplog.text
    others = [0, 1, 3, 4]
    for name, value in filter_.ensemble.parameters.items():
        assert value.isfinite().all()
        torch.testing.assert_close(value[others], sound.ensemble.parameters[name][others])
    assert filter_.log_weights.isfinite().all()
    filter_.update(*batches()[2])
    assert filter_.predict(batches()[0][0]).isfinite().all()


def test_a_batch_that_breaks_every_particle_raises():
    filter_ = WPF(double(), 3)
    with pytest.raises(FloatingPointError, match="every particle is not finite"):
        filter_.update(torch.full((4, 3), torch.nan, dtype=torch.float64), torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixture": "votes"}, "mixture must be"),
        ({"motion": "still"}, "motion must be"),
        ({"pull": 1.0}, "pull is a share"),
        ({"n_particles": 0}, "n_particles must be"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        WPF(double(), **arguments)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: EssFloorTempering(floor=0), "floor is a share"),
        (lambda: FixedTempering(-1), "beta must be"),
        (lambda: Resampling(threshold=2), "threshold is a share"),
        (lambda: Resampling(jitter=-1), "jitter must be"),
    ],
)
def test_wrong_settings_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()
