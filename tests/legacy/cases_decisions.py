"""Decisions and portfolios, callers of other kinds, and two who change the same row at once."""

import threading
import unittest
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, OperationalError

from models import PortfolioSnapshot, RiskEvaluation
from shared import ALONE, DB, fresh, one, sql


class RiskEvaluations(unittest.TestCase):
    def test_an_evaluation_is_stored_in_lower_case(self):
        row = DB.store_risk_evaluation(proposal_id="p-1", risk_level="high", verdict="DOWNGRADED", var_99=0.021, flags_json=["concentration"])
        self.assertEqual((row.verdict, row.risk_level, row.var_99, row.flags_json), ("downgraded", "high", 0.021, ["concentration"]))
        self.assertIsNone(row.recommendations_json)
        self.assertEqual(one("SELECT actor FROM hitherto.decision_trail WHERE proposal_id = 'p-1'"), "risk_management")

    def test_an_evaluation_of_no_proposal_is_kept_under_a_name_of_its_own(self):
        row = DB.store_risk_evaluation(risk_level="low", verdict="approved")
        self.assertEqual(row.proposal_id, f"legacy-unknown-{row.id}")

    def test_it_is_updated_by_storing_it_anew(self):
        row = DB.store_risk_evaluation(proposal_id="p-2", risk_level="low", verdict="approved")
        with DB.session() as session:
            session.get(RiskEvaluation, row.id).verdict = "REJECTED"
        with DB.session() as session:
            again = session.get(RiskEvaluation, row.id)
            self.assertEqual((again.verdict, again.created_at), ("rejected", row.created_at))
            session.delete(again)
        self.assertEqual(one("SELECT count(*) FROM risk_evaluations WHERE proposal_id = 'p-2'"), 0)
        self.assertEqual(one("SELECT count(*) FROM hitherto.risk_evaluation WHERE proposal_id = 'p-2'"), 2)

    def test_unknown_words_are_refused(self):
        with self.assertRaises(IntegrityError) as caught:
            DB.store_risk_evaluation(proposal_id="p", risk_level="low", verdict="maybe")
        self.assertIn("'maybe' is none of approved, downgraded, rejected", str(caught.exception))


class PortfolioSnapshots(unittest.TestCase):
    def test_a_snapshot_is_stored_exactly(self):
        row = DB.create_portfolio_snapshot(positions_json={"NVDA": 10.1, "AMD": {"quantity": 2, "price": 99.9}}, cash_balance=0.1 + 0.2, total_value=1e6,
                                           snapshot_reason="schedule", market_hours=True)
        self.assertEqual((row.cash_balance, row.total_value, row.market_hours, row.positions_json["NVDA"]), (0.1 + 0.2, 1e6, True, 10.1))
        stored = sql("SELECT trim_scale(cash_balance)::text, (SELECT sum(quantity)::text FROM hitherto.portfolio_position p WHERE p.snapshot_id = s.snapshot_id) FROM hitherto.portfolio_snapshot s WHERE legacy_id = :i", i=row.id)
        self.assertEqual([tuple(r) for r in stored], [("0.30000000000000004", "12.100000000000000000")])

    def test_positions_of_another_shape_are_refused(self):
        for positions in ([1, 2], {"A": {"qty": 1}}, {"A": "many"}, {"A": None}):
            with self.assertRaises(IntegrityError) as caught:
                DB.create_portfolio_snapshot(positions_json=positions, cash_balance=1, total_value=1)
            self.assertIn("portfolio_snapshots.positions_json", str(caught.exception))

    def test_update_and_delete(self):
        row = DB.create_portfolio_snapshot(positions_json={}, cash_balance=1, total_value=2)
        with DB.session() as session:
            session.get(PortfolioSnapshot, row.id).total_value = 3.5
        with DB.session() as session:
            again = session.get(PortfolioSnapshot, row.id)
            self.assertEqual((again.cash_balance, again.total_value), (1.0, 3.5))
            session.delete(again)
        self.assertEqual(one("SELECT count(*) FROM portfolio_snapshots WHERE id = :i", i=row.id), 0)


