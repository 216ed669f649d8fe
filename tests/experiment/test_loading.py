from pathlib import Path

import pytest

from farl.errors import ConfigError
from farl.experiment.config import ExperimentConfig
from farl.experiment.loading import load_config, resolved_yaml

CARTPOLE = """\
total_timesteps: 1000
environment:
  id: CartPole-v1
  n_envs: 2
algorithm:
  hyperparameters:
    n_steps: 32
"""


def load(folder: Path, text: str, *overrides: str) -> ExperimentConfig:
    path = folder / "x.yaml"
    path.write_text(text)
    return load_config(path, overrides)


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, *overrides)
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


RUN = "total_timesteps: 100\nenvironment: {id: CartPole-v1}\n"


def test_resolved_config_loads_to_an_equal_config(tmp_path: Path) -> None:
    config = load(tmp_path, CARTPOLE, "far={}", "evaluation={}")
    (tmp_path / "resolved.yaml").write_text(resolved_yaml(config))
    assert load_config(tmp_path / "resolved.yaml") == config
    assert config.name == "x"


def test_all_mistakes_of_all_sections_are_reported_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (
        "seed: yes\ntotal_timesteps: -4\nenvironment:\n  id: CartPol-v1\n  n_env: 3\n"
        "algorithm: {name: PPO, hyperparameters: {n_step: 3}}\nloging: {}\nfar: {criterion: {name: zscor}}\n"
    )
    found = "\n".join(problems(tmp_path, text))
    for fragment in (
        "x.yaml:1: seed: expected a whole number",
        "x.yaml:2: total_timesteps: must be at least 1",
        "x.yaml:4: environment.id: unknown environment 'CartPol-v1'; did you mean CartPole-v1",
        "x.yaml:5: environment.n_env: unknown key; did you mean n_envs?",
        "x.yaml:6: algorithm.hyperparameters.n_step: PPO has no such hyperparameter; did you mean n_steps?",
        "x.yaml:7: loging: unknown key; did you mean logging?",
        "x.yaml:8: far.criterion.name: unknown name 'zscor'; did you mean zscore?",
    ):
        assert fragment in found


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1.5", "command line: seed: expected a whole number"),
        ("seed='3'", "seed: expected a whole number"),
        ("seed=-1", "seed: must be at least 0"),
        ("seed=99999999999999999999", "seed: must be at most"),
        ("total_timesteps=.nan", "total_timesteps"),
        ("total_timesteps=.inf", "total_timesteps"),
        ("total_timesteps=true", "total_timesteps: expected a whole number"),
        ("name=../escape", "name: "),
        ("device=cuda:77", "device: cuda:77 is not available"),
        ("device=gpu", "device: "),
        ("environment.n_envs=0", "n_envs: must be at least 1"),
        ("environment.vector_backend=threads", "vector_backend"),
        ("environment.kwargs={nonsense: 1}", "nonsense"),
        ("environment.wrappers=[TimeLimt]", "did you mean TimeLimit"),
        ("environment.wrappers=[TimeLimit]", "needs kwargs: max_episode_steps"),
        ("environment.wrappers=[{name: TimeLimit, kwargs: {max_steps: 3}}]", "no argument 'max_steps'"),
        ("environment.wrappers=['no.such:Thing']", "there is no module 'no.such'"),
        ("environment.vec_wrappers=[FARMapObservtion]", "did you mean FARMapObservation"),
        ("environment.vec_wrappers=[{name: FARMapObservation, kwargs: {map_siz: 3}}]", "no argument 'map_siz'"),
        ("environment.vec_wrappers=[FARMapObservation]", "explores map worlds"),
        ("environment.kind=minigrid", "no MiniGrid environment"),
        ("environment.observation=rgb", "only environments of kind minigrid"),
        ("environment.id=ALE/Nothing-v5", "environment"),
        ("environment=3", "expected a section"),
        ("algorithm.name=PPPO", "did you mean PPO"),
        ("algorithm.policy=MlpPolic", "did you mean MlpPolicy"),
        ("algorithm.policy=CnnPolicy", "use MlpPolicy"),
        ("algorithm.policy=MultiInputPolicy", "needs dictionary observations"),
        ("algorithm.name=SAC", "needs continuous actions"),
        ("algorithm.hyperparameters.batch_size=60", "multiple of batch_size 60; use 32 or 64"),
        ("algorithm.hyperparameters.n_steps=1e9", "GiB of memory"),
        ("algorithm.hyperparameters.gamma=1.5", "between 0 and 1"),
        ("algorithm.hyperparameters.learning_rate=-1", "above 0"),
        ("algorithm.hyperparameters.learning_rate=.nan", "finite"),
        ("algorithm.hyperparameters.learning_rate=fast", "schedule"),
        ("algorithm.hyperparameters.ent_coef=linear(0.1)", "takes no schedule"),
        ("algorithm.hyperparameters.n_epochs='3'", "a whole number"),
        ("algorithm.hyperparameters.n_epochs=true", "a whole number"),
        ("algorithm.hyperparameters.n_epochs=99999999999999999999999", "at most"),
        ("algorithm.hyperparameters.seed=3", "top-level seed"),
        ("algorithm.hyperparameters.policy_kwargs={net_arc: [64]}", "did you mean net_arch"),
        ("algorithm.hyperparameters.policy_kwargs={activation_fn: Tanhh}", "did you mean Tanh"),
        ("algorithm.hyperparameters.rollout_buffer_class=x", "cannot be set from YAML"),
        ("evaluation={freq: 0}", "evaluation.freq: must be at least 1"),
        ("checkpoints.keep=0", "checkpoints.keep: must be at least 1"),
        ("far.modul={}", "far.modul: unknown key; did you mean module"),
        ("far.gamma=2", "far.gamma: must be"),
        ("far.epochs='3'", "far.epochs: expected a number"),
        ("far.criterion={name: zscroe}", "zscore"),
        ("far.criterion={name: ratio, thresold: 3}", "did you mean threshold"),
        ("seed=", "there is no value"),
        ("seed", "key=value"),
        ("=3", "key=value"),
        ("a..b=3", "key=value"),
        ("base=other.yaml", "only be set in a file"),
    ],
)
def test_bad_value_is_refused_with_its_name(tmp_path: Path, override: str, message: str) -> None:
    assert any(message in problem for problem in problems(tmp_path, CARTPOLE, override))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["environment.id=Pendulum-v1", "algorithm={name: DQN}"], "needs discrete actions"),
        (["algorithm={name: DQN, hyperparameters: {train_freq: [1, episode]}}"], "n_envs: 1"),
        (["algorithm={name: DQN, hyperparameters: {buffer_size: 1e9}}"], "GiB of memory"),
        (["environment.id=MiniGrid-Empty-5x5-v0"], "set environment.kind: minigrid"),
        (
            [
                "environment={id: MiniGrid-Empty-5x5-v0, kind: minigrid, observation: symbolic}",
                "algorithm.policy=CnnPolicy",
            ],
            "at least 36x36",
        ),
        (["algorithm={name: RecurrentPPO}"], "has no policy 'MlpPolicy'"),
        (["far={memory: {capacity: 2}}"], "far.memory.capacity: must be more than the 2 environments, found 2"),
    ],
)
def test_inconsistent_combination_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    assert any(message in problem for problem in problems(tmp_path, CARTPOLE, *overrides))


