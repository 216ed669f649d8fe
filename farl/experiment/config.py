"""What an experiment is: the typed form of a YAML file. ``farl schema`` prints it as JSON Schema."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr

from farl.experiment.sweep.settings import SweepConfig
from farl.sb3.config import FARConfig
from farl.settings import StrictModel

MAX_TIMESTEPS = 10**12


def _whole_number(value: Any) -> Any:
    if isinstance(value, bool | str) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError("expected a whole number")
    return int(value) if isinstance(value, float) else value


def _wrapper(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


_Reset = Literal["normalization", "optimizer", "policy"]


def _default_reset() -> list[_Reset]:
    return ["normalization"]


_Whole = BeforeValidator(_whole_number)  # 1e6 is a whole number; "3" and true are not


class WrapperConfig(StrictModel):
    """A wrapper around each environment, or around all of them."""

    name: str
    """A wrapper of gymnasium.wrappers, minigrid.wrappers or farl.envs; around all environments one of
    stable_baselines3.common.vec_env or farl.agents.observation; or any other as package.module:Class."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the wrapper, after the environment."""


class EnvironmentConfig(StrictModel):
    """Which environment, how many copies of it, and what lies around them."""

    id: str
    """Gymnasium id; farl list envs prints those that are known. One of your own is module:Class, or module:Env-v0 where
    the module registers it."""
    kind: Literal["gymnasium", "minigrid", "atari", "procgen", "control"] = "gymnasium"
    """gymnasium: as it is. minigrid: partial view as observation, positions for the exploration pictures.
    atari: the usual preprocessing (84x84 gray, frame skip 4, 4 frames stacked). procgen: a ProcGen game by its name,
    such as starpilot. control: CartPole, Acrobot or LunarLander in batches, with an offset for each level."""
    observation: Literal["one_hot", "symbolic", "rgb"] | None = None
    """For kind minigrid only: the partial view as a one-hot vector (null means this one), as its raw symbols, or as
    an RGB picture."""
    folder: str | None = None
    """Where modules of your own are looked for; null is the folder of the YAML file."""
    n_envs: Annotated[int, Field(ge=1, le=1024), _Whole] = 1
    """Number of copies stepped at once."""
    vector_backend: Literal["auto", "batch", "dummy", "subproc", "ale"] = "auto"
    """auto: batch where the environment can, else dummy. batch: all copies in one call, as FARL's own worlds can, and
    those with a vector_entry_point that resets each copy in the step in which it ends. dummy: one after another in
    this process. subproc: one process each, for slow environments. ale: for kind atari, ale-py's own threads."""
    timeout: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """Seconds that a step or a reset may take before the run stops, or goes on as on_error says. null: 600 with
    vector_backend subproc, no limit in this process, where compiled code cannot be interrupted."""
    kwargs: dict[str, Any] = Field(default_factory=dict)
    """Arguments of gymnasium.make; of AtariSettings, ProcgenVecEnv or ControlVecEnv for the kinds of those names."""
    wrappers: list[Annotated[WrapperConfig, BeforeValidator(_wrapper)]] = Field(default_factory=list)
    """Wrappers, innermost first: a name, or {name: ..., kwargs: {...}}."""
    vec_wrappers: list[Annotated[WrapperConfig, BeforeValidator(_wrapper)]] = Field(default_factory=list)
    """Wrappers around all copies at once (VecEnvWrapper), innermost first, written as wrappers are."""
    normalize_observations: StrictBool = False
    """Divide observations by their running standard deviation (VecNormalize)."""
    normalize_rewards: StrictBool = False
    """Divide rewards by the running standard deviation of the return (VecNormalize)."""