@unittest.skipIf(ALONE, "this engine has one session")
class TwoAtOnce(unittest.TestCase):
    def at_once(self, first, second, values):
        """The second statement begins before the first is committed; its error, if it has one."""
        errors = []

        def run():
            try:
                sql(second, **values)
            except OperationalError as error:
                errors.append(error)

        with DB.engine.begin() as connection:
            connection.execute(text(first), values)
            thread = threading.Thread(target=run)
            thread.start()
            thread.join(0.5)
            self.assertTrue(thread.is_alive())
        thread.join()
        return errors

    def test_changes_of_two_columns_are_both_kept(self):
        row = DB.store_risk_evaluation(proposal_id=fresh("p"), risk_level="low", verdict="approved")
        errors = self.at_once("UPDATE risk_evaluations SET verdict = 'rejected' WHERE id = :i", "UPDATE risk_evaluations SET model_version = '2' WHERE id = :i", {"i": row.id})
        self.assertEqual(errors, [])
        self.assertEqual(sql("SELECT verdict, model_version FROM risk_evaluations WHERE id = :i", i=row.id), [("rejected", "2")])
        order = fresh("order")
        DB.store_execution_report(order_id=order, asset="A", quantity=10.0, status="submitted")
        self.assertEqual(self.at_once("UPDATE execution_reports SET execution_metadata = '{\"a\": 1}' WHERE order_id = :o",
                                      "UPDATE execution_reports SET execution_summary = 's' WHERE order_id = :o", {"o": order}), [])
        self.assertEqual(sql("SELECT execution_metadata, execution_summary FROM execution_reports WHERE order_id = :o", o=order), [({"a": 1}, "s")])

    def test_changes_of_one_column_are_not_lost_in_silence(self):
        snapshot = DB.create_portfolio_snapshot(positions_json={}, cash_balance=1, total_value=2)
        check = DB.record_health_check(DB.register_module(fresh(), "1").id, "healthy")
        order = fresh("order")
        DB.store_execution_report(order_id=order, asset="A", quantity=10.0, status="submitted")
        for update, values in [
            ("UPDATE portfolio_snapshots SET cash_balance = cash_balance + 1 WHERE id = :i", {"i": snapshot.id}),
            ("UPDATE module_health_checks SET error_count = error_count + 1 WHERE id = :i", {"i": check.id}),
            ("UPDATE execution_reports SET filled_quantity = filled_quantity + 1 WHERE order_id = :o", {"o": order}),
        ]:
            # Both say the same number, and yet one of them would be lost.
            errors = self.at_once(update, update, values)
            self.assertEqual(len(errors), 1, update)
            self.assertIn("somebody else has changed", str(errors[0]))
            self.assertEqual(sql(update, **values), 1)
        self.assertEqual(one("SELECT cash_balance FROM portfolio_snapshots WHERE id = :i", i=snapshot.id), 3)
        self.assertEqual(one("SELECT filled_quantity FROM execution_reports WHERE order_id = :o", o=order), 2)


class OldCallers(unittest.TestCase):
    def test_signals_and_proposals_get_ids(self):
        self.assertTrue(DB.save_signal({"kind": "momentum"}))
        self.assertTrue(DB.save_proposal({"asset": "NVDA"}))

    def test_plain_psycopg2_works_too(self):
        raw = DB.engine.raw_connection()
        try:
            with raw.cursor() as cursor:
                cursor.execute("INSERT INTO module_registry (name, config_json) VALUES (%s, %s) RETURNING id, status", (fresh(), '{"a": 1}'))
                id_, status = cursor.fetchone()
                self.assertEqual(status, "inactive")
                cursor.executemany("INSERT INTO module_health_checks (module_id, status) VALUES (%s, %s)", [(id_, "a"), (id_, "b")])
                cursor.execute("SELECT config_json, created_at FROM module_registry WHERE id = %s", (id_,))
                config, at = cursor.fetchone()
                self.assertEqual(config, {"a": 1})
                self.assertIsNone(at.tzinfo)
                cursor.execute("DELETE FROM module_health_checks WHERE module_id = %s AND created_at < %s", (id_, datetime.utcnow() + timedelta(hours=1)))
                self.assertEqual(cursor.rowcount, 2)
            raw.rollback()
        finally:
            raw.close()
