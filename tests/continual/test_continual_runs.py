import numpy as np
import pytest
import torch
from torch import nn

from farl.continual import METHODS, FilterLearner, Setting, Task, from_datasets, metrics, run_sequence
from farl.continual.data import Images
from farl.errors import ConfigError
from farl.particles import WPF, FixedTempering
from farl.particles.last_layer import LastLayerFilter, split_last_layer

# Three tasks, learnt in order; rows: before, after the first, second, third.
ACCURACY = np.array([[0.5, 0.4, 0.6], [0.9, 0.5, 0.6], [0.7, 1.0, 0.8], [0.8, 0.6, 0.9]])


def test_metrics_on_a_table_computed_by_hand():
    assert metrics.average_accuracy(ACCURACY) == pytest.approx((0.8 + 0.6 + 0.9) / 3)
    assert metrics.plasticity(ACCURACY) == pytest.approx((0.9 + 1.0 + 0.9) / 3)
    assert metrics.backward_transfer(ACCURACY) == pytest.approx((-0.1 - 0.4) / 2)
    assert metrics.forward_transfer(ACCURACY) == pytest.approx((0.1 + 0.2) / 2)
    assert metrics.forgetting(ACCURACY) == pytest.approx((0.1 + 0.4) / 2)
    both = np.stack([ACCURACY, ACCURACY])
    assert metrics.forgetting(both).shape == (2,)


def test_metrics_of_one_task_forget_nothing():
    one = np.array([[0.5], [0.9]])
    assert metrics.forgetting(one) == metrics.backward_transfer(one) == metrics.forward_transfer(one) == 0


