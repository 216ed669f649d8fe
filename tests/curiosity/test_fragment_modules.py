import torch

from farl.curiosity import RND, ModuleBank
from farl.curiosity.fragment_modules import FragmentModules
from farl.memory import LongTermMemory


def test_a_module_follows_one_that_was_put_away():
    bank, memory = ModuleBank(RND((5,), features=6, hidden=8)), LongTermMemory(10)
    modules = FragmentModules(bank, memory)
    parent, child = memory.open(), memory.open()
    modules.open([parent], [None])
    modules.put_away(in_use=set())
    assert parent not in bank
    modules.open([child], [parent])
    for name, tensor in modules.state(parent)["parameters"].items():
        assert torch.equal(modules.state(child)["parameters"][name], tensor)
