//! The market's regime: proposed, put in force, asked for.

use tokio_postgres::Row;

use super::Store;
use crate::error::{Error, ErrorKind, Result};
use crate::records::{Json, Limits, Record, RegimeState};

/// One decision on regimes at a time, whoever makes it.
const LOCK: &str = "-- regime_lock\nSELECT pg_advisory_xact_lock(hashtext('hitherto.regime_state'))";

const FIND: &str = "-- regime_find
SELECT regime_id, regime, confidence, method, classified_by, reasoning, notes, context::text, requires_confirmation, status,
       proposed_at, decide_by, decided_at, decided_by, effective_from, effective_until
FROM hitherto.regime_state WHERE regime_id = $1";

impl Store {
    /// Proposes a regime. One that requires no confirmation takes effect at once, decided by whoever
    /// classified it; the one in force is superseded at the same instant. Proposed again under the
    /// same id, it stays as it is.
    ///
    /// # Errors
    /// `Invalid` when it breaks a rule.
    pub async fn regime_propose(&self, proposal: RegimeState) -> Result<RegimeState> {
        proposal.validate(&Limits::default(), chrono::Utc::now())?;
        let doing = "proposing a regime";
        self.run_tx("regime_propose", move |tx| {
            let p = proposal.clone();
            Box::pin(async move {
                tx.execute(LOCK, &[]).await.map_err(|e| Error::database(doing, e))?;
                let context = p.context.as_ref().map(Json::as_str);
                let new = tx
                    .execute(
                        "-- regime_propose
                         INSERT INTO hitherto.regime_state (regime_id, regime, confidence, method, classified_by, reasoning, notes, context,
                                                            requires_confirmation, proposed_at, decide_by)
                         VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9, $10, $11) ON CONFLICT (regime_id) DO NOTHING",
                        &[
                            &p.regime_id,
                            &p.regime.as_str(),
                            &p.confidence,
                            &p.method,
                            &p.classified_by,
                            &p.reasoning,
                            &p.notes,
                            &context,
                            &p.requires_confirmation,
                            &p.proposed_at,
                            &p.decide_by,
                        ],
                    )
                    .await
                    .map_err(|e| Error::database(doing, e))?;
                if new == 1 && !p.requires_confirmation {
                    put_in_force(tx, &p.regime_id, &p.classified_by, false).await?;
                }
                let row = tx.query_one(FIND, &[&p.regime_id]).await.map_err(|e| Error::database(doing, e))?;
                regime_state(&row)
            })
        })
        .await
    }

    /// Puts a proposed regime in force from now on; the one in force is superseded at the same instant.
    ///
    /// # Errors
    /// `NotFound` for an unknown id, `Conflict` when it was decided already: the message says how and
    /// by whom.
    pub async fn regime_set_active(&self, regime_id: &str, decided_by: &str) -> Result<RegimeState> {
        let (id, by) = (regime_id.to_owned(), decided_by.trim().to_owned());
        if by.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "a decision needs the name of whoever makes it"));
        }
        let doing = "putting a regime in force";
        self.run_tx("regime_set_active", move |tx| {
            let (id, by) = (id.clone(), by.clone());
            Box::pin(async move {
                tx.execute(LOCK, &[]).await.map_err(|e| Error::database(doing, e))?;
                let row = tx.query_opt(FIND, &[&id]).await.map_err(|e| Error::database(doing, e))?;
                let Some(row) = row else { return Err(Error::new(ErrorKind::NotFound, format!("there is no regime '{id}'"))) };
                let status: String = row.get(9);
                if status != "proposed" {
                    let who: Option<String> = row.get(13);
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!("regime '{id}' is {status} already, decided by {}", who.as_deref().unwrap_or("nobody")),
                    ));
                }
                if row.get::<_, Option<chrono::DateTime<chrono::Utc>>>(11).is_some_and(|deadline| deadline < chrono::Utc::now()) {
                    return Err(Error::new(
                        ErrorKind::Conflict,
                        format!(
                            "regime '{id}' was to be decided by {}; propose it again",
                            row.get::<_, chrono::DateTime<chrono::Utc>>(11).to_rfc3339()
                        ),
                    ));
                }
                put_in_force(tx, &id, &by, true).await?;
                let row = tx.query_one(FIND, &[&id]).await.map_err(|e| Error::database(doing, e))?;
                regime_state(&row)
            })
        })
        .await
    }

    /// The regime in force.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn regime_active(&self) -> Result<Option<RegimeState>> {
        let row = self
            .client()
            .await?
            .query_opt(
                "-- regime_active
                 SELECT regime_id, regime, confidence, method, classified_by, reasoning, notes, context::text, requires_confirmation, status,
                        proposed_at, decide_by, decided_at, decided_by, effective_from, effective_until
                 FROM hitherto.regime_state WHERE status = 'active'",
                &[],
            )
            .await
            .map_err(|e| Error::database("reading the active regime", e))?;
        row.as_ref().map(regime_state).transpose()
    }
}

/// It takes effect when it was proposed, or now if somebody decided on it, but not before the one that
/// it replaces did.
async fn put_in_force(tx: &tokio_postgres::Transaction<'_>, regime_id: &str, decided_by: &str, now: bool) -> Result<()> {
    let doing = "putting a regime in force";
    let from: chrono::DateTime<chrono::Utc> = tx
        .query_one(
            "-- regime_effective_from
             SELECT greatest(n.proposed_at, CASE WHEN $2 THEN clock_timestamp() END, (SELECT max(greatest(effective_from, effective_until)) FROM hitherto.regime_state))
             FROM hitherto.regime_state n WHERE n.regime_id = $1",
            &[&regime_id, &now],
        )
        .await
        .map_err(|e| Error::database(doing, e))?
        .get(0);
    tx.execute(
        "-- regime_supersede
         UPDATE hitherto.regime_state SET status = 'superseded', effective_until = $1 WHERE status = 'active'",
        &[&from],
    )
    .await
    .map_err(|e| Error::database(doing, e))?;
    tx.execute(
        "-- regime_activate
         UPDATE hitherto.regime_state SET status = 'active', effective_from = $2, decided_at = $2, decided_by = $3 WHERE regime_id = $1",
        &[&regime_id, &from, &decided_by],
    )
    .await
    .map_err(|e| Error::database(doing, e))?;
    Ok(())
}

fn regime_state(row: &Row) -> Result<RegimeState> {
    let context: Option<String> = row.get(7);
    let json = |text: String| Json::parse(&text).map_err(|e| Error::new(ErrorKind::Database, format!("reading a regime's context: {e}")));
    Ok(RegimeState {
        regime_id: row.get(0),
        regime: row.get::<_, String>(1).parse()?,
        confidence: row.get(2),
        method: row.get(3),
        classified_by: row.get(4),
        reasoning: row.get(5),
        notes: row.get(6),
        context: context.map(json).transpose()?,
        requires_confirmation: row.get(8),
        status: row.get::<_, String>(9).parse()?,
        proposed_at: row.get(10),
        decide_by: row.get(11),
        decided_at: row.get(12),
        decided_by: row.get(13),
        effective_from: row.get(14),
        effective_until: row.get(15),
    })
}
