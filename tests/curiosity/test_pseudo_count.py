import math

import pytest
import torch

from farl.curiosity import PseudoCount, Transitions
from farl.curiosity.episodic import EpisodicCounts, EpisodicMemory
from farl.curiosity.hashing import ExactHash, SimHash


def bonus(module, before, after, starts):
    observations = [torch.tensor(part, dtype=torch.float32)[:, None] for part in (before, after)]
    prepared = module.prepare(Transitions(observations[0], torch.zeros(len(after)), observations[1]))
    return module.bonus({}, prepared, torch.tensor(starts)).tolist()


def test_episodic_bonus_is_one_over_the_root_of_the_visits_in_this_episode_of_this_environment():
    module = PseudoCount((1,), "episodic")
    assert bonus(module, [0, 0], [1, 2], [True, True]) == [1.0, 1.0]
    assert bonus(module, [1, 2], [1, 1], [False, False]) == pytest.approx([1 / math.sqrt(2), 1.0])
    assert bonus(module, [1, 1], [0, 1], [False, False]) == pytest.approx([1 / math.sqrt(2)] * 2)  # 0: the start
    assert bonus(module, [5, 1], [1, 1], [True, False]) == pytest.approx([1.0, 1 / math.sqrt(3)])


def test_lifelong_bonus_counts_visits_of_all_environments_over_episodes():
    module = PseudoCount((1,), "lifelong")
    assert bonus(module, [0, 0, 0], [1, 2, 1], [True] * 3) == pytest.approx([1.0, 1.0, 1 / math.sqrt(2)])
    assert bonus(module, [0, 0, 0], [1, 3, 2], [True] * 3) == pytest.approx([1 / math.sqrt(3), 1.0, 1 / math.sqrt(2)])


def test_exact_codes_are_equal_for_equal_observations_whatever_the_batch_and_differ_otherwise():
    code = ExactHash(50, torch.Generator().manual_seed(0))
    images = torch.randint(0, 256, (200, 2, 5, 5), dtype=torch.uint8)
    codes = code(images)
    assert len(set(codes.tolist())) == 200
    assert torch.equal(codes, torch.cat([code(image[None]) for image in images]))
    changed = images.clone()
    changed[:, 0, 0, 0] += 1
    assert not (code(changed) == codes).any()
    vectors = torch.randint(0, 100, (10, 50)) / 100
    assert torch.equal(code(vectors), code(vectors + 1e-6))


def test_similar_observations_share_a_code_of_signs():
    code = SimHash(20, 8, torch.Generator().manual_seed(0))
    seen = torch.randn(1, 20)
    assert code(seen) == code(3.0 * seen) == code(seen + 1e-4)
    assert code(seen) == 255 - code(-seen)


def test_memory_keeps_the_latest_entries_of_each_environment_and_forgets_at_a_start():
    memory = EpisodicMemory(capacity=3)
    memory.begin(torch.tensor([True, True]), torch.tensor([10, 20]))
    for step in (1, 2, 3):
        memory.begin(torch.tensor([False, step == 3]), torch.tensor([0, 90]))
        memory.add(torch.tensor([10 + step, 20 + step]))
    held = [sorted(row[mask].tolist()) for row, mask in zip(memory.entries, memory.held, strict=True)]
    assert held == [[11, 12, 13], [23, 90]]


def test_counts_need_no_more_rows_than_the_longest_episode():
    counts = EpisodicCounts(capacity=1000)
    for step in range(70):
        visits = counts.visit(torch.tensor([step - 1]), torch.tensor([step]), torch.tensor([step == 0]))
        assert visits.item() == 1
    assert counts.memory.entries.shape == (1, 128)
