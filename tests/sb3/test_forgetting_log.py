import json
from pathlib import Path

from stable_baselines3 import PPO
from stable_baselines3.common.logger import configure

from farl import FAR
from farl.envs.room_chain import RoomChainVecEnv


def test_any_run_whose_modules_learn_logs_what_it_forgets(tmp_path: Path) -> None:
    far = {"module": "rnd", "warmup": 64}
    model = FAR(PPO)("MlpPolicy", RoomChainVecEnv(4, cols=1), n_steps=128, n_epochs=1, seed=0, device="cpu", far=far)
    model.set_logger(configure(str(tmp_path), ["json"]))
    model.learn(3 * 512)
    logged = json.loads((tmp_path / "progress.json").read_text().splitlines()[-1])
    for name in ("forgetting_ratio", "revisit_bonus", "error_after_1", "error_after_100"):
        assert logged[f"far/{name}"] > 0.0
