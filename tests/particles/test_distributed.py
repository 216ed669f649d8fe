"""Two processes that share the particles must do what one does alone."""

from functools import partial

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from farl.particles import WPF, EssFloorTempering, FixedTempering, Resampling
from farl.particles.group import ParticleGroup

OPTIONS = {
    "plain": {},
    "resampling": {"resampling": Resampling(0.9, 0.1), "tempering": FixedTempering(20.0)},
    "ess": {"tempering": EssFloorTempering(0.5)},
    "pull": {"pull": 0.1, "tempering": FixedTempering(5.0)},
    "mixture": {"motion": "mixture", "tempering": FixedTempering(5.0)},
}


def run(group, options):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    filter_ = WPF(
        nn.Linear(3, 2).double(),
        8,
        optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.5),
        init="independent",
        backend="vmap",
        group=group,
        **OPTIONS[options],
    )
    resampled = 0
    for _ in range(6):
        inputs = torch.randn(5, 3, generator=generator, dtype=torch.float64)
        report = filter_.update(inputs, torch.randint(2, (5,), generator=generator))
        resampled += int(report.resampled)
    inputs = torch.randn(7, 3, generator=generator, dtype=torch.float64)
    return {
        "prediction": filter_.predict(inputs),
        "weights": filter_.weights,
        "parameters": filter_.ensemble.parameters["weight"],
        "ess": filter_.effective_sample_size,
        "resampled": torch.tensor(resampled),
    }


def worker(rank, folder):
    # Imported by the first optimiser anyway; imported after the group, it keeps the group, whose threads then run into
    # the end of the interpreter and now and then abort the process.
    import torch._dynamo

    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    try:
        for options in OPTIONS:
            torch.save(run(dist.group.WORLD, options), f"{folder}/{options}-{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    mp.spawn(worker, args=(str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("options", list(OPTIONS))
def test_two_processes_give_the_result_of_one(two_processes, options):
    alone = run(None, options)
    parts = [torch.load(two_processes / f"{options}-{rank}.pt", weights_only=True) for rank in range(2)]
    for part in parts:
        torch.testing.assert_close(part["prediction"], alone["prediction"], atol=1e-12, rtol=1e-10)
        torch.testing.assert_close(part["ess"], alone["ess"], atol=1e-10, rtol=1e-10)
        assert part["resampled"] == alone["resampled"]
    for name in ("weights", "parameters"):
        joined = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(joined, alone[name], atol=1e-12, rtol=1e-10)
    assert (int(alone["resampled"]) > 0) == (options == "resampling")


def test_particles_that_do_not_divide_evenly_are_refused():
    group = ParticleGroup()
    group.size = 3
    with pytest.raises(ValueError, match="8 particles cannot be shared evenly by 3 processes"):
        group.share(8)
