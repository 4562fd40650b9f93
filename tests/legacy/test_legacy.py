"""The old system's code against this store: nothing but its connection string has changed.

The cases stand in the files cases_*.py, by what they are about; this is the command that runs all of them, or
those that are named: python test_legacy.py Regimes
"""

import unittest

from cases_decisions import OldCallers, PortfolioSnapshots, RiskEvaluations, TwoAtOnce  # noqa: F401
from cases_health_checks import HealthChecks  # noqa: F401
from cases_modules import Modules, Start  # noqa: F401
from cases_orders import ExecutionReports  # noqa: F401
from cases_regimes import Regimes  # noqa: F401

if __name__ == "__main__":
    unittest.main()
