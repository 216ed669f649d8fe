from functools import partial

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger

from benchmarks._defences import L2Init, PolicyEWC, ReDo, Replay, dormant_units
from benchmarks._stacked_ppo import Rollout, StackedPPO, StackedSettings, advantages_and_returns
from farl.envs.control import ControlVecEnv
from farl.optimisers import Trac
from farl.particles.policies import PolicyWeights, mixture_log_prob

ADAM = partial(torch.optim.Adam, lr=1e-3, eps=1e-5)


def rollout(learners: int = 2, steps: int = 40, lengths: tuple[int, ...] = (40, 25)) -> Rollout:
    torch.manual_seed(0)
    return Rollout(
        torch.randn(learners, steps, 4),
        torch.randint(0, 2, (learners, steps)),
        torch.full((learners, steps), -0.7),
        torch.randn(learners, steps),
        torch.randn(learners, steps),
        np.array(lengths),
    )


def test_an_update_is_stable_baselines3s():
    settings = StackedSettings(epochs=3, batch_size=16, hidden=(16, 16))
    learner = StackedPPO(4, 2, [0, 1], ADAM, settings)
    data = rollout()
    batches = [learner.minibatches(data.lengths) for _ in range(settings.epochs)]
    references = []
    for r in range(2):
        model = PPO(
            "MlpPolicy",
            ControlVecEnv("CartPole", 1),
            n_steps=16,
            batch_size=16,
            n_epochs=3,
            learning_rate=1e-3,
            ent_coef=settings.ent_coef,
            max_grad_norm=1e9,
            device="cpu",
            policy_kwargs={
                "net_arch": [16, 16],
                "activation_fn": partial(torch.nn.LeakyReLU, 0.1),
            },
        )
        model.set_logger(Logger(None, []))
        layers = learner.networks.split(learner.parameters.detach()[r, 0])
        policy = model.policy
        for part, (body, head) in enumerate(
            (
                (policy.mlp_extractor.policy_net, policy.action_net),
                (policy.mlp_extractor.value_net, policy.value_net),
            )
        ):
            for (weight, bias), linear in zip(layers, [body[0], body[2], head], strict=True):
                linear.weight.data.copy_(weight[part][: linear.out_features])
                linear.bias.data.copy_(bias[part, 0][: linear.out_features])

        class Buffer:
            values = returns = np.zeros(1)
            epoch = 0

            def get(self, batch_size: int, r: int = r):
                for index, share, active in batches[self.epoch]:
                    kept = index[r][share[r] > 0]
                    if active[r]:
                        yield type(
                            "Batch",
                            (),
                            {
                                "observations": data.observations[r, kept],
                                "actions": data.actions[r, kept].float(),
                                "old_log_prob": data.log_prob[r, kept],
                                "advantages": data.advantages[r, kept],
                                "returns": data.returns[r, kept],
                                "old_values": data.returns[r, kept],
                            },
                        )()
                self.epoch += 1

        model.rollout_buffer = Buffer()
        model.train()
        references.append(policy)
    served = iter(batches)
    learner.minibatches = lambda lengths: next(served)
    learner.learn(data)
    for r, policy in enumerate(references):
        layers = learner.networks.split(learner.parameters.detach()[r, 0])
        for (weight, _), linear in zip(
            layers,
            [policy.mlp_extractor.policy_net[0], policy.mlp_extractor.policy_net[2], policy.action_net],
            strict=True,
        ):
            torch.testing.assert_close(weight[0], linear.weight.data, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layers[2][0][1, :1], policy.value_net.weight.data, rtol=1e-4, atol=1e-5)


def test_advantages_are_those_of_a_loop_over_each_episode():
    torch.manual_seed(0)
    rewards, values, last = torch.randn(3, 7), torch.randn(3, 7), torch.randn(3)
    lengths = torch.tensor([7, 3, 1])
    advantages, returns = advantages_and_returns(rewards, values, last, lengths, 0.9, 0.8)
    for row, length in enumerate(lengths.tolist()):
        held = 0.0
        for t in reversed(range(length)):
            following = last[row] if t == length - 1 else values[row, t + 1]
            held = rewards[row, t] + 0.9 * following - values[row, t] + 0.9 * 0.8 * held
            assert float(advantages[row, t]) == pytest.approx(float(held), abs=1e-5)
            assert float(returns[row, t]) == pytest.approx(float(held + values[row, t]), abs=1e-5)


