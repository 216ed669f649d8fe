import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from farl.curiosity.stacked import stacked_forward

NETWORKS = {
    "vector": (nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(6, 5), nn.LeakyReLU()), nn.Linear(5, 3)), (2, 3)),
    "image": (
        nn.Sequential(nn.Conv2d(2, 4, 3, 2), nn.Tanh(), nn.Conv2d(4, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(20, 3)),
        (2, 7, 7),
    ),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize(("copies", "samples"), [(1, 4), (3, 1), (4, 5)])
def test_outputs_and_gradients_are_those_of_vmap(kind, copies, samples):
    network, shape = NETWORKS[kind]
    parameters = {
        name: torch.randn(copies, *tensor.shape, requires_grad=True) for name, tensor in network.named_parameters()
    }
    inputs = torch.randn(copies, samples, *shape)
    expected = vmap(lambda own, seen: functional_call(network, own, (seen,)))(parameters, inputs)
    outputs = stacked_forward(network)(parameters, inputs)
    torch.testing.assert_close(outputs, expected)
    for ours, theirs in zip(
        torch.autograd.grad(outputs.square().sum(), list(parameters.values())),
        torch.autograd.grad(expected.square().sum(), list(parameters.values())),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "layer", [nn.LayerNorm(4), nn.Linear(4, 4, bias=False), nn.Conv2d(4, 4, 3, padding=1), nn.GRU(4, 4)]
)
def test_a_network_with_any_other_layer_is_left_to_vmap(layer):
    assert stacked_forward(nn.Sequential(nn.Linear(4, 4), layer)) is None
