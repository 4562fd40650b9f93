"""The old system's code against this store: nothing but its connection string has changed.

LEGACY_URL names a migrated database. Where LEGACY_CONNECTIONS is 1, the engine has one session, and
what many clients do at once is done with what each of them had read.
"""

import itertools
import os
import threading
import unittest
from datetime import datetime, timedelta, timezone

import psycopg2
from sqlalchemy import delete, event, insert, inspect, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import joinedload

from manager import DatabaseManager
from models import Base, ExecutionReport, ModuleHealthCheck, ModuleRegistry, PortfolioSnapshot, RegimeState, RiskEvaluation

URL = os.environ["LEGACY_URL"]
ALONE = os.environ.get("LEGACY_CONNECTIONS") == "1"
NAMES = (f"{os.getpid()}-{n}" for n in itertools.count())


def connect_manager(connections=5):
    manager = DatabaseManager(URL, pool_size=1 if ALONE else connections, max_overflow=0)
    if ALONE:
        # This engine takes no options at its start.
        @event.listens_for(manager.engine, "connect")
        def search_path(connection, _):
            with connection.cursor() as cursor:
                cursor.execute("SET search_path = legacy, public")
            connection.commit()
    return manager


DB = connect_manager()


def fresh(prefix="module"):
    return f"{prefix}-{next(NAMES)}"


def sql(statement, **values):
    with DB.engine.begin() as connection:
        result = connection.execute(text(statement), values)
        return result.fetchall() if result.returns_rows else result.rowcount


def one(statement, **values):
    return sql(statement, **values)[0][0]


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


