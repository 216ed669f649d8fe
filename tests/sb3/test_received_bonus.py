"""What the learner receives is what the curiosity paid: algorithm x wrapper x space x callback x save and load.

Received is what sits in the rollout buffer when ``train`` begins, or what the replay buffer samples for ``train``. Paid
is what each step's ``CuriosityStep`` says. Expected values are computed here, by formulas of their own.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import (
    VecExtractDictObs,
    VecFrameStack,
    VecTransposeImage,
)

from farl.curiosity import Transitions
from tests.sb3.conveyor import Conveyor, Noise, Shift, WithAction, clock_of, reward_of, see
from tests.sb3.situations import COEFFICIENTS, COMPACT, GAMMA, HINDSIGHT, LAMBDA, STACKS, Situation, make, run

# On-policy -----------------------------------------------------------------------------------------------------------

ON_POLICY = [
    Situation("PPO"),
    Situation("PPO", far={"critic": "shared"}),
    Situation("PPO", far={"episodic": True}),
    Situation("PPO", far={"module": "icm"}),
    Situation("PPO", stack="both"),
    Situation("PPO", stack="both", far={"critic": "shared"}, rewards="large"),
    Situation("PPO", stack="rewards", rewards="large", history="loaded"),
    Situation("PPO", stack="frames outside", far={"critic": "shared"}),
    Situation("PPO", stack="frames inside"),
    Situation("PPO", stack="shift outside", history="read"),
    Situation("PPO", stack="two", far={"critic": "shared"}),
    Situation("PPO", stack="monitor outside", history="evaluated"),
    Situation("PPO", kind="image", stack="transposed"),
    Situation("PPO", kind="image", stack="frames of images", far={"critic": "shared"}),
    Situation("PPO", kind="mixed", stack="places"),
    Situation("PPO", kind="mixed", history="loaded"),
    Situation("PPO", kind="dict", stack="extracted"),
    Situation("PPO", kind="discrete"),
    Situation("PPO", history="stopped"),
    Situation("PPO", far={"critic": "shared"}, history="stopped"),
    Situation("PPO", history="again"),
    Situation("PPO", history="read", far={"critic": "shared"}),
    Situation("A2C", stack="both"),
    Situation("A2C", kind="dict", far={"critic": "shared"}, history="loaded"),
    Situation("TRPO", stack="both"),
    Situation("TRPO", far={"critic": "shared"}),
    Situation("RecurrentPPO", stack="rewards"),
    Situation("RecurrentPPO", far={"critic": "shared"}, history="loaded"),
    Situation("MaskablePPO", stack="both"),
    Situation("MaskablePPO", kind="mixed", far={"critic": "shared"}),
]


def discounted(values, goes_on, discount):
    sums = np.zeros_like(values)
    for step in reversed(range(len(values))):
        following = sums[step + 1] if step + 1 < len(values) else 0.0
        sums[step] = values[step] + discount * goes_on[step] * following
    return sums


class OnPolicyWatch(BaseCallback):
    """Compares advantages and returns at the beginning of ``train`` with those of what was paid."""

    def __init__(self, case):
        super().__init__()
        self.case, self.compared = case, 0

    def _on_training_start(self):
        model, buffer = self.model, self.model.rollout_buffer
        compute, train = type(buffer).compute_returns_and_advantage, type(model).train

        def computed(last_values, dones):
            compute(buffer, last_values, dones)
            self.extrinsic = buffer.advantages.copy(), buffer.returns.copy()

        def trained():
            self._compare()
            train(model)

        buffer.compute_returns_and_advantage, model.train = computed, trained
        if model.intrinsic_critic is not None:  # it values nothing, ever: what was paid is all that there is
            last = model.intrinsic_critic.network[-1]
            last.weight.data.zero_(), last.bias.data.zero_()
            for group in model.intrinsic_critic.optimizer.param_groups:
                group["lr"] = 0.0

    def _on_training_end(self):
        del self.model.train, self.model.rollout_buffer.compute_returns_and_advantage

    def _on_rollout_start(self):
        self.rewards, self.dones = [], []

    def _on_step(self):
        self.rewards.append(self.locals["rewards"].copy())
        self.dones.append(self.locals["dones"].copy())
        return True

    def _compare(self):
        far, buffer = self.model.far, self.model.rollout_buffer
        paid = np.array([step.intrinsic_reward for step in self.model.curiosity_steps])
        assert paid.shape == buffer.rewards.shape
        goes_on = 1.0 - np.array(self.dones)
        advantages, returns = self.extrinsic
        if far["critic"] == "shared":
            more = far["intrinsic_coef"] * paid + (far["extrinsic_coef"] - 1.0) * np.array(self.rewards)
            more = discounted(more, goes_on, GAMMA * LAMBDA)
            advantages, returns = advantages + more, returns + more
        else:
            goes_on = goes_on if far["episodic"] else np.ones_like(goes_on)
            intrinsic = discounted(paid, goes_on, far["gamma"] * LAMBDA)
            advantages = far["extrinsic_coef"] * advantages + far["intrinsic_coef"] * intrinsic
        np.testing.assert_allclose(buffer.advantages, advantages, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(buffer.returns, returns, rtol=1e-4, atol=1e-5)
        self.compared += (paid > 0).any()


@pytest.mark.parametrize("case", ON_POLICY, ids=str)
def test_on_policy_learners_receive_what_was_paid(case, tmp_path):
    settings = {"n_steps": 16, "gae_lambda": LAMBDA}
    if case.algorithm != "A2C":
        settings["batch_size"] = 16
    if "PPO" in case.algorithm:
        settings["n_epochs"] = 1
    watches = []

    def watch(model):
        watches.append(OnPolicyWatch(case))
        return watches[-1]

    run(case, make(case, **settings), watch, 64, tmp_path)
    assert all(each.compared for each in watches)


# Off-policy ----------------------------------------------------------------------------------------------------------

OFF_POLICY = [
    Situation("DQN"),
    Situation("DQN", stack="both", rewards="none"),
    Situation("DQN", stack="rewards"),
    Situation("DQN", stack="rewards", rewards="large"),
    Situation("DQN", stack="both", settings={"n_steps": 3}),
    Situation("DQN", settings={"n_steps": 3}, history="loaded"),
    Situation("DQN", settings={"n_steps": 2}, far={"refresh": True}),
    Situation("DQN", far={"refresh": True}, stack="both", rewards="none"),
    Situation("DQN", far={"refresh": True}, stack="rewards", history="loaded"),
    Situation("DQN", kind="image"),
    Situation("DQN", kind="mixed"),
    Situation("DQN", kind="dict", stack="places", history="loaded"),
    Situation("DQN", settings=COMPACT),
    Situation("DQN", settings=COMPACT, stack="rewards"),
    Situation("DQN", settings=COMPACT, far={"refresh": True}),
    Situation("DQN", settings=COMPACT, far={"refresh": True}, history="again"),
    Situation("DQN", settings={"buffer_size": 40, "n_steps": 3}, stack="both"),
    Situation("DQN", settings={"buffer_size": 40}, far={"refresh": True}),
    Situation("SAC", settings={"use_sde": True, "use_sde_at_warmup": True}, stack="both"),
    Situation("TD3", settings={"learning_starts": 0, "gradient_steps": -1}, stack="both"),
    Situation("DQN", stack="shift outside"),
    Situation("DQN", stack="noise outside", rewards="none"),
    Situation("DQN", stack="monitor outside", history="evaluated"),
    Situation("DQN", stack="both", history="stopped"),
    Situation("DQN", history="read", far={"module": "noveld"}),
    Situation("DQN", history="again"),
    Situation("SAC", stack="both", rewards="none"),
    Situation("SAC", stack="both", rewards="none", history="loaded"),
    Situation("SAC", kind="mixed", settings={"train_freq": 4}),
    Situation("SAC", kind="goal", settings=HINDSIGHT, rewards="goal"),
    Situation("SAC", kind="goal", settings=HINDSIGHT, rewards="goal", stack="rewards"),
    Situation("SAC", kind="goal", settings=HINDSIGHT, rewards="goal", history="loaded"),
    Situation("DQN", kind="goal", settings=HINDSIGHT, rewards="goal", far={"refresh": True}),
    Situation("TD3", stack="rewards"),
    Situation("TD3", kind="dict", stack="places", settings={"train_freq": 4}),
    Situation("DDPG", stack="both", rewards="none"),
    Situation("QRDQN", stack="both", rewards="none"),
    Situation("QRDQN", settings={"n_steps": 3}, stack="rewards"),
    Situation("TQC", stack="both", rewards="none"),
    Situation("TQC", kind="goal", settings=HINDSIGHT, rewards="goal"),
    Situation("CrossQ", stack="both", rewards="none"),
]


class Paid(NamedTuple):
    bonus: float
    fragment: int
    goes_on: bool
    following: int | None = None  # clock of the next step that was stored


class OffPolicyWatch(BaseCallback):
    """Compares the rewards of each sample that ``train`` is given with those of what was paid for its transitions."""

    def __init__(self, case, paid):
        super().__init__()
        self.case, self.compared = case, 0
        self.paid = paid  # by the clock of the observation after the step; and the latest clock of each environment

    def _on_training_start(self):
        buffer = self.model.replay_buffer
        sample = type(buffer).sample

        def sampled(*args, env=None, **kwargs):
            samples = sample(buffer, *args, env=env, **kwargs)
            self._compare(samples, env)
            return samples

        buffer.sample = sampled

    def _on_training_end(self):
        del self.model.replay_buffer.sample

    def _on_step(self):
        last = self.model.curiosity.last
        for number, info in enumerate(self.locals["infos"]):
            bonus, fragment = last.intrinsic_reward[number], last.events.active[number]
            if (before := self.paid.get(("latest", number))) is not None:
                self.paid[before] = self.paid[before]._replace(following=info["clock"])
            self.paid[info["clock"]] = Paid(bonus, fragment, not self.locals["dones"][number])
            self.paid["latest", number] = info["clock"]
        return True

    def _bonus(self, clock):
        paid, fragment, goes_on, following = self.paid[clock]
        lost = not goes_on and self.case.stack == "both"  # the large number at an end is stored clipped
        if self.model.replay_buffer.optimize_memory_usage:  # the next episode's first observation lies there instead
            lost = not goes_on or following not in (None, clock + 1)
        if not self.model.far["refresh"] or lost:
            return paid
        adapter, curiosity = self.model._rollout.adapter, self.model.curiosity
        before, after = (_batch(see(self.case.kind, *seen)) for seen in ((clock - 1, False), (clock, not goes_on)))
        transition = Transitions(adapter(before, "cpu"), torch.zeros(1), adapter(after, "cpu"))
        return curiosity.reward_again(transition, np.array([fragment]))[0]

    def _compare(self, samples, env):
        kind = self.case.kind
        # After a stop, SB3 stores a transition that begins where the stopped one did: the next observation tells which.
        stopped = self.case.history == "stopped"
        observations = _numpy(samples.next_observations if stopped else samples.observations)
        observations = observations if env is None else env.unnormalize_obs(observations)
        achieved = desired = None
        if kind == "goal":
            achieved, desired = (samples.next_observations[key].numpy() for key in ("achieved_goal", "desired_goal"))
        clocks = clock_of(kind, observations) + (not stopped)
        expected = np.zeros(len(clocks))
        for row, clock in enumerate(clocks.tolist()):
            for step in range(self.case.settings.get("n_steps", 1)):
                reward = np.float32(reward_of(self.case.rewards, clock))
                if kind == "goal":
                    reward = Conveyor.compute_reward(achieved[row], desired[row], {})
                reward = reward if env is None else env.normalize_reward(np.array([reward]))[0]
                mixed = COEFFICIENTS["extrinsic_coef"] * reward + COEFFICIENTS["intrinsic_coef"] * self._bonus(clock)
                expected[row] += GAMMA**step * mixed
                if not self.paid[clock].goes_on or self.paid[clock].following is None:
                    break
                clock = self.paid[clock].following
        np.testing.assert_allclose(samples.rewards[:, 0].numpy(), expected, rtol=1e-4, atol=1e-5)
        self.compared += any(self.paid[clock].bonus > 0 for clock in clocks)


def _numpy(observations):
    if isinstance(observations, dict):
        return {key: part.numpy() for key, part in observations.items()}
    return observations.numpy()


def _batch(observation):
    if isinstance(observation, dict):
        return {key: np.asarray(part)[None] for key, part in observation.items()}
    return np.asarray(observation)[None]


@pytest.mark.parametrize("case", OFF_POLICY, ids=str)
def test_off_policy_learners_receive_what_was_paid(case, tmp_path):
    settings = {"learning_starts": 30, "buffer_size": 600, "batch_size": 8, "train_freq": 6}
    watches, paid = [], {}

    def watch(model):
        watches.append(OffPolicyWatch(case, paid))
        return watches[-1]

    run(case, make(case, **settings), watch, 96, tmp_path)
    assert sum(each.compared for each in watches) > 4


# What the modules see ------------------------------------------------------------------------------------------------

INSIDE_OUT = {
    "both": ("vector", lambda env: env),
    "monitor outside": ("vector", lambda env: env),
    "shift outside": ("vector", Shift),
    "noise outside": ("vector", Noise),
    "action outside": ("vector", WithAction),
    "frames outside": ("vector", lambda env: VecFrameStack(env, 3)),
    "frames inside": ("vector", lambda env: VecFrameStack(env, 3)),
    "two": ("vector", lambda env: env),
    "transposed": ("image", lambda env: env),
    "frames of images": ("image", lambda env: VecFrameStack(VecTransposeImage(env), 2)),
    "places": ("mixed", lambda env: env),
    "extracted": ("dict", lambda env: VecExtractDictObs(env, "place")),
}


class Trace(BaseCallback):
    def _on_training_start(self):
        self.rewards = []

    def _on_step(self):
        self.model.take_in()
        self.rewards.append(self.model.curiosity.last.intrinsic_reward)
        return True


@pytest.mark.parametrize("stack", INSIDE_OUT)
def test_with_vec_normalize_somewhere_the_same_bonus_is_paid_as_without(stack):
    """The environment shows the same whatever is done, so even agents that act differently must be paid alike."""
    kind, without = INSIDE_OUT[stack]
    traces = []
    for wrap in (STACKS[stack], without):
        case = Situation(
            "DQN" if stack == "action outside" else "PPO", kind, "extracted" if stack == "extracted" else "none"
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(STACKS, case.stack, wrap)
            settings = {"learning_starts": 10_000} if case.algorithm == "DQN" else {"n_steps": 32, "batch_size": 64}
            trace = Trace()
            make(case, **settings).learn(128, callback=trace)
            traces.append(np.array(trace.rewards))
    assert (traces[0][8:] > 0).any()
    np.testing.assert_allclose(traces[0], traces[1], rtol=1e-3, atol=1e-5)
