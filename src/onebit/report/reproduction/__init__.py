"""The paper's tables and curves from run folders: plan, train what is missing, lay ours beside the published numbers."""

from onebit.report.reproduction.experiment import NO_NUMBER, NOT_IN_PAPER, Curve, Experiment, Row
from onebit.report.reproduction.main import main

__all__ = ["NOT_IN_PAPER", "NO_NUMBER", "Curve", "Experiment", "Row", "main"]