class HealthChecks(unittest.TestCase):
    def setUp(self):
        self.module = DB.register_module(fresh(), "1")

    def test_a_check_is_stored_and_read_back(self):
        check = DB.record_health_check(self.module.id, "healthy", response_time_ms=3.25, memory_usage_mb=100.5, details_json={"queue": 3})
        self.assertEqual((check.status, check.response_time_ms, check.error_count, check.details_json), ("healthy", 3.25, 0, {"queue": 3}))
        self.assertLess(abs(check.created_at - datetime.utcnow()), timedelta(minutes=1))
        self.assertEqual(
            sql("SELECT h.status, b.row_count, b.producer FROM hitherto.health_check h JOIN hitherto.ingest_batch b USING (batch_id) WHERE module_id = :i", i=self.module.id),
            [("healthy", 1, "legacy")],
        )

    def test_relationships_load_lazily_and_joined(self):
        for status in ("healthy", "degraded"):
            DB.record_health_check(self.module.id, status)
        with DB.session() as session:
            module = session.get(ModuleRegistry, self.module.id)
            self.assertEqual(sorted(c.status for c in module.health_checks), ["degraded", "healthy"])
            self.assertIs(module.health_checks[0].module, module)
        with DB.session() as session:
            query = select(ModuleRegistry).options(joinedload(ModuleRegistry.health_checks)).where(ModuleRegistry.id == self.module.id)
            self.assertEqual(len(session.scalars(query).unique().one().health_checks), 2)
        with DB.session() as session:
            module = session.get(ModuleRegistry, self.module.id)
            module.health_checks.append(ModuleHealthCheck(status="healthy"))
        self.assertEqual(one("SELECT count(*) FROM module_health_checks WHERE module_id = :i", i=self.module.id), 3)

    def test_an_unknown_module_is_a_foreign_key_violation(self):
        with self.assertRaises(IntegrityError) as caught:
            DB.record_health_check(10**9, "healthy")
        self.assertIsInstance(caught.exception.orig, psycopg2.errors.ForeignKeyViolation)

    def test_many_rows_in_one_insert_get_their_ids_in_order(self):
        with DB.session() as session:
            checks = [ModuleHealthCheck(module_id=self.module.id, status=f"s{n}") for n in range(2500)]
            session.add_all(checks)
        ids = [check.id for check in checks]
        self.assertEqual(ids, sorted(set(ids)))
        self.assertEqual(one("SELECT status FROM module_health_checks WHERE id = :i", i=ids[1234]), "s1234")
        with DB.session() as session:
            rows = [{"module_id": self.module.id, "status": f"t{n}"} for n in range(5)]
            back = session.execute(insert(ModuleHealthCheck).returning(ModuleHealthCheck.id, ModuleHealthCheck.status, sort_by_parameter_order=True), rows).all()
        self.assertEqual([row.status for row in back], [f"t{n}" for n in range(5)])

    def test_the_ten_newest_are_in_the_stats(self):
        now = datetime.utcnow().replace(microsecond=0)
        for n in range(15):
            DB.record_health_check(self.module.id, f"s{n}", created_at=now - timedelta(minutes=15 - n))
        stats = DB.get_module_stats(self.module.name)
        self.assertEqual([c.status for c in stats["recent_health_checks"]], [f"s{n}" for n in range(14, 4, -1)])

    def test_cleanup_hides_old_checks_and_counts_them(self):
        now = datetime.utcnow()
        for days in (50, 40, 20):
            DB.record_health_check(self.module.id, f"d{days}", created_at=now - timedelta(days=days))
        self.assertEqual(DB.cleanup_old_data(days=30), 2)
        self.assertEqual(DB.cleanup_old_data(days=30), 0)
        self.assertEqual([r[0] for r in sql("SELECT status FROM module_health_checks WHERE module_id = :i", i=self.module.id)], ["d20"])
        # What was recorded stays until retention drops it.
        self.assertEqual(one("SELECT count(*) FROM hitherto.health_check WHERE module_id = :i", i=self.module.id), 3)

    def test_100000_checks_are_cleaned_up_in_seconds(self):
        rows = 10_000 if ALONE else 100_000
        sql(
            """INSERT INTO hitherto.health_check (checked_at, module_id, status, batch_id)
               SELECT now() - INTERVAL '60 days' + n * INTERVAL '1 second', :i, 'healthy', '00000000-0000-0000-0000-000000000001' FROM generate_series(1, :rows) n""",
            i=self.module.id, rows=rows,
        )
        start = datetime.now()
        with DB.session() as session:
            gone = session.execute(
                delete(ModuleHealthCheck).where(ModuleHealthCheck.created_at < datetime.utcnow() - timedelta(days=30), ModuleHealthCheck.module_id == self.module.id)
            ).rowcount
        took = (datetime.now() - start).total_seconds()
        self.assertEqual(gone, rows)
        self.assertLess(took, 60)
        print(f"deleting {rows} health checks took {took:.1f} s")

    def test_one_check_is_updated_and_deleted_by_its_id(self):
        check = DB.record_health_check(self.module.id, "healthy", response_time_ms=1)
        with DB.session() as session:
            row = session.get(ModuleHealthCheck, check.id)
            row.status, row.error_count = "degraded", 4
        with DB.session() as session:
            row = session.get(ModuleHealthCheck, check.id)
            self.assertEqual((row.status, row.error_count, row.response_time_ms), ("degraded", 4, 1.0))
            session.delete(row)
        with DB.session() as session:
            self.assertIsNone(session.get(ModuleHealthCheck, check.id))
        self.assertEqual(sql("UPDATE module_health_checks SET status = 'x' WHERE id = :i", i=check.id), 0)

    def test_what_breaks_a_rule_is_refused_in_words(self):
        for values, words in [
            ({"response_time_ms": float("nan")}, "health_check_response_time_ms_range"),
            ({"error_count": -1}, "health_check_error_count_not_negative"),
            ({"status": " "}, "health_check_status_length"),
        ]:
            with self.assertRaises(IntegrityError) as caught:
                DB.record_health_check(self.module.id, values.pop("status", "healthy"), **values)
            self.assertIn(words, str(caught.exception))
        with self.assertRaises(Exception) as caught:
            DB.record_health_check(self.module.id, "healthy", created_at=datetime.utcnow() + timedelta(hours=3))
        self.assertIn("more than 60 minutes ahead; times are UTC", str(caught.exception))

    @unittest.skipIf(ALONE, "plans are the native server's")
    def test_a_lookup_goes_by_an_index(self):
        sql(
            """INSERT INTO hitherto.health_check (checked_at, module_id, status, batch_id)
               SELECT now() - n * INTERVAL '1 second', n % 500 + 1000000, 'healthy', '00000000-0000-0000-0000-000000000001' FROM generate_series(1, 50000) n"""
        )
        sql("ANALYZE hitherto.health_check, hitherto.legacy_tombstone")

        def plan(query):
            # What is asked is whether the view lets an index be used; on a small table the planner may not care to.
            with DB.engine.begin() as connection:
                connection.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL max_parallel_workers_per_gather = 0"))
                return "\n".join(row[0] for row in connection.execute(text(f"EXPLAIN {query}")))

        self.assertIn("legacy_id_idx", plan("SELECT * FROM module_health_checks WHERE id = 17"))
        newest = "SELECT * FROM module_health_checks WHERE module_id = 1000001 ORDER BY created_at DESC LIMIT 10"
        self.assertIn("health_check_module_id_checked_at_idx", plan(newest))
        # docs/legacy.md: with this index nothing is sorted either.
        sql("CREATE INDEX legacy_created_at_idx ON hitherto.health_check (module_id, (checked_at AT TIME ZONE 'UTC') DESC)")
        sql("ANALYZE hitherto.health_check, hitherto.legacy_tombstone")
        found = plan(newest)
        sql("DROP INDEX hitherto.legacy_created_at_idx")
        self.assertIn("legacy_created_at_idx", found)
        self.assertNotRegex(found, r"Sort  \(", "a Merge Append over chunks keeps the order")


