"""Predictions follow the loss that the network was trained with, or are refused."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from farl.errors import ConfigError
from farl.particles import WPF

SGD = partial(torch.optim.SGD, lr=0.1)
DATA = torch.utils.data.TensorDataset


def filter_of(module, loss=F.cross_entropy, **options):
    torch.manual_seed(0)
    return WPF(module, 4, loss=loss, optimizer=SGD, backend="vmap", init="independent", **options)


def mixed(filter_, inputs, function):
    outputs = function(filter_.ensemble.train(False)(inputs))
    return (filter_.weights.reshape(-1, *(1,) * (outputs.dim() - 1)) * outputs).sum(0)


@pytest.mark.parametrize("loss", [F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss()])
def test_one_logit_predicts_the_chance_of_one(loss):
    torch.manual_seed(0)
    inputs = torch.randn(512, 2)
    targets = (inputs[:, :1] > inputs[:, 1:]).float()
    filter_ = filter_of(nn.Linear(2, 1), loss)
    filter_.fit(torch.utils.data.DataLoader(DATA(inputs, targets), batch_size=8), epochs=3, progress=False)
    chance = filter_.predict(inputs)
    assert ((chance > 0.5) == targets.bool()).float().mean() > 0.9
    torch.testing.assert_close(chance, mixed(filter_, inputs, torch.sigmoid))


@pytest.mark.parametrize(
    ("loss", "function"),
    [
        (F.cross_entropy, lambda x: x.softmax(2)),
        (nn.CrossEntropyLoss(label_smoothing=0.1), lambda x: x.softmax(2)),
        (partial(F.cross_entropy, label_smoothing=0.1), lambda x: x.softmax(2)),
        (F.nll_loss, torch.exp),
        (F.binary_cross_entropy_with_logits, torch.sigmoid),
        (F.binary_cross_entropy, lambda x: x),
        (F.mse_loss, lambda x: x),
        (nn.HuberLoss(), lambda x: x),
    ],
)
@pytest.mark.parametrize("shape", [(), (5,), (3, 4)])
def test_every_loss_of_torch_has_its_prediction_with_any_number_of_axes(loss, function, shape):
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Linear(1, 3)

        def forward(self, inputs):  # [batch, *shape] to [batch, 3, *shape]
            outputs = self.scale(inputs[..., None]).movedim(-1, 1)
            if loss is F.nll_loss:
                return outputs.log_softmax(1)
            return outputs.sigmoid() if loss is F.binary_cross_entropy else outputs

    filter_ = filter_of(Module(), loss)
    inputs = torch.randn(6, *shape)
    prediction = filter_.predict(inputs)
    assert prediction.shape == (6, 3, *shape)
    torch.testing.assert_close(prediction, mixed(filter_, inputs, function))
    if function(torch.zeros(1, 1, 3)).sum() == 1:
        torch.testing.assert_close(prediction.sum(1), torch.ones(6, *shape))


def test_logits_are_mixed_before_they_become_probabilities():
    inputs = torch.randn(6, 2)
    filter_ = filter_of(nn.Linear(2, 1), F.binary_cross_entropy_with_logits, mixture="logits")
    torch.testing.assert_close(filter_.predict(inputs), mixed(filter_, inputs, lambda x: x).sigmoid())


def own_loss(outputs, targets):
    return F.cross_entropy(outputs, targets)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: filter_of(nn.Linear(2, 1)).predict(torch.zeros(4, 2)), "no scores of classes"),
        (lambda: filter_of(nn.Linear(2, 1)).update(torch.zeros(4, 2), torch.zeros(4).long()), "one output"),
        (lambda: filter_of(nn.Linear(2, 2), own_loss).predict(torch.zeros(4, 2)), "give mixture="),
        (lambda: filter_of(nn.Linear(2, 2), F.mse_loss, mixture="probabilities"), "use mixture='mean'"),
        (lambda: filter_of(nn.Linear(2, 2), F.binary_cross_entropy, mixture="logits"), "use mixture='mean'"),
        (
            lambda: filter_of(nn.Linear(2, 3), own_loss, mixture="probabilities").predict(torch.zeros(4, 5, 2)),
            "no scores of classes",
        ),
        (lambda: filter_of(nn.Linear(2, 1), F.mse_loss).update(torch.zeros(4, 2), torch.zeros(4)), "differ in shape"),
    ],
)
def test_what_cannot_be_told_is_refused(act, message):
    with pytest.raises(ConfigError, match=message):
        act()


def test_with_a_loss_of_ones_own_the_mixture_says_what_the_outputs_are():
    inputs = torch.randn(6, 2)
    filter_ = filter_of(nn.Linear(2, 3), own_loss, mixture="probabilities")
    torch.testing.assert_close(filter_.predict(inputs), mixed(filter_, inputs, lambda x: x.softmax(-1)))


def test_a_file_remembers_the_kind_of_loss(tmp_path):
    filter_ = filter_of(nn.Linear(2, 5), F.binary_cross_entropy_with_logits)
    filter_.save(tmp_path / "filter.safetensors")
    with pytest.raises(ConfigError, match="trained with a loss of binary"):
        WPF.load(tmp_path / "filter.safetensors", nn.Linear(2, 5))
    loss = nn.BCEWithLogitsLoss()
    same = WPF.load(tmp_path / "filter.safetensors", nn.Linear(2, 5), loss=loss)
    torch.testing.assert_close(same.predict(torch.ones(1, 2)), filter_.predict(torch.ones(1, 2)))


class Two(nn.Module):
    """Takes two inputs."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(3, 2)

    def forward(self, one, other):
        return self.first(one) + self.second(other)


