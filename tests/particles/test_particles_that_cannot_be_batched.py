"""What cannot run as a batch of particles: refused in one line, or run in a loop."""

import logging

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from farl.particles import ParticleEnsemble, ensemble
from tests.particles.test_particle_ensemble import BATCH, batch, objective


def test_a_tensor_outside_the_buffers_is_refused():
    module = nn.Linear(2, 2)
    module.hidden = torch.zeros(2)
    with pytest.raises(ValueError, match=r"Linear.hidden is a tensor outside.*register_buffer"):
        ParticleEnsemble(module, 3)


class Counting(nn.Linear):
    calls = 0

    def forward(self, inputs):
        self.calls += 1
        return super().forward(inputs)


class Remembering(nn.Linear):
    def forward(self, inputs):
        self.last = super().forward(inputs)
        return self.last


@pytest.mark.parametrize(("module", "name"), [(Counting, "calls"), (Remembering, "last")])
def test_state_that_changes_outside_the_buffers_is_refused(module, name):
    particles = ParticleEnsemble(module(3, 4), 3, backend="vmap")
    with pytest.raises(ValueError, match=f"{name}.*register_buffer"):
        particles.backward(0, objective, (torch.randn(BATCH, 3), batch()[1]))


def test_too_little_memory_names_the_number_that_fits(monkeypatch):
    module = nn.Linear(9, 10)  # 100 parameters, 400 bytes
    monkeypatch.setattr(ensemble, "available_memory", lambda device: 8_000)
    with pytest.raises(ValueError, match=r"11 particles .* n_particles=10 or fewer"):
        ParticleEnsemble(module, 11)
    assert ParticleEnsemble(module, 10).n_particles == 10


def test_auto_falls_back_to_the_loop_for_a_module_that_cannot_be_batched(caplog):
    class Branching(nn.Linear):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            return outputs if outputs.sum().item() > 0 else -outputs

    particles = ParticleEnsemble(Branching(3, 4), 3)
    with caplog.at_level(logging.WARNING):
        particles.resolve(objective, (torch.randn(BATCH, 3), batch()[1]))
    assert particles.chunk_size == 1
    assert "cannot be batched" in caplog.text


class Last(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, inputs):
        return self.lstm(inputs)[0][:, -1]


def test_a_recurrent_network_that_lists_its_own_weights_runs_in_the_loop_with_those_of_each_particle():
    particles = ParticleEnsemble(Last(), 3, backend="auto", noise_scale=(0.1, 0.1))
    inputs, targets = torch.randn(BATCH, 5, 3), batch()[1]
    particles.resolve(objective, (inputs, targets))
    assert particles.chunk_size == 1
    losses = torch.cat([particles.backward(c, objective, (inputs, targets)) for c in range(3)])
    for i in range(3):
        alone = Last()
        alone.load_state_dict({name: value[i] for name, value in particles.parameters.items()})
        torch.testing.assert_close(losses[i], F.cross_entropy(alone(inputs), targets).detach())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_particles": 0}, "n_particles must be at least 1"),
        ({"n_particles": 2, "backend": "quick"}, "backend must be"),
        ({"n_particles": 2, "chunk_size": 0}, "chunk_size must be at least 1"),
        ({"n_particles": 2, "init": "zeros"}, "init must be"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ParticleEnsemble(nn.Linear(2, 2), **arguments)


def test_a_module_without_parameters_is_refused():
    with pytest.raises(ValueError, match="no parameters"):
        ParticleEnsemble(nn.ReLU(), 2)


def test_a_loss_that_is_no_scalar_is_refused():
    particles = ParticleEnsemble(nn.Linear(3, 4), 2, backend="vmap")
    with pytest.raises(ValueError, match=r"must be a scalar, got shape \(8,\)"):
        particles.backward(
            0, lambda net, x, y: F.cross_entropy(net(x), y, reduction="none"), (torch.randn(BATCH, 3), batch()[1])
        )
