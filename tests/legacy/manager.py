"""The data layer's `DatabaseManager`, as its callers know it."""

import uuid
from contextlib import contextmanager
from datetime import datetime, timedelta

from sqlalchemy import create_engine, delete, select, update
from sqlalchemy.orm import sessionmaker

from models import Base, ExecutionReport, ModuleHealthCheck, ModuleRegistry, PortfolioSnapshot, RegimeState, RiskEvaluation


class DatabaseManager:
    def __init__(self, url, **engine_options):
        self.engine = create_engine(url, **engine_options)
        self.sessions = sessionmaker(self.engine, expire_on_commit=False)

    def create_tables(self):
        Base.metadata.create_all(self.engine)

    @contextmanager
    def session(self):
        with self.sessions() as session, session.begin():
            yield session

    def _store(self, row):
        with self.session() as session:
            session.add(row)
        with self.session() as session:
            return session.get(type(row), row.id)

    def register_module(self, name, version, config=None):
        with self.session() as session:
            module = session.scalar(select(ModuleRegistry).where(ModuleRegistry.name == name))
            if module is None:
                module = ModuleRegistry(name=name, version=version, config_json=config)
                session.add(module)
            else:
                module.version = version
                module.config_json = config
        return self.get_module_by_name(name)

    def update_module_status(self, name, status, error_message=None):
        with self.session() as session:
            values = {"status": status, "error_message": error_message}
            return session.execute(update(ModuleRegistry).where(ModuleRegistry.name == name).values(**values)).rowcount

    def record_module_execution(self, name, execution_time_ms):
        with self.session() as session:
            module = session.scalar(select(ModuleRegistry).where(ModuleRegistry.name == name))
            count = module.execution_count or 0
            average = module.avg_execution_time_ms or 0.0
            module.execution_count = count + 1
            module.avg_execution_time_ms = (average * count + execution_time_ms) / (count + 1)
            module.last_execution = datetime.utcnow()

    def get_all_modules(self):
        with self.session() as session:
            return list(session.scalars(select(ModuleRegistry).order_by(ModuleRegistry.name)))

    def get_module_by_name(self, name):
        with self.session() as session:
            return session.scalar(select(ModuleRegistry).where(ModuleRegistry.name == name))

    def get_module_stats(self, name):
        with self.session() as session:
            module = session.scalar(select(ModuleRegistry).where(ModuleRegistry.name == name))
            checks = session.scalars(
                select(ModuleHealthCheck)
                .where(ModuleHealthCheck.module_id == module.id)
                .order_by(ModuleHealthCheck.created_at.desc())
                .limit(10)
            )
            return {
                "name": module.name,
                "status": module.status,
                "execution_count": module.execution_count,
                "avg_execution_time_ms": module.avg_execution_time_ms,
                "success_rate": module.success_rate,
                "last_execution": module.last_execution,
                "recent_health_checks": list(checks),
            }

    def record_health_check(self, module_id, status, **values):
        return self._store(ModuleHealthCheck(module_id=module_id, status=status, **values))

    def set_active_regime(self, regime_type, confidence, classified_by, **values):
        now = datetime.utcnow()
        with self.session() as session:
            session.execute(update(RegimeState).where(RegimeState.is_active == True).values(is_active=False, effective_until=now))  # noqa: E712
            row = RegimeState(
                regime_type=regime_type, confidence=confidence, classified_by=classified_by, is_active=True, effective_from=now, **values
            )
            session.add(row)
        return self.get_active_regime()

    def get_active_regime(self):
        with self.session() as session:
            return session.scalar(select(RegimeState).where(RegimeState.is_active == True))  # noqa: E712

    def update_regime(self, regime_id, **values):
        with self.session() as session:
            row = session.get(RegimeState, regime_id)
            for name, value in values.items():
                setattr(row, name, value)
        with self.session() as session:
            return session.get(RegimeState, regime_id)

    def store_risk_evaluation(self, **values):
        return self._store(RiskEvaluation(**values))

    def store_execution_report(self, **values):
        return self._store(ExecutionReport(**values))

    def update_execution_report(self, order_id, **values):
        with self.session() as session:
            row = session.scalar(select(ExecutionReport).where(ExecutionReport.order_id == order_id))
            for name, value in values.items():
                setattr(row, name, value)
        with self.session() as session:
            return session.scalar(select(ExecutionReport).where(ExecutionReport.order_id == order_id))

    def create_portfolio_snapshot(self, **values):
        return self._store(PortfolioSnapshot(**values))

    def save_signal(self, signal):
        return str(uuid.uuid4())

    def save_proposal(self, proposal):
        return str(uuid.uuid4())

    def cleanup_old_data(self, days=30):
        cutoff = datetime.utcnow() - timedelta(days=days)
        with self.session() as session:
            return session.execute(delete(ModuleHealthCheck).where(ModuleHealthCheck.created_at < cutoff)).rowcount
