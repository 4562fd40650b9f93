"""Execution reports."""

import itertools
import unittest
from datetime import datetime

import psycopg2
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from models import ExecutionReport
from shared import DB, fresh, one, sql


class ExecutionReports(unittest.TestCase):
    def events(self, order_id):
        return [tuple(r) for r in sql(
            """SELECT event_type, last_quantity::text, last_price::text, commission::text FROM
               (SELECT event_type, trim_scale(last_quantity) AS last_quantity, trim_scale(last_price) AS last_price, trim_scale(commission) AS commission, event_at, sequence
                FROM hitherto.order_event WHERE order_id = :o) e ORDER BY event_at, sequence""", o=order_id)]

    def test_an_order_s_history_becomes_events(self):
        order = fresh("order")
        row = DB.store_execution_report(order_id=order, proposal_id="p-9", asset="NVDA", side="BUY", quantity=100.0, order_type="market", status="pending")
        self.assertEqual((row.status, row.side, row.filled_quantity, row.quantity), ("pending", "buy", 0.0, 100.0))
        row = DB.update_execution_report(order, status="submitted", submitted_at=datetime.utcnow(), broker_name="paper")
        self.assertEqual((row.status, row.broker_name), ("submitted", "paper"))
        row = DB.update_execution_report(order, status="partially_filled", filled_quantity=40.0, average_fill_price=100.1, total_commission=0.4)
        self.assertEqual((row.status, row.average_fill_price, row.total_commission), ("partially_filled", 100.1, 0.4))
        at = datetime.utcnow()
        average = (40 * 100.1 + 60 * 100.5) / 100
        row = DB.update_execution_report(order, status="filled", filled_quantity=100.0, average_fill_price=average, total_commission=1.1, filled_at=at,
                                         execution_metadata={"venue": "X"}, execution_summary="done")
        self.assertEqual((row.status, row.average_fill_price, row.total_commission, row.filled_at), ("filled", average, 1.1, at))
        self.assertEqual((row.execution_metadata, row.execution_summary), ({"venue": "X"}, "done"))
        self.assertEqual(self.events(order), [
            ("pending", None, None, None), ("submitted", None, None, None), ("fill", "40", "100.1", "0.4"), ("fill", "60", "100.5", "0.7")])
        self.assertEqual(one("SELECT anomalies FROM hitherto.execution_report WHERE order_id = :o", o=order), [])
        self.assertEqual(one("SELECT count(*) FROM hitherto.order_event e JOIN hitherto.ingest_batch b USING (batch_id) WHERE order_id = :o", o=order), 4)

    def test_a_report_stored_at_the_end_has_a_history(self):
        at = datetime.utcnow()
        for status, filled, events in [
            ("filled", 10.0, ["submitted", "fill"]), ("cancelled", 0.0, ["submitted", "cancelled"]), ("rejected", None, ["submitted", "rejected"]),
            ("expired", 4.0, ["submitted", "fill", "expired"]), ("submitted", 0.0, ["submitted"]), ("pending", 0.0, ["submitted"]),
        ]:
            order = fresh("order")
            row = DB.store_execution_report(order_id=order, asset="A", side="sell", quantity=10.0, status=status, filled_quantity=filled,
                                            average_fill_price=33.3 if filled else None, submitted_at=at, filled_at=at if filled else None)
            self.assertEqual([e[0] for e in self.events(order)], events)
            self.assertEqual((row.status, row.filled_quantity), ("submitted" if status == "pending" else status, filled or 0.0))
            self.assertEqual(row.submitted_at, at)

    def test_floats_are_stored_as_the_decimals_they_were_meant_as(self):
        order = fresh("order")
        DB.store_execution_report(order_id=order, asset="A", side="buy", quantity=0.1, status="filled", filled_quantity=0.1, average_fill_price=0.3, total_commission=0.07)
        self.assertEqual(self.events(order)[-1], ("fill", "0.1", "0.3", "0.07"))

    def test_the_same_order_twice_is_a_unique_violation(self):
        order = fresh("order")
        DB.store_execution_report(order_id=order, asset="A", status="pending")
        with self.assertRaises(IntegrityError) as caught:
            DB.store_execution_report(order_id=order, asset="A", status="pending")
        self.assertIsInstance(caught.exception.orig, psycopg2.errors.UniqueViolation)

    def test_what_was_filled_can_be_taken_back(self):
        order = fresh("order")
        DB.store_execution_report(order_id=order, asset="A", side="buy", quantity=10.0, status="partially_filled", filled_quantity=4.0, average_fill_price=5.0, total_commission=1.0)
        DB.update_execution_report(order, filled_quantity=9.0, average_fill_price=5.0, total_commission=2.0)
        row = DB.update_execution_report(order, filled_quantity=2.0)
        self.assertEqual((row.filled_quantity, row.average_fill_price), (2.0, 5.0))
        row = DB.update_execution_report(order, average_fill_price=5.5, total_commission=0.5)
        self.assertEqual((row.filled_quantity, row.average_fill_price, row.total_commission), (2.0, 5.5, 0.5))
        self.assertEqual([e[0] for e in self.events(order)][-3:], ["fill_voided", "fill_corrected", "fill_corrected"])

    def test_new_orders_show_in_the_old_table(self):
        order = fresh("order")
        sql(
            """SELECT hitherto.order_event_record(e) FROM (SELECT now(), :o, :o || '-1', NULL, NULL, 'submitted', 'B', 'buy', 'limit', 3, 2, NULL, NULL, NULL, 'x', NULL, NULL, NULL,
               now(), gen_random_uuid()) AS r, LATERAL (SELECT r::text::hitherto.order_event AS e) c""", o=order)
        row = DB.update_execution_report(order, status="filled", filled_quantity=3.0, average_fill_price=1.5)
        self.assertEqual((row.status, row.asset, row.average_fill_price), ("filled", "B", 1.5))
        with self.assertRaises(IntegrityError):
            DB.store_execution_report(order_id=order, asset="B", status="pending")

    def test_a_commission_said_before_the_first_fill_is_its(self):
        order = fresh("order")
        with DB.session() as session:
            report = ExecutionReport(order_id=order, asset="A", quantity=10.0, status="submitted", total_commission=1.5)
            session.add(report)
        with DB.session() as session:
            report = session.scalar(select(ExecutionReport).where(ExecutionReport.order_id == order))
            report.filled_quantity, report.average_fill_price = 10.0, 2.0
        self.assertEqual(one("SELECT total_commission FROM execution_reports WHERE order_id = :o", o=order), 1.5)

    def test_noise_of_floats_leaves_no_rest(self):
        for quantity, steps in [(0.8, [0.7, 0.7 + 0.1]), (0.3, [0.1, 0.1 + 0.2]), (3.3, list(itertools.accumulate([0.3] * 11)))]:
            order = fresh("order")
            DB.store_execution_report(order_id=order, asset="A", side="buy", quantity=quantity, status="submitted")
            for filled in steps:
                DB.update_execution_report(order, filled_quantity=filled, average_fill_price=2.0)
            found = sql("SELECT status, filled_quantity = quantity, anomalies FROM hitherto.execution_report WHERE order_id = :o", o=order)
            self.assertEqual(found, [("filled", True, [])], quantity)

    def test_a_deleted_order_is_not_inserted_again(self):
        order = fresh("order")
        DB.store_execution_report(order_id=order, asset="A", status="pending")
        sql("DELETE FROM execution_reports WHERE order_id = :o", o=order)
        with self.assertRaises(IntegrityError) as caught:
            DB.store_execution_report(order_id=order, asset="A", status="pending")
        self.assertIn("was deleted here", str(caught.exception))

    def test_a_report_without_an_order_id_gets_one(self):
        row = DB.store_execution_report(asset="A", status="pending")
        self.assertTrue(row.order_id)

    def test_deleted_it_is_hidden(self):
        row = DB.store_execution_report(order_id=fresh("order"), asset="A", status="pending")
        with DB.session() as session:
            session.delete(session.get(ExecutionReport, row.id))
        self.assertEqual(one("SELECT count(*) FROM execution_reports WHERE id = :i", i=row.id), 0)