class AlgorithmConfig(StrictModel):
    """Which algorithm learns, and how."""

    name: str = "PPO"
    """An algorithm of Stable-Baselines3 or sb3-contrib; farl list algorithms prints them."""
    policy: str = "MlpPolicy"
    """MlpPolicy for vectors, CnnPolicy for images, MultiInputPolicy for dictionaries."""
    fast: StrictBool = False
    """Learn the same in less time (PPO, A2C and RecurrentPPO)."""
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the algorithm. Learning rates and clip ranges also take a schedule: linear(2.5e-4)."""


class LoggingConfig(StrictModel):
    """What is written while training."""

    tensorboard: StrictBool = True
    """Write TensorBoard events to the run directory."""
    wandb: StrictBool = False
    """Send the same to Weights & Biases; needs the extra wandb. WANDB_MODE=offline keeps it in the run directory."""
    mlflow: StrictBool = False
    """Send the same to MLflow; needs the extra mlflow. MLFLOW_TRACKING_URI says where to."""
    interval: Annotated[int, Field(ge=1, le=10**6), _Whole] = 1
    """Rollouts (PPO and its like) or episodes (DQN and its like) between two log entries."""
    image_freq: Annotated[int, Field(ge=0, le=MAX_TIMESTEPS), _Whole] = 50_000
    """Timesteps between two sets of exploration pictures in TensorBoard, with one more at the end; 0 logs none.
    Pictures wait where they would take more than 3 % of the time."""
    axes: Annotated[list[StrictInt | StrictStr], Field(min_length=2, max_length=2)] | None = None
    """Two numbers of a vector observation, by name or index, that visits and fragments are drawn over; null takes the
    first two principal components. For environments that tell no position."""


class EvaluationConfig(StrictModel):
    """Evaluation of the policy on environments of its own while training."""

    freq: Annotated[int, Field(ge=1, le=MAX_TIMESTEPS), _Whole] = 50_000
    """Timesteps between two evaluations."""
    episodes: Annotated[int, Field(ge=1, le=100_000), _Whole] = 10
    """Episodes of each evaluation."""
    deterministic: StrictBool | None = None
    """Take the most likely action instead of sampling; null does so where training brings reward from outside."""


class CheckpointConfig(StrictModel):
    """What is kept to resume from; the end of training and Ctrl-C always save."""

    freq: Annotated[int, Field(ge=1, le=MAX_TIMESTEPS), _Whole] = 100_000
    """Timesteps between two checkpoints."""
    minutes: Annotated[float, Field(gt=0, le=1e6)] = 10.0
    """Minutes between two checkpoints; one is made when either time has come."""
    keep: Annotated[int, Field(ge=1, le=10_000), _Whole] = 2
    """How many of the latest checkpoints stay on disk."""


class SequenceConfig(StrictModel):
    """Tasks one after another, for one model."""

    tasks: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=10_000)]
    """What each task changes of the section environment: {id: ...}, or {kwargs: {start_level: 21}}, which is merged
    into the kwargs there. {} changes nothing."""
    steps: Annotated[int, Field(ge=1, le=MAX_TIMESTEPS), _Whole]
    """Environment steps of each task; a task ends with the rollout that completes them."""
    reset: list[_Reset] = Field(default_factory=_default_reset)
    """What begins anew with each task: the running statistics of VecNormalize, the optimiser, the whole policy. By
    default the statistics. The curiosity and its memory go on."""
    episodes: Annotated[int, Field(ge=0, le=100_000), _Whole] = 5
    """Episodes of the evaluation on every task so far, at the end of each; 0 for none."""


class ExperimentConfig(StrictModel):
    """One experiment: everything that decides its outcome."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] = "experiment"
    """Name of the run directory under runs/; without it, the name of the file."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1), _Whole] = 0
    """Seed of every random number generator."""
    total_timesteps: Annotated[int, Field(ge=1, le=MAX_TIMESTEPS), _Whole]
    """Environment steps of the whole run, over all copies of the environment."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d{1,2})?)$")] = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    torch_threads: Annotated[int, Field(ge=1, le=1024), _Whole] | None = 1
    """CPU threads of torch. More than one pays only for large networks on idle cores. null leaves torch's own choice,
    which on a busy machine can be twenty times slower."""
    on_error: Literal["stop", "restart_env"] = "stop"
    """What happens when an environment raises, hangs, or returns what it must not. stop: save and end. restart_env:
    make that environment anew, cut its episode off, and go on; three in a row without a good step end the run."""
    environment: EnvironmentConfig
    algorithm: AlgorithmConfig = AlgorithmConfig()
    far: FARConfig | None = None
    """Fragmentation and recall; null trains the plain algorithm, {} takes the defaults."""
    logging: LoggingConfig = LoggingConfig()
    evaluation: EvaluationConfig | None = None
    """null never evaluates while training."""
    sequence: SequenceConfig | None = None
    """Tasks in sequence; null is the one environment."""
    checkpoints: CheckpointConfig = CheckpointConfig()
    sweep: SweepConfig | None = None
    """What differs between the runs of farl sweep; null for one run."""

    def flat(self) -> dict[str, Any]:
        """Return all settings by their dotted keys, such as ``far.module.name``."""
        return _flat(self.model_dump(mode="json"), "")


def learner_name(config: ExperimentConfig) -> str:
    """``PPO`` or ``FAR(PPO)``."""
    return describe_learner(config.algorithm.name, config.far is not None)


def describe_learner(algorithm: str, far: bool) -> str:
    """``PPO`` or ``FAR(PPO)``."""
    return f"FAR({algorithm})" if far else algorithm


def _flat(data: dict[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
