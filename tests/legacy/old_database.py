"""Makes an old database, real tables and all, at LEGACY_URL: with what such databases had in them."""

import os
from datetime import datetime, timedelta

from sqlalchemy import insert

from manager import DatabaseManager
from models import ExecutionReport, ModuleHealthCheck, ModuleRegistry, PortfolioSnapshot, RegimeState, RiskEvaluation

START = datetime(2026, 3, 2, 9, 30) if os.environ.get("LEGACY_START") is None else datetime.fromisoformat(os.environ["LEGACY_START"])


def hours(n):
    return START + timedelta(hours=n)


manager = DatabaseManager(os.environ["LEGACY_URL"])
manager.create_tables()
with manager.session() as session:
    session.add_all([
        ModuleRegistry(name="overseer", version="1.2", status="active", execution_count=10, avg_execution_time_ms=5.5, last_execution=hours(20), config_json={"a": 1}),
        ModuleRegistry(name="risk_management", version="1.0", status="inactive"),
        ModuleRegistry(name="broken", version="0", status="on fire"),
    ])
    session.flush()
    session.execute(insert(ModuleHealthCheck), [
        {"module_id": 1 + n % 2, "status": "healthy", "response_time_ms": n / 7, "details_json": {"n": n}, "created_at": hours(0) + timedelta(seconds=n)} for n in range(int(os.environ.get("LEGACY_CHECKS", 5000)))
    ])
    session.add_all([
        ModuleHealthCheck(module_id=1, status="healthy", response_time_ms=float("nan"), created_at=hours(1)),
        ModuleHealthCheck(module_id=3, status="healthy", created_at=hours(1)),
    ])
    # Two are active: nothing stopped them.
    session.add_all([
        RegimeState(regime_type="bull", confidence=0.9, classified_by="overseer", is_active=False, effective_from=hours(0)),
        RegimeState(regime_type="bear", confidence=0.8, classified_by="overseer", is_active=True, effective_from=hours(5)),
        RegimeState(regime_type="crisis", confidence=0.3, classified_by="overseer", is_active=True, effective_from=hours(9), confirmed_by_human=True),
        RegimeState(regime_type="sideways", confidence=0.4, classified_by="overseer", is_active=False),
    ])
    session.add_all([
        RiskEvaluation(proposal_id="p-1", risk_level="low", verdict="APPROVED", var_99=0.01, created_at=hours(2)),
        RiskEvaluation(proposal_id="p-2", risk_level="low", verdict="PERHAPS", created_at=hours(2)),
    ])
    session.add_all([
        ExecutionReport(order_id="o-1", proposal_id="p-1", asset="NVDA", side="buy", quantity=10, status="filled", filled_quantity=10, average_fill_price=100.1,
                        total_commission=0.3, submitted_at=hours(3), filled_at=hours(4), created_at=hours(3), execution_metadata={"v": 1}),
        ExecutionReport(order_id="o-2", asset="AMD", side="sell", quantity=5, status="cancelled", submitted_at=hours(3), created_at=hours(3)),
    ])
    session.add_all([
        PortfolioSnapshot(positions_json={"NVDA": 10}, cash_balance=0.1, total_value=1001.1, created_at=hours(4)),
        PortfolioSnapshot(positions_json=[1], cash_balance=0.1, total_value=1, created_at=hours(4)),
    ])
