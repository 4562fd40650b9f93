"""Regimes."""

import threading
import unittest
from datetime import datetime, timedelta, timezone

from sqlalchemy.exc import IntegrityError

from models import RegimeState
from shared import ALONE, DB, connect_manager, one, sql


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
