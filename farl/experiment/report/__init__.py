"""One self-contained page about a run, or about several beside each other."""

from farl.experiment.report.page import write_comparison, write_report
from farl.experiment.report.summary import summary_rows

__all__ = ["summary_rows", "write_comparison", "write_report"]