def test_order_variation_is_the_mean_total_variation_between_pairs():
    a, b, c = [[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]
    assert metrics.order_variation(np.array([a, b])) == 1.0
    assert metrics.order_variation(np.array([a, b, c])) == pytest.approx((1 + 0.5 + 0.5) / 3)
    with pytest.raises(ValueError, match="orders >= 2"):
        metrics.order_variation(np.array([a]))


def test_metrics_refuse_tables_of_another_shape():
    with pytest.raises(ValueError, match="tasks \\+ 1"):
        metrics.average_accuracy(ACCURACY[1:])


def toy(n_tasks=3, size=160, seed=0):
    """Tasks that agree: the label is the sign of the first coordinate, each task in a place of its own."""
    generator = torch.Generator().manual_seed(seed)
    sets = []
    for task in range(n_tasks):
        inputs = torch.randn(size, 4, generator=generator) + torch.tensor([0.0, 3.0 * task, 0.0, 0.0])
        sets.append(torch.utils.data.TensorDataset(inputs, (inputs[:, 0] > 0).long()))
    return from_datasets(sets, sets, 2)


def network(widening):
    return nn.Sequential(nn.Linear(4, 16 * widening), nn.ReLU(), nn.Linear(16 * widening, 2))


ORDERS = [[0, 1, 2], [2, 1, 0]]


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_learns_agreeing_tasks_in_both_orders(name):
    method = METHODS[name]
    rate = {"adam": 0.01, "trac": 0.01}.get(name, 0.1)
    strength = {"ewc": 0.1, "online-ewc": 0.1, "wpf-ewc": 0.1, "si": 1e-3, "wpf-si": 1e-3}.get(name, 0.5)
    learner = method.build(Setting(network, [0, 0], 4, rate, strength))
    run = run_sequence(learner, toy(), ORDERS, batch_size=8, epochs=3)
    assert run.accuracy.shape == (2, 4, 3)
    if name != "trac":  # a hundred steps from a scale of 1e-8 are too few for it
        assert (metrics.average_accuracy(run.accuracy) > 0.75).all()
    np.testing.assert_allclose(run.predictions.sum(-1), 1, atol=1e-5)
    assert (run.effective_sample_size >= 0.999).all()
    assert run.state_bytes > 0
    assert run.seconds > 0


PENALISED = [name for name, method in METHODS.items() if method.strengths != (None,)]


@pytest.mark.parametrize("name", PENALISED)
def test_a_method_against_forgetting_is_one_by_default(name):
    plain = "wpf" if name.startswith("wpf") else "sgd"

    def predictions(method, **options):
        learner = METHODS[method].build(Setting(network, [0, 0], 4, 0.05, **options))
        return run_sequence(learner, toy(), ORDERS, batch_size=8).predictions

    default = predictions(name)
    assert np.abs(default - predictions(plain)).max() > 1e-4
    np.testing.assert_allclose(predictions(name, strength=0.0), predictions(plain), atol=1e-5)


def test_the_methods_with_a_penalty_are_all_tried():
    assert set(PENALISED) == {"ewc", "online-ewc", "si", "lwf", "wpf-ewc", "wpf-si", "wpf-lwf"}


@pytest.mark.parametrize(
    ("label", "message"),
    [(0.7, "got 0.7"), (float("nan"), "got nan"), ("cat", "one whole number"), ([1, 0], "one whole number")],
)
def test_labels_that_are_no_class_numbers_are_refused(label, message):
    data = [(torch.zeros(4), 0), (torch.zeros(4), label)] * 4
    with pytest.raises(ConfigError, match=message):
        from_datasets([data], [data], 2)
    if not isinstance(label, str):
        labels = torch.tensor([0 * torch.tensor(label).float(), label] if isinstance(label, float) else [label] * 2)
        with pytest.raises(ConfigError, match=message):
            Images(torch.zeros(2, 1, 2, 2), labels)
        with pytest.raises(ConfigError, match=message):
            Task("mine", *[(torch.zeros(2, 4), labels)] * 3)


def test_labels_may_be_whole_numbers_of_any_type():
    data = [(torch.zeros(4), label) for label in (0, 1.0, np.int64(1), torch.tensor(0), True)]
    (task,) = from_datasets([data], [data], 2).tasks
    assert task.test[1].tolist() == [0, 1, 1, 0, 1]


def test_data_sets_of_three_things_a_sample_are_refused():
    data = [(torch.zeros(4), 0, 1.0)] * 4
    with pytest.raises(ConfigError, match="not 3 things"):
        from_datasets([data], [data], 2)


def test_a_learner_of_classes_refuses_a_loss_of_something_else():
    with pytest.raises(ConfigError, match="cross_entropy"):
        FilterLearner(WPF(network(1), 2, loss=torch.nn.functional.mse_loss, replicas=[0]))


def test_runs_repeat_themselves_and_replicas_do_not_touch_each_other():
    def run(replicas, orders, seeds):
        learner = FilterLearner(WPF(network(1), 3, replicas=replicas, backend="vmap"))
        return run_sequence(learner, toy(), orders, seeds=seeds)

    both = run([3, 4], ORDERS, [3, 4])
    again = run([3, 4], ORDERS, [3, 4])
    np.testing.assert_array_equal(both.predictions, again.predictions)
    alone = run([4], ORDERS[1:], [4])
    np.testing.assert_allclose(both.predictions[1], alone.predictions[0], atol=1e-5)


def test_validation_is_judged_on_the_held_out_training_samples():
    sequence = toy()
    held = [torch.utils.data.TensorDataset(*task.validation) for task in sequence.tasks]
    same = from_datasets(held, held, 2)
    learner = FilterLearner(WPF(network(1), 1, replicas=[0]))
    run = run_sequence(learner, sequence, [[2, 0, 1]])
    judged = [learner.predict(task.test[0])[0].argmax(-1) == task.test[1] for task in same.tasks]
    assert run.validation_accuracy[0] == pytest.approx(np.mean([right.float().mean() for right in judged]), abs=1e-6)


@pytest.mark.parametrize(
    ("orders", "size", "message"),
    [([[0, 1, 2]], 8, "2 permutations"), ([[0, 1, 1]] * 2, 8, "permutations"), (ORDERS, 1000, "batch_size must lie")],
)
def test_wrong_runs_are_named(orders, size, message):
    learner = FilterLearner(WPF(network(1), 1, replicas=[0, 1]))
    with pytest.raises(ValueError, match=message):
        run_sequence(learner, toy(), orders, batch_size=size)


def test_a_learner_needs_replicas():
    with pytest.raises(ValueError, match="replicas"):
        FilterLearner(WPF(network(1), 2))


def samples(n=60, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 4, generator=generator)
    return inputs, (inputs[:, 0] * inputs[:, 1] > 0).long()


def test_the_last_layer_filter_does_not_depend_on_the_order_of_the_data():
    inputs, labels = samples()
    torch.manual_seed(0)
    inputs, module = inputs.double(), network(1).double()
    filters = []
    for order in (torch.arange(60), torch.arange(60).flip(0)):
        filter_ = LastLayerFilter(module, 6, tempering=FixedTempering(1.0))
        for part in order.split(7):
            filter_.update(inputs[part], labels[part])
        filters.append(filter_)
    torch.testing.assert_close(filters[0].log_weights, filters[1].log_weights, atol=1e-8, rtol=0)
    torch.testing.assert_close(filters[0].predict(inputs), filters[1].predict(inputs), atol=1e-8, rtol=0)


def test_the_last_layer_filters_posterior_and_evidence_are_those_of_bayesian_linear_regression():
    inputs, labels = samples()
    torch.manual_seed(0)
    filter_ = LastLayerFilter(network(1), 2, noise=0.3, prior=2.0)
    filter_.update(inputs, labels)
    phi = torch.cat([filter_.ensemble(inputs).double(), torch.ones(2, 60, 1)], -1)
    aims = torch.nn.functional.one_hot(labels, 2).double() - 0.5
    mean, evidence = filter_._solve()
    for i in range(2):
        covariance = 2.0 * phi[i] @ phi[i].T + 0.3 * torch.eye(60)
        torch.testing.assert_close(phi[i] @ mean[i], 2.0 * phi[i] @ phi[i].T @ torch.linalg.solve(covariance, aims))
        density = torch.distributions.MultivariateNormal(torch.zeros(60).double(), covariance)
        torch.testing.assert_close(evidence[i], density.log_prob(aims.T).sum())


def test_the_last_layer_filter_learns_and_keeps_the_floor_of_its_effective_sample_size():
    inputs, labels = samples(400)
    torch.manual_seed(0)
    filter_ = LastLayerFilter(network(4), 8)
    filter_.update(inputs, labels)
    assert (filter_.predict(inputs).argmax(-1) == labels).float().mean() > 0.85
    assert float(filter_.effective_sample_size) > 3.99


def test_the_last_linear_layer_is_found_and_asked_for():
    features, last = split_last_layer(network(1))
    assert last.in_features == 16
    assert features(torch.zeros(1, 4)).shape == (1, 16)
    with pytest.raises(ValueError, match=r"ends in an nn\.Linear"):
        split_last_layer(nn.Linear(3, 2))
    with pytest.raises(ValueError, match="must be positive"):
        LastLayerFilter(network(1), noise=0)
    with pytest.raises(ConfigError, match="at least two"):
        LastLayerFilter(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)))


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (torch.full((2, 4), torch.nan), torch.zeros(2, dtype=torch.int64), "not finite"),
        (torch.zeros(2, 4), torch.tensor([0.7, 1.0]), "whole numbers"),
        (torch.zeros(2, 4), torch.tensor([0, 2]), "whole numbers in 0 ... 1"),
        (torch.zeros(2, 5, 4), torch.zeros(2, dtype=torch.int64), "must give vectors"),
    ],
)
def test_what_would_spoil_the_last_layers_sums_is_refused_and_leaves_them(inputs, targets, message):
    filter_ = LastLayerFilter(network(1), 2)
    with pytest.raises(ConfigError, match=message):
        filter_.update(inputs, targets)
    assert filter_.gram.abs().sum() == 0