def loader(*tensors):
    return torch.utils.data.DataLoader(DATA(*tensors), batch_size=8)


def test_fit_takes_batches_of_several_inputs():
    torch.manual_seed(0)
    one, other = torch.randn(256, 2), torch.randn(256, 3)
    targets = (one[:, 0] + other[:, 0] > 0).long()
    filter_ = filter_of(Two()).fit(loader(one, other, targets), epochs=3, progress=False)
    assert (filter_.predict(one, other, batch_size=100).argmax(-1) == targets).float().mean() > 0.85


@pytest.mark.parametrize(
    ("module", "batches", "message"),
    [
        (
            nn.Linear(2, 2),
            loader(torch.zeros(8, 2), torch.zeros(8), torch.ones(8)),
            "batches of 3 tensors, of which Linear",
        ),
        (Two(), loader(torch.zeros(8, 2), torch.zeros(8).long()), "batches of 2 tensors, of which Two"),
        (nn.Linear(2, 2), loader(torch.zeros(8, 2)), r"got \(Tensor\)"),
        (nn.Linear(2, 2), [{"inputs": torch.zeros(8, 2)}], r"got \(dict\)"),
        (nn.Linear(2, 2), [torch.zeros(8, 2)], r"got \(Tensor\)"),
        (nn.Linear(2, 2), [(torch.zeros(8, 2), ["a"] * 8)], r"got \(Tensor, list\)"),
    ],
)
def test_other_batches_are_refused_and_nothing_moves(module, batches, message):
    filter_ = filter_of(module)
    before = filter_.ensemble.snapshot()[0]
    with pytest.raises(ConfigError, match=message):
        filter_.fit(batches, progress=False)
    torch.testing.assert_close(filter_.ensemble.parameters, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    "optimizer", [SGD, partial(torch.optim.Adam, lr=0.1), partial(torch.optim.SGD, lr=0.1, momentum=0.9)]
)
def test_a_batch_that_nobody_can_explain_changes_nothing(optimizer):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    filter_ = WPF(module, 4, optimizer=optimizer, backend="chunked", chunk_size=2)
    inputs, targets = torch.randn(8, 3), torch.randint(2, (8,))
    filter_.update(inputs, targets)
    before = [*filter_.ensemble.snapshot(), {"weights": filter_.log_weights.clone()}]
    with pytest.raises(ConfigError, match="every particle is not finite"):
        filter_.update(inputs * torch.nan, targets)
    torch.testing.assert_close(
        [filter_.ensemble.parameters, filter_.ensemble.buffers, {"weights": filter_.log_weights}],
        before,
        rtol=0,
        atol=0,
    )
    filter_.update(inputs, targets)
    assert filter_.predict(inputs).isfinite().all()
