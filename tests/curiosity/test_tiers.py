"""Curiosity modules on the device, in host memory and on disk."""

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from farl import FAR
from farl.curiosity import RND, FARCuriosity, Transitions
from farl.fragmentation import KeyRecall, Uniform
from farl.memory import LongTermMemory, Tiers, load_state, save_state

N_ENVS = 4


def train(bank, steps, seed=0, fragment=0):
    generator, losses = torch.Generator().manual_seed(seed), []
    for _ in range(steps):
        seen = torch.randn((32, 6), generator=generator)
        prepared = bank.module.prepare(Transitions(seen, torch.zeros(32), seen))
        losses.append(bank.train(np.full(32, fragment), prepared).mean().item())
    return losses


def make(tmp_path, host=3, keep_loaded=2, seed=0):
    memory = LongTermMemory(20, tiers=Tiers(host, tmp_path / "memory"))
    module = RND((6,), features=16, hidden=32, seed=1)
    return FARCuriosity(
        module,
        memory,
        Uniform(40),
        KeyRecall(memory, 0.9),
        N_ENVS,
        learning_rate=3e-3,
        warmup=8,
        batch_size=16,
        keep_loaded=keep_loaded,
        seed=seed,
    )


def walk(curiosity, steps, seed):
    """Through six rooms; the rewards."""
    rng, rewards = np.random.default_rng(seed), []
    for step in range(steps):
        centre = np.random.default_rng(100 + step // 15 % 6).normal(size=6)
        seen = torch.from_numpy((centre + 0.02 * rng.normal(size=(N_ENVS, 6))).astype(np.float32))
        transitions = Transitions(seen, torch.zeros(N_ENVS), seen)
        rewards.append(curiosity.step(transitions, np.zeros(N_ENVS, bool)).intrinsic_reward)
        if step % 10 == 9:
            curiosity.update()
    return np.array(rewards)


def test_each_tier_keeps_to_its_limit_and_every_module_is_in_one_of_them(tmp_path):
    curiosity = make(tmp_path)
    walk(curiosity, 300, seed=0)
    tiers, loaded = curiosity.memory.tiers, curiosity.modules.bank.fragment_ids
    assert len(loaded) <= max(2, len(set(curiosity.router.active.tolist())))
    assert len(tiers.in_host) <= 3
    assert len(tiers.on_disk) > 2
    assert sorted([*loaded, *tiers.in_host, *tiers.on_disk]) == curiosity.memory.ids
    assert curiosity.recalls > 0
    bank = curiosity.modules.bank
    in_memory = (len(loaded) + len(tiers.in_host)) * bank.module_bytes
    # With the room for all that one rollout has used, but nothing of what lies on disk.
    assert in_memory <= curiosity.modules.memory_bytes <= bank.memory_bytes + 3 * bank.state_bytes


def test_a_run_saved_with_modules_in_all_tiers_goes_on_as_if_never_saved(tmp_path):
    curiosity, copy = make(tmp_path), make(tmp_path, seed=9)
    walk(curiosity, 200, seed=0)
    save_state(curiosity.state_dict(), tmp_path / "state")
    assert curiosity.memory.tiers.on_disk
    copy.load_state_dict(load_state(tmp_path / "state"))
    assert copy.memory.tiers.in_host == curiosity.memory.tiers.in_host
    np.testing.assert_array_equal(walk(copy, 200, seed=1), walk(curiosity, 200, seed=1))


def test_only_modules_that_have_learnt_are_written_again(tmp_path):
    curiosity = make(tmp_path, host=1, keep_loaded=0)
    walk(curiosity, 100, seed=0)
    learnt, idle = (fragment for fragment in curiosity.memory.tiers.on_disk[:2])
    files = {fragment: curiosity.memory.tiers.file_of(fragment) for fragment in (learnt, idle)}
    before = {fragment: path.stat().st_ino for fragment, path in files.items()}
    for fragment in (learnt, idle):
        curiosity.modules.bank.load(fragment, curiosity.memory.lend(fragment))
    train(curiosity.modules.bank, 1, fragment=learnt)
    state = curiosity.modules.bank.state(learnt)
    assert curiosity.modules.bank.has_learnt(learnt)
    assert not curiosity.modules.bank.has_learnt(idle)
    curiosity.update()
    for fragment in curiosity.memory.ids[-3:]:
        curiosity.modules.state(fragment)  # pushes both out of host memory
    assert {learnt, idle} <= set(curiosity.memory.tiers.on_disk)
    assert files[idle].stat().st_ino == before[idle]
    again = curiosity.modules.state(learnt)
    assert again["steps"] == state["steps"]
    assert all(torch.equal(again["parameters"][name], tensor) for name, tensor in state["parameters"].items())


def test_modules_learn_on_as_if_they_had_never_been_on_disk(tmp_path):
    travels, stays = make(tmp_path, host=1, keep_loaded=0), make(tmp_path, host=20, keep_loaded=0)
    np.testing.assert_array_equal(walk(travels, 300, seed=0), walk(stays, 300, seed=0))
    assert travels.memory.tiers.on_disk
    assert travels.recalls > 0


def test_modules_kept_loaded_change_nothing(tmp_path):
    few, many = make(tmp_path, host=20, keep_loaded=0), make(tmp_path, host=20, keep_loaded=10)
    np.testing.assert_allclose(walk(few, 200, seed=0), walk(many, 200, seed=0), rtol=1e-3)


def test_in_a_model_the_tiers_are_a_setting_and_are_saved_with_it(tmp_path):
    far = {
        "module": {"features": 8, "hidden": 8},
        "criterion": {"name": "uniform", "every": 30},
        "recall": None,
        "warmup": 16,
        "memory": {"capacity": 12, "device": 1, "host": 2, "disk": str(tmp_path / "memory")},
    }
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    model = FAR(PPO)("MlpPolicy", env, n_steps=32, batch_size=32, far=far, seed=0, device="cpu").learn(512)
    tiers = model.curiosity.memory.tiers
    assert len(tiers.in_host) == 2
    assert len(tiers.on_disk) >= 8
    model.save(tmp_path / "model")
    loaded = FAR(PPO).load(tmp_path / "model", env=env, device="cpu")
    assert loaded.curiosity.memory.tiers.on_disk == tiers.on_disk
    loaded.learn(64, reset_num_timesteps=False)
    with pytest.raises(ValueError, match="belong together"):
        FAR(PPO)("MlpPolicy", env, far={"memory": {"host": 2}}, device="cpu")
