"""Long-term memory: fragments, keys, recall, eviction, the graph, and the files that hold them."""

from farl.memory.long_term_memory import LongTermMemory, Match
from farl.memory.storage import load_state, save_state

__all__ = ["LongTermMemory", "Match", "load_state", "save_state"]