class Regimes(unittest.TestCase):
    def test_the_active_regime_is_switched(self):
        first = DB.set_active_regime("Bull", 0.9, "overseer", reasoning="breadth", context_json={"vix": 12.5})
        self.assertEqual((first.regime_type, first.is_active, first.effective_until, first.context_json), ("bull", True, None, {"vix": 12.5}))
        # A change into crisis, with little confidence: its writer has decided.
        second = DB.set_active_regime("crisis", 0.2, "overseer", requires_confirmation=True)
        self.assertNotEqual(first.id, second.id)
        self.assertEqual((second.regime_type, second.requires_confirmation, second.confirmed_by_human), ("crisis", True, False))
        with DB.session() as session:
            past = session.get(RegimeState, first.id)
            self.assertFalse(past.is_active)
            self.assertLessEqual(past.effective_until, second.effective_from)
        self.assertEqual(
            sql("SELECT decided_by, legacy FROM hitherto.regime_state WHERE status = 'active'"), [("overseer", True)],
        )

    def test_a_new_active_one_takes_the_place_of_one_that_was_not_switched_off(self):
        DB.set_active_regime("bull", 0.9, "overseer")
        with DB.session() as session:
            session.add(RegimeState(regime_type="bear", confidence=0.7, classified_by="overseer", is_active=True))
        self.assertEqual(DB.get_active_regime().regime_type, "bear")
        self.assertEqual(one("SELECT count(*) FROM regime_states WHERE is_active"), 1)

    def test_switched_off_there_is_none(self):
        active = DB.set_active_regime("bull", 0.9, "overseer")
        until = datetime.utcnow()
        changed = DB.update_regime(active.id, is_active=False, effective_until=until)
        self.assertEqual((changed.is_active, changed.effective_until), (False, max(until, changed.effective_from)))
        self.assertIsNone(DB.get_active_regime())
        again = DB.update_regime(active.id, is_active=True)
        self.assertTrue(again.is_active)
        self.assertEqual(DB.get_active_regime().id, active.id)
        # Its first period keeps its place in the history.
        self.assertEqual(one("SELECT count(*) FROM hitherto.regime_timeline WHERE effective_until >= :u", u=until.replace(tzinfo=timezone.utc)), 1)

    def test_what_is_not_active_waits_and_is_made_active_by_update(self):
        before = DB.set_active_regime("bull", 0.9, "overseer")
        with DB.session() as session:
            row = RegimeState(regime_type="sideways", confidence=0.4, classified_by="overseer", requires_confirmation=True)
            session.add(row)
        self.assertEqual(DB.get_active_regime().id, before.id)
        row = DB.update_regime(row.id, confirmed_by_human=True, notes="seen")
        self.assertEqual((row.confirmed_by_human, row.is_active, row.notes), (True, False, "seen"))
        row = DB.update_regime(row.id, is_active=True)
        self.assertTrue(row.is_active)
        self.assertEqual(DB.get_active_regime().id, row.id)

    def test_an_unknown_word_is_answered_with_the_known_ones(self):
        with self.assertRaises(IntegrityError) as caught:
            DB.set_active_regime("boom", 0.9, "overseer")
        self.assertIn("'boom' is none of bull, bear, sideways, high_vol, low_vol, crisis, recovery, unknown", str(caught.exception))

    @unittest.skipIf(ALONE, "this engine has one session")
    def test_two_switchers_at_once_leave_one_active_and_no_overlap(self):
        DB.set_active_regime("bull", 0.9, "overseer")
        manager = connect_manager(connections=4)
        errors = []

        def switch(worker):
            for n in range(10):
                try:
                    manager.set_active_regime(["bear", "bull", "low_vol", "high_vol"][(worker + n) % 4], 0.8, f"switcher-{worker}")
                except Exception as error:  # noqa: BLE001
                    errors.append(error)

        threads = [threading.Thread(target=switch, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        manager.engine.dispose()
        self.assertEqual(errors, [])
        self.assertEqual(one("SELECT count(*) FROM regime_states WHERE is_active"), 1)
        self.assertEqual(one("SELECT count(*) FROM regime_states WHERE classified_by LIKE 'switcher-%'"), 40)
        overlaps = one(
            """SELECT count(*) FROM hitherto.regime_timeline a JOIN hitherto.regime_timeline b ON a.effective_from < b.effective_from
               AND b.effective_from < coalesce(a.effective_until, 'infinity')"""
        )
        self.assertEqual(overlaps, 0)


    def test_an_end_to_come_ends_it_now(self):
        active = DB.set_active_regime("bull", 0.9, "overseer")
        changed = DB.update_regime(active.id, is_active=False, effective_until=datetime.utcnow() + timedelta(minutes=50))
        self.assertLess(changed.effective_until, datetime.utcnow() + timedelta(minutes=1))
        self.assertLess(DB.set_active_regime("bear", 0.9, "overseer").effective_from, datetime.utcnow() + timedelta(minutes=1))


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


if __name__ == "__main__":
    unittest.main()
