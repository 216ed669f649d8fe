"""Long-term memory: fragments, keys, recall, eviction, the graph, and where it all lies."""

from farl.memory.long_term_memory import LongTermMemory, Match
from farl.memory.storage import load_state, save_state
from farl.memory.tiers import MemoryTierError, Tiers

__all__ = ["LongTermMemory", "Match", "MemoryTierError", "Tiers", "load_state", "save_state"]