def test_learners_side_by_side_do_what_they_do_alone():
    settings = StackedSettings(hidden=(8,), epochs=2, n_particles=2)
    both = StackedPPO(4, 2, [3, 4], ADAM, settings)
    alone = StackedPPO(4, 2, [4], ADAM, settings)
    data = rollout()
    both.learn(data)
    second = {name: value[1:] for name, value in vars(data).items() if name != "lengths"}
    second = {name: value[:, :25] for name, value in second.items()}
    alone.learn(Rollout(**second, lengths=data.lengths[1:]))
    torch.testing.assert_close(both.parameters[1], alone.parameters[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(both.weights.evidence[1], alone.weights.evidence[0], rtol=1e-4, atol=1e-5)


def test_actions_are_drawn_from_the_mixture():
    learner = StackedPPO(4, 3, [0], ADAM, StackedSettings(hidden=(8,), n_particles=3))
    learner.weights.set_evidence(torch.tensor([[0.0, -1.0, -3.0]]))
    observations = torch.randn(1, 1, 4).expand(1, 4000, 4)
    actions, log_prob = learner.actors(4000, 1)(observations, 0)
    log_probs, _ = learner.forward(learner.parameters.detach(), observations[:, :1])
    mixture = mixture_log_prob(learner.weights.log_weights.float(), log_probs)[0, 0].exp()
    frequencies = torch.bincount(actions[0], minlength=3) / 4000
    torch.testing.assert_close(frequencies, mixture, atol=0.03, rtol=0)
    torch.testing.assert_close(log_prob[0].exp(), mixture[actions[0]])


def test_the_loss_moves_the_weights_and_the_floor_holds():
    weights = PolicyWeights((1, 4), beta=1.0, ess_floor=0.5)
    for _ in range(30):
        weights.update(torch.tensor([[0.0, 1.0, 2.0, torch.nan]]))
    assert weights.evidence.argmax() == 0
    assert float(weights.effective_sample_size()) == pytest.approx(2.0, abs=1e-3)
    assert torch.isfinite(weights.evidence).all()
    even = PolicyWeights((2, 4), beta=0.0)
    even.update(torch.randn(2, 4))
    torch.testing.assert_close(even.log_weights, torch.full((2, 4), -np.log(4.0), dtype=torch.float64))


@pytest.mark.parametrize("defence", [L2Init(0.1), PolicyEWC(1e4), ReDo(10.0, every=1), Replay(1.0)])
def test_defences_change_what_is_learnt(defence):
    learners = [StackedPPO(4, 2, [0, 1], ADAM, StackedSettings(hidden=(8, 8), epochs=2)) for _ in range(2)]
    defence.attach(learners[0])
    for _ in range(2):
        learners[0].learn(rollout(), defence.adjust, defence.extra)
        defence.after_iteration(rollout())
        defence.end_level(rollout())
        learners[1].learn(rollout())
    assert torch.isfinite(learners[0].parameters).all()
    assert (learners[0].parameters - learners[1].parameters).abs().max() > 1e-4


def test_l2_init_pulls_home():
    learner = StackedPPO(4, 2, [0], ADAM, StackedSettings(hidden=(8,)))
    defence = L2Init(2.0)
    defence.attach(learner)
    with torch.no_grad():
        learner.parameters += 1.0
    gradient = torch.zeros_like(learner.parameters)
    defence.adjust(gradient)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 2.0))


def test_dead_units_are_found_and_begin_anew():
    learner = StackedPPO(4, 2, [0], ADAM, StackedSettings(hidden=(8, 8)))
    data = rollout(1, 40, (40,))
    learner.learn(data)
    weight, bias = learner.networks.split(learner.parameters.detach().view(2, -1))[0]
    weight[0, 3], bias[0, 0, 3] = 0.0, 0.0
    assert bool(dormant_units(learner, data)[0][0, 3])
    defence = ReDo(0.025, every=1)
    defence.attach(learner)
    defence.after_iteration(data)
    assert weight[0, 3].abs().sum() > 0
    outgoing = learner.networks.split(learner.parameters.detach().view(2, -1))[1][0]
    assert outgoing[0, :, 3].abs().sum() == 0
    assert not bool(dormant_units(learner, data)[0][0, 3])


@pytest.mark.parametrize(
    "settings", [{"activation": "crelu"}, {"layer_norm": True}, {"init": "noise", "n_particles": 2}]
)
def test_other_networks_learn(settings):
    def trac(parameters: list[torch.Tensor]) -> Trac:
        return Trac(parameters, ADAM, per_particle=True)

    learner = StackedPPO(4, 2, [0, 1], trac, StackedSettings(hidden=(8, 8), **settings))
    before = learner.parameters.detach().clone()
    for _ in range(3):
        learner.learn(rollout())
    assert torch.isfinite(learner.parameters).all()
    assert (learner.parameters != before).any()


def test_no_particles_are_refused():
    with pytest.raises(ValueError, match="n_particles must be at least 1"):
        StackedPPO(4, 2, [0], ADAM, StackedSettings(n_particles=0))
    with pytest.raises(ValueError, match="forgetting is a factor"):
        PolicyWeights((2,), forgetting=2.0)