def test_base_is_merged_key_by_key_and_relative_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "below.yaml").write_text(CARTPOLE + "name: below\nfar: {}\n")
    (tmp_path / "deep" / "above.yaml").write_text("base: ../below.yaml\nenvironment: {n_envs: 4}\nfar: null\n")
    config = load_config(tmp_path / "deep" / "above.yaml", ["environment.n_envs=8"])
    assert (config.environment.id, config.environment.n_envs, config.far) == ("CartPole-v1", 8, None)
    assert config.algorithm.hyperparameters == {"n_steps": 32}
    assert config.name == "above"


def test_another_algorithm_drops_the_hyperparameters_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text(CARTPOLE)
    config = load(tmp_path, "base: below.yaml\nalgorithm: {name: DQN, hyperparameters: {buffer_size: 1e4}}\n")
    assert config.algorithm.hyperparameters == {"buffer_size": 1e4}


def test_another_module_drops_the_settings_of_its_base(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text(
        CARTPOLE + "name: below\nfar: {module: {name: recognition, graph: {}}, episodic: true}\n", encoding="utf-8"
    )
    (tmp_path / "above.yaml").write_text("base: below.yaml\nfar: {module: {name: rnd}}\n", encoding="utf-8")
    for config in (
        load_config(tmp_path / "above.yaml"),
        load_config(tmp_path / "below.yaml", ["far.module.name=rnd"]),
    ):
        assert config.far is not None
        assert config.far.module.name == "rnd"
        assert config.far.episodic, "the other settings stay"


def test_missing_base_and_circles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "below.yaml").write_text(CARTPOLE)
    assert "did you mean below.yaml" in problems(tmp_path, "base: belo.yaml")[0]
    assert "expected the path" in problems(tmp_path, "base: 3")[0]
    (tmp_path / "below.yaml").write_text("base: x.yaml")
    assert "circle: x.yaml -> below.yaml -> x.yaml" in problems(tmp_path, "base: below.yaml")[0]


