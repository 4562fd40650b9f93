"""Modules, and the start of a program."""

import threading
import unittest
from datetime import datetime, timedelta

import psycopg2
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError

from models import Base, ModuleRegistry
from shared import ALONE, DB, connect_manager, fresh, one, sql


class Start(unittest.TestCase):
    def test_missing_tables_are_not_missed(self):
        DB.create_tables()
        DB.create_tables()
        for table in Base.metadata.tables:
            self.assertTrue(inspect(DB.engine).has_table(table), table)
        made = sql("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname = ANY(:names)", names=list(Base.metadata.tables))
        self.assertEqual(made, [])


class Modules(unittest.TestCase):
    def test_a_module_is_registered_once_and_then_updated(self):
        name = fresh()
        first = DB.register_module(name, "1.0", {"a": [1, 2.5]})
        self.assertEqual((first.status, first.execution_count, first.config_json), ("inactive", 0, {"a": [1, 2.5]}))
        self.assertIsNone(first.avg_execution_time_ms)
        again = DB.register_module(name, "1.1", None)
        self.assertEqual((again.id, again.version, again.config_json), (first.id, "1.1", None))
        self.assertIn(name, [m.name for m in DB.get_all_modules()])
        self.assertEqual(one("SELECT version FROM hitherto.module WHERE name = :n", n=name), "1.1")

    def test_server_defaults_come_back_from_the_insert(self):
        with DB.session() as session:
            module = ModuleRegistry(name=fresh(), version="1")
            session.add(module)
            session.flush()
            self.assertEqual((module.status, module.execution_count), ("inactive", 0))
            self.assertLess(abs(module.created_at - datetime.utcnow()), timedelta(minutes=1))
            self.assertIsNone(module.created_at.tzinfo)

    def test_times_are_utc_whatever_the_session_thinks(self):
        with DB.engine.begin() as connection:
            connection.execute(text("SET LOCAL TimeZone = 'America/New_York'"))
            at = connection.execute(text("INSERT INTO module_registry (name) VALUES (:n) RETURNING created_at"), {"n": fresh()}).scalar()
        self.assertLess(abs(at - datetime.utcnow()), timedelta(minutes=1))

    def test_the_same_name_twice_is_a_unique_violation(self):
        name = fresh()
        DB.register_module(name, "1")
        with self.assertRaises(IntegrityError) as caught, DB.session() as session:
            session.add(ModuleRegistry(name=name, version="2"))
        self.assertIsInstance(caught.exception.orig, psycopg2.errors.UniqueViolation)

    def test_status_and_error_message(self):
        name = fresh()
        DB.register_module(name, "1")
        self.assertEqual(DB.update_module_status(name, "error", "feed is down"), 1)
        module = DB.get_module_by_name(name)
        self.assertEqual((module.status, module.error_message), ("error", "feed is down"))
        self.assertEqual(DB.update_module_status(fresh("nobody"), "active"), 0)
        with self.assertRaises(IntegrityError) as caught:
            DB.update_module_status(name, "bored")
        self.assertIn("'bored' is none of active, inactive, error, maintenance", str(caught.exception))

    def test_executions_are_counted_with_their_durations(self):
        name = fresh()
        module = DB.register_module(name, "1")
        durations = [12.5, 0.1, 1234.567891, 3.0, 0.0]
        for duration in durations:
            DB.record_module_execution(name, duration)
        found = sql("SELECT duration_ms, success, details FROM hitherto.module_execution WHERE module_id = :i ORDER BY started_at", i=module.id)
        self.assertEqual([row[0] for row in found], durations)
        self.assertTrue(all(row[1] and row[2] is None for row in found))
        stats = DB.get_module_stats(name)
        self.assertEqual((stats["execution_count"], stats["success_rate"]), (5, 1.0))
        self.assertAlmostEqual(stats["avg_execution_time_ms"], sum(durations) / 5, places=9)
        self.assertEqual(one("SELECT execution_count FROM hitherto.module_stats WHERE name = :n", n=name), 5)

    def test_an_execution_that_sets_an_error_has_failed(self):
        name = fresh()
        DB.register_module(name, "1")
        DB.record_module_execution(name, 5)
        sql(
            """UPDATE module_registry SET execution_count = 2, avg_execution_time_ms = 7.5, status = 'error', error_message = 'no feed',
               last_execution = now() AT TIME ZONE 'UTC' WHERE name = :n""",
            n=name,
        )
        module = DB.get_module_by_name(name)
        self.assertEqual((module.success_rate, module.status, module.execution_count), (0.5, "error", 2))

    def test_a_count_cannot_be_set_back_or_away(self):
        name = fresh()
        DB.register_module(name, "1")
        DB.record_module_execution(name, 5)
        for count in ("0", "NULL", "1000000"):
            with self.assertRaises(IntegrityError, msg=count):
                sql(f"UPDATE module_registry SET execution_count = {count} WHERE name = :n", n=name)
        self.assertEqual(DB.get_module_by_name(name).execution_count, 1)

    def test_figures_may_be_set_to_nothing_where_there_are_none(self):
        name = fresh()
        DB.register_module(name, "1")
        self.assertEqual(sql("UPDATE module_registry SET execution_count = 0, avg_execution_time_ms = 0.0, success_rate = 0.0 WHERE name = :n", n=name), 1)
        self.assertEqual(DB.get_module_by_name(name).execution_count, 0)
        DB.record_module_execution(name, 3.5)
        self.assertEqual(DB.get_module_by_name(name).avg_execution_time_ms, 3.5)

    def test_200_counts_from_stale_reads_lose_none(self):
        name = fresh()
        module = DB.register_module(name, "1")
        DB.record_module_execution(name, 10.0)
        # Five clients each read the same, then all write; the old tables kept one of the five.
        for round_ in range(40):
            row = sql("SELECT execution_count, avg_execution_time_ms FROM module_registry WHERE name = :n", n=name)[0]
            for client in range(5):
                # Durations that are all the same must not be taken for one.
                duration = 10.0 if round_ % 2 else 1.5 * round_ + client
                sql(
                    "UPDATE module_registry SET execution_count = :c, avg_execution_time_ms = :a, last_execution = clock_timestamp() AT TIME ZONE 'UTC' WHERE name = :n",
                    c=row[0] + 1, a=(row[1] * row[0] + duration) / (row[0] + 1), n=name,
                )
        found = [r[0] for r in sql("SELECT duration_ms FROM hitherto.module_execution WHERE module_id = :i ORDER BY 1", i=module.id)]
        expected = sorted([10.0] + [10.0 if r % 2 else 1.5 * r + c for r in range(40) for c in range(5)])
        self.assertEqual(found, expected)
        self.assertEqual(DB.get_module_by_name(name).execution_count, 201)

    @unittest.skipIf(ALONE, "the same with stale reads above: this engine has one session")
    def test_200_concurrent_counts_lose_none(self):
        name = fresh()
        module = DB.register_module(name, "1")
        manager = connect_manager(connections=8)

        def count(worker):
            for n in range(25):
                manager.record_module_execution(name, worker * 100.0 + n)

        threads = [threading.Thread(target=count, args=(worker,)) for worker in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        manager.engine.dispose()
        found = [r[0] for r in sql("SELECT duration_ms FROM hitherto.module_execution WHERE module_id = :i ORDER BY 1", i=module.id)]
        self.assertEqual(found, sorted(worker * 100.0 + n for worker in range(8) for n in range(25)))
        stored = DB.get_module_by_name(name)
        self.assertEqual(stored.execution_count, 200)
        self.assertAlmostEqual(stored.avg_execution_time_ms, sum(found) / 200, places=6)

    def test_an_execution_written_in_steps_counts_once(self):
        name = fresh()
        DB.register_module(name, "1")
        DB.record_module_execution(name, 5)
        with DB.session() as session:
            module = session.scalar(select(ModuleRegistry).where(ModuleRegistry.name == name))
            module.execution_count += 1
            session.flush()
            module.avg_execution_time_ms = 10
            session.flush()
            module.last_execution = datetime.utcnow()
        self.assertEqual(DB.get_module_by_name(name).execution_count, 2)
        for _ in range(3):
            sql("UPDATE module_registry SET execution_count = execution_count + 1, avg_execution_time_ms = 7 WHERE name = :n", n=name)
            sql("UPDATE module_registry SET last_execution = clock_timestamp() AT TIME ZONE 'UTC' WHERE name = :n", n=name)
        sql("UPDATE module_registry SET avg_execution_time_ms = NULL WHERE name = :n", n=name)
        self.assertEqual(DB.get_module_by_name(name).execution_count, 5)

    def test_a_copy_written_back_whole_counts_nothing(self):
        name = fresh()
        DB.register_module(name, "1")
        DB.record_module_execution(name, 5)
        copies = [sql("SELECT * FROM module_registry WHERE name = :n", n=name)[0]._mapping]
        for duration in (7, 7, 9):
            DB.record_module_execution(name, duration)
            copies.append(sql("SELECT * FROM module_registry WHERE name = :n", n=name)[0]._mapping)
        for copy in copies:
            sql(
                """UPDATE module_registry SET status = 'maintenance', execution_count = :execution_count, avg_execution_time_ms = :avg_execution_time_ms,
                   last_execution = :last_execution WHERE id = :id""", **copy,
            )
        module = DB.get_module_by_name(name)
        self.assertEqual((module.execution_count, module.status), (4, "maintenance"))

    def test_a_module_with_a_history_is_kept(self):
        name, idle = fresh(), fresh()
        DB.register_module(name, "1")
        DB.register_module(idle, "1")
        DB.record_module_execution(name, 1)
        with self.assertRaises(IntegrityError) as caught:
            sql("DELETE FROM module_registry WHERE name = :n", n=name)
        self.assertIn("has a history", str(caught.exception))
        self.assertEqual(sql("DELETE FROM module_registry WHERE name = :n", n=idle), 1)
        self.assertIsNone(DB.get_module_by_name(idle))
