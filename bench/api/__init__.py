"""What programs and notebooks call: runs, evaluations of networks in memory, explanations, and their results."""

from bench.api.evaluation import evaluate
from bench.api.explanation import Explanation, data, explain
from bench.api.results import Results
from bench.api.running import run