def test_nothing_is_written_by_a_check(tmp_path: Path) -> None:
    problems(tmp_path, CARTPOLE, "seed=-1")
    load(tmp_path, CARTPOLE)
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_missing_extra_names_the_pip_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from farl.experiment.algorithms import algorithm_class

    algorithm_class.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "sb3_contrib", None)
    assert any(
        "pip install 'farl[contrib]'" in problem for problem in problems(tmp_path, CARTPOLE, "algorithm={name: TRPO}")
    )
    algorithm_class.cache_clear()


def test_a_criterion_without_a_name_is_a_zscore(tmp_path: Path) -> None:
    (tmp_path / "far.yaml").write_text(CARTPOLE + "far: {}\n", encoding="utf-8")
    config = load_config(tmp_path / "far.yaml", ["far.criterion.threshold=4"])
    assert config.far is not None
    assert config.far.model_dump()["criterion"]["name"] == "zscore"
    assert config.far.model_dump()["criterion"]["threshold"] == 4


def test_a_module_that_cannot_be_fragmented_says_why_in_one_line(tmp_path: Path) -> None:
    found = problems(tmp_path, CARTPOLE, "far={module: e3b, criterion: zscore}")
    assert found == [
        "command line: far: module e3b cannot be fragmented: its memory ends with the episode, and embeddings of "
        "different fragments could not be compared in it; set criterion: null"
    ]
    assert load(tmp_path, CARTPOLE, "far.module=e3b").far.criterion is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", ["total_timesteps: this key is required", "environment: this key is required"]),
        ("name: x", ["total_timesteps: this key is required", "environment: this key is required"]),
        (RUN + "sequence: {steps: 100, tasks: [{kwargs: x}]}", ["sequence.tasks.0.kwargs: expected a section"]),
        (RUN + "sequence: {steps: 100, tasks: [{ids: 3}]}", ["sequence.tasks.0.ids: unknown key; did you mean id?"]),
        (RUN.replace("}", ", vec_wrappers: ['builtins:print']}"), ["builtins:print is no wrapper"]),
        (RUN.replace("}", ", wrappers: ['os:path']}"), ["os:path is no wrapper"]),
        (RUN.replace("}", ", wrappers: ['textwrap:dedent']}"), ["cannot be made with these kwargs and wrappers"]),
        (RUN + "".join(f"key{n}: 1\n" for n in range(500)), ["unknown key", "and 480 more problems"]),
    ],
)
def test_nothing_is_refused_without_a_word(tmp_path: Path, text: str, told: list[str]) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert len(caught.value.problems) <= 21
    for words in told:
        assert any(words in problem for problem in caught.value.problems), caught.value.problems
    assert all("\n" not in problem and len(problem) <= 300 for problem in caught.value.problems)
