-- A module is measured by the minutes in which it said anything: whoever speaks more often is expected
-- each minute, and one that speaks in bursts is measured from burst to burst. Its usual interval is what
-- nine in ten of its last gaps do not exceed, so that neither a burst nor one long night decides. Silence
-- is counted up to the latest word of any module, not up to now: history that was loaded is not silent,
-- and when nobody speaks it is not each module that fell silent.
CREATE OR REPLACE VIEW hitherto.module_silence AS
WITH RECURSIVE word (module_id, heard_at, number) AS (
    SELECT m.module_id, hitherto.module_heard(m.module_id, 'infinity'), 1 FROM hitherto.module m
    UNION ALL
    SELECT w.module_id, hitherto.module_heard(w.module_id, date_bin('1 minute', w.heard_at, TIMESTAMPTZ '2000-01-01 00:00:00+00')), w.number + 1
    FROM word w WHERE w.heard_at IS NOT NULL AND w.number < 21
), gap AS (
    SELECT module_id, heard_at, lag(date_bin('1 minute', heard_at, TIMESTAMPTZ '2000-01-01 00:00:00+00')) OVER (PARTITION BY module_id ORDER BY number)
                                - date_bin('1 minute', heard_at, TIMESTAMPTZ '2000-01-01 00:00:00+00') AS length
    FROM word WHERE heard_at IS NOT NULL
), usual AS (
    -- Of fewer than three gaps nothing follows.
    SELECT module_id, max(heard_at) AS last_heard_at,
           CASE WHEN count(length) >= 3 THEN percentile_disc(0.9) WITHIN GROUP (ORDER BY length) END AS usual_interval
    FROM gap GROUP BY module_id
), clock AS (
    SELECT least(max(last_heard_at), now()) AS time FROM usual
)
SELECT m.name AS module, m.status, u.last_heard_at, u.usual_interval,
       greatest(c.time - u.last_heard_at, INTERVAL '0') AS silent_for,
       m.status NOT IN ('inactive', 'maintenance')
           AND coalesce(c.time - u.last_heard_at > u.usual_interval * hitherto.silent_after(), false) AS silent
FROM hitherto.module m LEFT JOIN usual u USING (module_id) CROSS JOIN clock c;

COMMENT ON VIEW hitherto.module_silence IS 'Which modules have fallen silent, each by its own measure';
COMMENT ON COLUMN hitherto.module_silence.module IS 'Module';
COMMENT ON COLUMN hitherto.module_silence.status IS 'active, inactive, error or maintenance';
COMMENT ON COLUMN hitherto.module_silence.last_heard_at IS 'Its latest execution, health check, signal, proposal or risk evaluation; NULL: none yet';
COMMENT ON COLUMN hitherto.module_silence.usual_interval IS 'What nine in ten of its last 20 gaps do not exceed, in whole minutes; NULL with fewer than 3 gaps';
COMMENT ON COLUMN hitherto.module_silence.silent_for IS 'From its latest word to the latest word of any module';
COMMENT ON COLUMN hitherto.module_silence.silent IS 'silent_for is more than hitherto.silent_after() (5) usual intervals; never for one that is inactive or in maintenance';
