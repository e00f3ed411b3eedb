"""The simulator: a synthetic carrier's raw files, operational rows, and the truth about them.

It stands in for the network elements, the clearing house and the CRM of a real carrier: the
formats are those the platform reads, the people are invented, and every fault is placed on
purpose and counted in `truth.json`.
"""

from tollhouse.simulator.simulation import TRUTH_FILE, parameters_of, simulate
from tollhouse.simulator.truth import Truth, TruthError

__all__ = ["TRUTH_FILE", "Truth", "TruthError", "parameters_of", "simulate"]
