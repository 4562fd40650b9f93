"""The models of the system that this store replaces, as its developers wrote them."""

from datetime import datetime
from typing import Any, Optional

from sqlalchemy import JSON, Boolean, DateTime, Float, ForeignKey, Integer, String, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class ModuleRegistry(Base):
    __tablename__ = "module_registry"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    version: Mapped[Optional[str]] = mapped_column(String(20))
    status: Mapped[Optional[str]] = mapped_column(String(20), server_default="inactive")
    config_json: Mapped[Optional[dict[str, Any]]] = mapped_column(JSON)
    last_execution: Mapped[Optional[datetime]] = mapped_column(DateTime)
    execution_count: Mapped[Optional[int]] = mapped_column(Integer, server_default="0")
    error_message: Mapped[Optional[str]] = mapped_column(Text)
    avg_execution_time_ms: Mapped[Optional[float]] = mapped_column(Float)
    success_rate: Mapped[Optional[float]] = mapped_column(Float)
    created_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now(), onupdate=datetime.utcnow)

    health_checks: Mapped[list["ModuleHealthCheck"]] = relationship(back_populates="module")


class ModuleHealthCheck(Base):
    __tablename__ = "module_health_checks"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    module_id: Mapped[int] = mapped_column(ForeignKey("module_registry.id"))
    status: Mapped[str] = mapped_column(String(20))
    response_time_ms: Mapped[Optional[float]] = mapped_column(Float)
    error_count: Mapped[Optional[int]] = mapped_column(Integer, server_default="0")
    memory_usage_mb: Mapped[Optional[float]] = mapped_column(Float)
    cpu_usage_percent: Mapped[Optional[float]] = mapped_column(Float)
    details_json: Mapped[Optional[dict[str, Any]]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime, default=datetime.utcnow)

    module: Mapped[ModuleRegistry] = relationship(back_populates="health_checks")


class RegimeState(Base):
    __tablename__ = "regime_states"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    regime_type: Mapped[str] = mapped_column(String(20))
    confidence: Mapped[float] = mapped_column(Float)
    classification_method: Mapped[Optional[str]] = mapped_column(String(50))
    classified_by: Mapped[Optional[str]] = mapped_column(String(100))
    is_active: Mapped[Optional[bool]] = mapped_column(Boolean, default=False)
    confirmed_by_human: Mapped[Optional[bool]] = mapped_column(Boolean, default=False)
    requires_confirmation: Mapped[Optional[bool]] = mapped_column(Boolean, default=False)
    effective_from: Mapped[Optional[datetime]] = mapped_column(DateTime)
    effective_until: Mapped[Optional[datetime]] = mapped_column(DateTime)
    context_json: Mapped[Optional[dict[str, Any]]] = mapped_column(JSON)
    reasoning: Mapped[Optional[str]] = mapped_column(Text)
    notes: Mapped[Optional[str]] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now())
    updated_at: Mapped[Optional[datetime]] = mapped_column(DateTime, server_default=func.now(), onupdate=datetime.utcnow)


class RiskEvaluation(Base):
    __tablename__ = "risk_evaluations"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    proposal_id: Mapped[Optional[str]] = mapped_column(String(100))
    risk_level: Mapped[str] = mapped_column(String(20))
    var_99: Mapped[Optional[float]] = mapped_column(Float)
    expected_shortfall: Mapped[Optional[float]] = mapped_column(Float)
    max_drawdown: Mapped[Optional[float]] = mapped_column(Float)
    sharpe_ratio: Mapped[Optional[float]] = mapped_column(Float)
    verdict: Mapped[str] = mapped_column(String(20))
    flags_json: Mapped[Optional[Any]] = mapped_column(JSON)
    recommendations_json: Mapped[Optional[Any]] = mapped_column(JSON)
    evaluation_method: Mapped[Optional[str]] = mapped_column(String(50))
    model_version: Mapped[Optional[str]] = mapped_column(String(20))
    created_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now())


class ExecutionReport(Base):
    __tablename__ = "execution_reports"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    proposal_id: Mapped[Optional[str]] = mapped_column(String(100))
    order_id: Mapped[Optional[str]] = mapped_column(String(100), unique=True)
    asset: Mapped[Optional[str]] = mapped_column(String(20))
    side: Mapped[Optional[str]] = mapped_column(String(10))
    quantity: Mapped[Optional[float]] = mapped_column(Float)
    order_type: Mapped[Optional[str]] = mapped_column(String(20))
    status: Mapped[Optional[str]] = mapped_column(String(20))
    filled_quantity: Mapped[Optional[float]] = mapped_column(Float, default=0.0)
    average_fill_price: Mapped[Optional[float]] = mapped_column(Float)
    total_commission: Mapped[Optional[float]] = mapped_column(Float)
    submitted_at: Mapped[Optional[datetime]] = mapped_column(DateTime)
    filled_at: Mapped[Optional[datetime]] = mapped_column(DateTime)
    broker_name: Mapped[Optional[str]] = mapped_column(String(50))
    execution_metadata: Mapped[Optional[Any]] = mapped_column(JSON)
    execution_summary: Mapped[Optional[str]] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now())


class PortfolioSnapshot(Base):
    __tablename__ = "portfolio_snapshots"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    positions_json: Mapped[Optional[Any]] = mapped_column(JSON)
    cash_balance: Mapped[float] = mapped_column(Float)
    total_value: Mapped[float] = mapped_column(Float)
    portfolio_var: Mapped[Optional[float]] = mapped_column(Float)
    portfolio_volatility: Mapped[Optional[float]] = mapped_column(Float)
    max_position_concentration: Mapped[Optional[float]] = mapped_column(Float)
    correlation_risk: Mapped[Optional[float]] = mapped_column(Float)
    snapshot_reason: Mapped[Optional[str]] = mapped_column(String(50))
    market_hours: Mapped[Optional[bool]] = mapped_column(Boolean)
    created_at: Mapped[datetime] = mapped_column(DateTime, server_default=func.now())
