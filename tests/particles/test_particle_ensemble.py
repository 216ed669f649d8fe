import copy
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from farl.particles import ParticleEnsemble, products, vmap
from farl.particles.initialisation import draw_particles

BATCH = 8


def objective(network, inputs, targets):
    return F.cross_entropy(network(inputs), targets)


class Normalised(nn.Module):
    """A convolution with batch normalisation and a buffer that is rebound, as running averages often are."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.head = nn.Linear(3, 4)
        self.register_buffer("average", torch.zeros(3))

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.norm(self.conv(inputs)).relu().mean((2, 3))
        self.average = 0.9 * self.average + 0.1 * hidden.mean(0).detach()
        return self.head(hidden + self.average)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, 1, 6, 6, generator=generator), torch.randint(4, (BATCH,), generator=generator)


def run(backend, chunk_size=None, module=None, n=7):
    torch.manual_seed(0)
    particles = ParticleEnsemble(module or Normalised(), n, backend=backend, chunk_size=chunk_size, seed=3)
    inputs = batch()
    particles.resolve(objective, inputs)
    losses = torch.cat([particles.backward(c, objective, inputs) for c in range(len(particles.chunks))])
    gradients = {
        name: torch.cat([particles.leaves(c)[name].grad for c in range(len(particles.chunks))])
        for name in particles.leaves(0)
    }
    return particles, losses, gradients


@pytest.mark.parametrize(("backend", "size"), [("chunked", 3), ("loop", None), ("auto", None), ("auto", 2)])
def test_every_backend_gives_the_losses_gradients_and_buffers_of_vmap(backend, size):
    reference, losses, gradients = run("vmap")
    other, other_losses, other_gradients = run(backend, size)
    torch.testing.assert_close(other_losses, losses)
    torch.testing.assert_close(other_gradients, gradients)
    torch.testing.assert_close(other.buffers, reference.buffers)


def test_this_torch_can_be_opened():
    # If this fails, torch has moved its private parts: adapt farl/particles/vmap.py. Until then all runs, but slower.
    assert vmap.OPEN


class Images(nn.Module):
    """Every layer that has a form of its own, and some that have none."""

    def __init__(self, **options):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1, **options),
            nn.MaxPool2d(3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, stride=2, padding="valid" if options else 1),
            nn.BatchNorm2d(6),
            nn.AvgPool2d(2, padding=1),
            nn.Conv2d(6, 6, 1, groups=3, bias=False),
            nn.AdaptiveAvgPool2d(2),
            nn.GroupNorm(2, 6),
            nn.Flatten(),
            nn.Linear(24, 5),
            nn.LayerNorm(5),
            nn.Linear(5, 4),
        )

    def forward(self, inputs):
        return self.layers(inputs) + self.layers[0](inputs).mean((1, 2, 3))[:, None]


@pytest.mark.parametrize("options", [{}, {"padding_mode": "circular"}, {"groups": 2}, {"dilation": 2}])
@pytest.mark.parametrize("opened", [True, False])
@pytest.mark.parametrize("per_particle", [True, False])
def test_stacked_images_equal_the_loop(options, opened, per_particle, monkeypatch):
    monkeypatch.setattr(vmap, "OPEN", vmap.OPEN and opened)
    torch.manual_seed(0)
    module = Images(**options)
    shape = (5, BATCH) if per_particle else (BATCH,)
    inputs, targets = torch.randn(*shape, 2, 11, 9), torch.randint(4, shape)
    results = []
    for backend in ("vmap", "loop"):
        particles = ParticleEnsemble(module, 5, backend=backend, seed=3)
        losses = [
            particles.backward(c, objective, (inputs, targets), per_particle=per_particle)
            for c in range(len(particles.chunks))
        ]
        names = particles.leaves(0)
        gradients = {n: torch.cat([particles.leaves(c)[n].grad for c in range(len(particles.chunks))]) for n in names}
        results.append((torch.cat(losses), gradients, particles.buffers, particles(inputs, per_particle=per_particle)))
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)


def test_without_torchs_private_parts_everything_runs_through_vmap(monkeypatch):
    opened = run("vmap")
    monkeypatch.setattr(vmap, "OPEN", False)
    monkeypatch.setattr(vmap, "outside", None)
    closed = run("vmap")
    torch.testing.assert_close(closed[1:], opened[1:])
    torch.testing.assert_close(closed[0].buffers, opened[0].buffers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_large_weights_with_few_rows_equal_the_matrix_librarys(dtype, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    for rows, out, width in ((2, 7, 5), (5, 4, 1030), (16, 9, 2048)):
        weight, inputs = torch.randn(3, out, width, dtype=dtype), torch.randn(3, rows, width, dtype=dtype)
        bias, gradient = torch.randn(3, out, dtype=dtype), torch.randn(3, rows, out, dtype=dtype)

        def results(weight=weight, inputs=inputs, bias=bias, gradient=gradient):
            moved = weight.clone()
            products.add_product(moved, gradient.mT, inputs, -0.1)
            plain = products.product(inputs, weight, None)
            return products.product(inputs, weight, bias), plain, products.product_transposed(gradient, weight), moved

        expected = results()
        with monkeypatch.context() as small:
            small.setattr(products, "LARGE", 0)
            small.setattr(torch, "bmm", None)
            small.setattr(torch, "baddbmm", None)
            torch.testing.assert_close(results(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"track_running_stats": False}, {"affine": False, "momentum": 0.3}])
@pytest.mark.parametrize("training", [True, False])
def test_stacked_batch_normalisation_equals_the_loop_in_either_mode_and_with_every_option(options, training):
    results = []
    for backend in ("vmap", "loop"):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, **options), nn.Flatten(), nn.Linear(48, 4))
        results.append(run(backend, module=module.train(training)))
    (first, *values), (second, *others) = results
    torch.testing.assert_close(values, others)
    torch.testing.assert_close(first.buffers, second.buffers)


def test_each_particle_equals_the_module_run_alone_including_batch_norm_statistics():
    particles, losses, gradients = run("vmap")
    torch.manual_seed(0)
    module = Normalised()
    state = ParticleEnsemble(module, 7, seed=3)
    inputs, targets = batch()
    for i in range(7):
        alone = copy.deepcopy(module)
        alone.load_state_dict(
            {n: v[i] for n, v in state.parameters.items()} | {n: v[i] for n, v in state.buffers.items()}
        )
        loss = F.cross_entropy(alone(inputs), targets)
        loss.backward()
        torch.testing.assert_close(losses[i], loss.detach())
        for name, value in alone.named_parameters():
            torch.testing.assert_close(gradients[name][i], value.grad)
        for name, value in alone.named_buffers():
            torch.testing.assert_close(particles.buffers[name][i], value)
    assert len(particles.buffers["norm.running_mean"].unique(dim=0)) == 7


def test_auto_leaves_particles_buffers_and_random_state_as_they_were():
    particles = ParticleEnsemble(Normalised(), 5, backend="auto")
    before = particles.snapshot()
    random_state = torch.get_rng_state()
    assert particles.chunk_size == 0
    particles.resolve(objective, batch())
    assert particles.chunk_size > 0
    torch.testing.assert_close(particles.snapshot(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random_state)


def test_evaluation_changes_no_buffer():
    particles = ParticleEnsemble(Normalised(), 5, backend="vmap")
    before = particles.snapshot()
    particles.evaluate(0, objective, batch())
    particles(batch()[0])
    torch.testing.assert_close(particles.snapshot(), before, rtol=0, atol=0)


def test_per_particle_batches_equal_separate_calls():
    particles = ParticleEnsemble(nn.Linear(3, 4), 2, backend="vmap")
    inputs = torch.randn(2, BATCH, 3)
    both = particles(inputs, per_particle=True)
    for i in range(2):
        torch.testing.assert_close(both[i], particles(inputs[i])[i])


def test_an_objective_may_differentiate_the_network_itself():
    def smoothness(network, inputs, targets):
        slope = torch.func.grad(lambda x: F.cross_entropy(network(x), targets))(inputs)
        return F.cross_entropy(network(inputs), targets) + slope.square().sum()

    batch = torch.randn(BATCH, 3), torch.randint(4, (BATCH,))
    losses, module = {}, nn.Linear(3, 4)
    for backend in ("vmap", "loop"):
        particles = ParticleEnsemble(module, 3, backend=backend)
        losses[backend] = torch.cat([particles.backward(c, smoothness, batch) for c in range(len(particles.chunks))])
    torch.testing.assert_close(losses["vmap"], losses["loop"])


def test_tied_parameters_stay_tied():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Linear(3, 3, bias=False)
            self.decode = nn.Linear(3, 3, bias=False)
            self.decode.weight = self.encode.weight

        def forward(self, inputs):
            return self.decode(self.encode(inputs))

    module = Tied()
    particles = ParticleEnsemble(module, 4, backend="vmap")
    assert list(particles.parameters) == ["encode.weight"]
    inputs = torch.randn(5, 3)
    weight = particles.parameters["encode.weight"]
    torch.testing.assert_close(particles(inputs), inputs @ weight.mT @ weight.mT)


def test_dropout_draws_a_mask_for_each_particle_and_none_in_evaluation():
    particles = ParticleEnsemble(nn.Sequential(nn.Dropout(), nn.Linear(20, 1)), 3, noise_scale=(0, 0), backend="vmap")
    inputs = torch.ones(1, 20)
    outputs = particles(inputs)
    assert len(outputs.unique()) == 3
    # Rows of one product may round apart.
    outputs = particles.train(False)(inputs)
    torch.testing.assert_close(outputs, outputs[:1].expand_as(outputs))


def test_frozen_parameters_get_no_leaves():
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    assert list(ParticleEnsemble(module, 2, backend="vmap").leaves(0)) == ["weight"]


def test_independent_initialisations_do_not_depend_on_who_draws_them():
    module = nn.Linear(3, 2)
    everyone, _ = draw_particles(module, range(6), "independent", seed=1)
    some, _ = draw_particles(module, range(4, 6), "independent", seed=1)
    torch.testing.assert_close(everyone["weight"][4:], some["weight"], rtol=0, atol=0)
    assert len(everyone["weight"].unique(dim=0)) == 6


def test_noise_has_a_standard_deviation_within_its_range():
    particles, _ = draw_particles(nn.Linear(400, 50), range(5), "noise", (0.01, 0.03))
    spread = (particles["weight"] - particles["weight"].mean(0)).std((1, 2))
    assert ((spread > 0.008) & (spread < 0.033)).all()


@pytest.mark.parametrize("backend", ["vmap", "loop"])
def test_autocast_reduces_the_forward_pass_and_keeps_particles_and_normalisation_in_full_precision(backend):
    seen = []

    class Watching(nn.BatchNorm2d):
        def forward(self, inputs):
            outputs = super().forward(inputs)
            seen.append((inputs.dtype, self.weight.dtype))
            return outputs

    module = Normalised()
    module.norm = Watching(3)
    full = ParticleEnsemble(module, 3, backend=backend)
    reduced = ParticleEnsemble(module, 3, backend=backend, autocast=torch.bfloat16)
    runs = []
    for particles in (full, reduced):
        seen.clear()
        runs.append(torch.cat([particles.backward(c, objective, batch()) for c in range(len(particles.chunks))]))
    assert set(seen) == {(torch.bfloat16, torch.float32)}
    torch.testing.assert_close(runs[1], runs[0], atol=0.05, rtol=0.05)
    assert not torch.equal(runs[0], runs[1])
    assert reduced.leaves(0)["conv.weight"].grad.dtype == torch.float32
    torch.testing.assert_close(
        reduced.buffers["norm.running_mean"], full.buffers["norm.running_mean"], atol=0.02, rtol=0.05
    )
    assert reduced.buffers["norm.running_mean"].dtype == torch.float32


def test_the_memory_of_gradients_is_used_again_and_does_not_pile_up():
    class Scaled(nn.Module):
        """Holds a matrix that is no linear layer's, of the same shape as one that is."""

        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 4)
            self.scale = nn.Parameter(torch.ones(4, 3))

        def forward(self, inputs):
            return self.linear(inputs) + (inputs[:, None] * self.scale).sum(-1)

    inputs = (torch.randn(BATCH, 3), batch()[1])

    def gradients(module):
        particles = ParticleEnsemble(module, 4, backend="chunked", chunk_size=2)
        for _ in range(5):
            for chunk in range(2):
                particles.backward(chunk, objective, inputs)
                gradient = particles.leaves(chunk)["linear.weight"].grad
                seen.append((gradient.data_ptr(), gradient.clone()))
                del gradient
                particles.clear_gradients(chunk)
        return particles._pool._free

    seen = []
    gradients(nn.Sequential(OrderedDict(linear=nn.Linear(3, 4))))
    assert len({address for address, _ in seen}) == 1
    torch.testing.assert_close(seen[0][1], seen[8][1])
    assert [len(held) for held in gradients(Scaled()).values()] == [1]
