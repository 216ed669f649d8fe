"""Payloads move to disk and back: limits hold, nothing is lost, and what goes wrong is said."""

import errno

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from farl.errors import ConfigError
from farl.memory import LongTermMemory, MemoryTierError, Tiers, save_state, tiers


def payload(number):
    return {"weights": torch.full((4,), float(number)), "steps": number}


def make(tmp_path, host=2, count=5, capacity=None):
    memory = LongTermMemory(capacity, tiers=Tiers(host, tmp_path / "memory"))
    for number in range(count):
        memory.add(payload(number), np.eye(8)[[number % 8]])
    return memory


def files(tmp_path):
    return sorted((tmp_path / "memory").rglob("*.safetensors"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["get", "set", "lend", "take", "evict"]), st.integers(0, 7)), max_size=40))
def test_whatever_is_done_payloads_are_those_of_a_plain_memory_and_the_limit_holds(tmp_path_factory, operations):
    memory = make(tmp_path_factory.mktemp("tiers"), host=3, count=8)
    plain = {number: number for number in range(8)}
    for step, (operation, number) in enumerate(operations):
        if number not in plain:
            continue
        if operation == "get":
            assert memory[number]["steps"] == plain[number]
        elif operation == "set":
            plain[number] = 100 + step
            memory[number] = payload(100 + step)
        elif operation == "lend":
            assert memory.lend(number)["steps"] == plain[number]
            with pytest.raises(KeyError, match="lent"):
                memory[number]
            memory[number] = payload(plain[number])
        elif operation == "take":
            memory.take_back(number, memory.lend(number))
        else:
            del plain[number]
            memory.evict(number)
        assert len(memory.tiers.in_host) <= 3
        assert set(memory.tiers.in_host) | set(memory.tiers.on_disk) == set(plain) == set(memory.ids)
    assert {number: int(memory[number]["weights"][0]) for number in plain} == plain


def test_the_least_recently_used_goes_to_disk_and_its_file_goes_when_it_comes_back_changed(tmp_path):
    memory = make(tmp_path)
    assert memory.tiers.in_host == [3, 4]
    assert memory.tiers.on_disk == [0, 1, 2]
    memory[3]
    memory[0] = payload(7)
    assert memory.tiers.in_host == [3, 0]
    assert sorted(file.name for file in files(tmp_path)) == [f"fragment-{n}.safetensors" for n in (1, 2, 4)]
    assert memory.tiers.disk_bytes == sum(file.stat().st_size for file in files(tmp_path))


def test_what_was_only_read_is_not_written_again(tmp_path):
    memory = make(tmp_path)
    before = {file: file.stat().st_ino for file in files(tmp_path)}
    for number in (0, 1, 2, 0, 1, 2):
        assert memory[number]["steps"] == number
    after = {file: file.stat().st_ino for file in files(tmp_path)}
    assert before.items() <= after.items()


def test_what_was_lent_and_comes_back_unchanged_is_not_written_again(tmp_path):
    memory = make(tmp_path)
    before = {file: file.stat().st_ino for file in files(tmp_path)}
    for number in (0, 1, 2, 0, 1, 2):
        lent = memory.lend(number)
        assert number not in memory.tiers
        memory.take_back(number, lent)
        assert memory[number]["steps"] == number
    after = {file: file.stat().st_ino for file in files(tmp_path)}
    assert before.items() <= after.items()


def test_the_file_of_what_is_lent_goes_when_its_fragment_is_evicted(tmp_path):
    memory = make(tmp_path)
    memory.lend(0)
    memory.evict(0)
    assert sorted(file.name for file in files(tmp_path)) == [f"fragment-{n}.safetensors" for n in (1, 2)]
    assert memory.tiers.disk_bytes == sum(file.stat().st_size for file in files(tmp_path))


def test_the_folder_is_its_own_and_gone_with_the_memory(tmp_path):
    first, second = make(tmp_path), make(tmp_path)
    assert len(list((tmp_path / "memory").iterdir())) == 2
    assert first[0]["steps"] == second[0]["steps"] == 0
    del first, second
    assert list((tmp_path / "memory").iterdir()) == []


@pytest.mark.parametrize("limit", [{"host": 3}, {"disk": "here"}])
def test_half_a_setting_is_refused(limit):
    with pytest.raises(ConfigError, match="belong together"):
        Tiers(**limit)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="name a folder"):
        Tiers(2, tmp_path / "file" / "memory")


def test_a_full_disk_loses_nothing_and_ends_with_the_space_to_go_on(tmp_path, monkeypatch):
    memory = make(tmp_path, count=4)

    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tiers, "save_state", full)
        with pytest.raises(MemoryTierError, match=r"fragment 2 .* the disk is full.*nothing is lost"):
            memory[3] = payload(33), memory.add(payload(4), np.eye(8)[[4]])
        assert memory.ids == [0, 1, 2, 3, 4]
        assert memory.tiers.in_host == [2, 3, 4]
    assert [memory[number]["steps"] for number in (0, 1, 2, 3, 4)] == [0, 1, 2, 3, 4]
    assert len(memory.tiers.in_host) == 2
    assert memory.match(np.eye(8)[[4]]).fragment_ids == [4]


def test_a_disk_that_fills_up_while_a_file_is_written_leaves_no_half_file(tmp_path, monkeypatch):
    memory = make(tmp_path, count=2)

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("farl.memory.storage.os.replace", full)
        with pytest.raises(MemoryTierError, match="the disk is full"):
            memory.add(payload(2))
    assert [path for path in (tmp_path / "memory").rglob("*") if path.is_file()] == []
    assert [memory[number]["steps"] for number in (0, 1, 2)] == [0, 1, 2]


def remove(file):
    file.unlink()


def truncate(file):
    file.write_bytes(file.read_bytes()[:-3])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def exchange(file):
    save_state(payload(99), file)


@pytest.mark.parametrize(
    ("harm", "problem"), [(remove, "missing"), (truncate, "damaged"), (flip_a_bit, "damaged"), (exchange, "damaged")]
)
def test_a_missing_or_damaged_file_is_named_and_all_others_stay(tmp_path, harm, problem):
    memory = make(tmp_path)
    harm(files(tmp_path)[1])
    for look in (memory.__getitem__, memory.lend):
        with pytest.raises(MemoryTierError, match=rf"fragment 1 .*fragment-1.safetensors is {problem}.*evict\(1\)"):
            look(1)
    with pytest.raises(MemoryTierError, match="fragment 1"):
        memory.state_dict()
    assert [memory[number]["steps"] for number in (0, 2, 3, 4)] == [0, 2, 3, 4]
    memory.evict(1)
    copy = LongTermMemory(tiers=Tiers(2, tmp_path / "memory"))
    copy.load_state_dict(memory.state_dict())
    assert [copy[number]["steps"] for number in (0, 2, 3, 4)] == [0, 2, 3, 4]


def test_a_saved_memory_has_every_payload_in_its_tier_and_order_again(tmp_path):
    memory = make(tmp_path)
    memory[3]
    memory.lend(4)
    memory.save(tmp_path / "saved")
    copy = LongTermMemory(tiers=Tiers(2, tmp_path / "memory"))
    copy.load(tmp_path / "saved")
    assert copy.tiers.in_host == memory.tiers.in_host == [3]
    assert sorted(copy.tiers.on_disk) == [0, 1, 2]
    copy[4] = payload(4)
    assert [copy[number]["steps"] for number in range(5)] == [0, 1, 2, 3, 4]
    everything_in_host = LongTermMemory()
    everything_in_host.load(tmp_path / "saved")
    assert len(everything_in_host.tiers.in_host) == 4
