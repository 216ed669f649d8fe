"""FAR(X) for the algorithms of sbx, which are Stable-Baselines3's in JAX. Runs where the extra ``sbx`` is installed."""

import pytest

from farl import FAR
from tests.sb3.toy import FAR_SMALL, make_toy

sbx = pytest.importorskip("sbx", reason="sbx needs JAX: pip install 'farl[sbx]'; .ci/neighbours runs this")

OFF_POLICY = {"learning_starts": 16, "buffer_size": 200, "batch_size": 8, "train_freq": 8}
SETTINGS = {
    "PPO": ("discrete", {"n_steps": 16, "batch_size": 16, "n_epochs": 1}),
    "SAC": ("continuous", OFF_POLICY),
    "DQN": ("discrete", OFF_POLICY),
    "CrossQ": ("continuous", OFF_POLICY),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_it_learns_saves_loads_and_continues(name, tmp_path):
    algorithm, (action, settings) = FAR(getattr(sbx, name)), SETTINGS[name]
    net = {"net_arch": [8]}
    model = algorithm("MlpPolicy", make_toy(action=action), far=FAR_SMALL, policy_kwargs=net, seed=0, **settings)
    model.learn(64)
    assert model.curiosity.samples_seen == 64
    assert (model.curiosity.last.intrinsic_reward > 0).any()
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=make_toy(action=action))
    loaded.learn(32, reset_num_timesteps=False)
    assert loaded.curiosity.samples_seen == 96
