//! Computes every hash again and says what differs.

use deadpool_postgres::Transaction;
use serde::Serialize;
use tokio_postgres::IsolationLevel;
use uuid::Uuid;

use super::{Anchor, chain, retention, rows};
use crate::Engine;
use crate::error::{Error, Result};
use crate::records::{HealthCheck, ModuleExecution, OrderEvent, PortfolioSnapshot, Proposal, RiskEvaluation, Signal};
use crate::store::Store;
use crate::store::upkeep::done;

/// Findings that are told one by one; the others are counted.
const TOLD: usize = 100;

/// Something that is not as it was stored. They sort by block, then by batch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// In no block; such findings come after those that are in one.
    #[serde(skip)]
    unsealed: bool,
    /// The block, if it is sealed.
    pub block_number: Option<i64>,
    /// The batch, where it is one's.
    pub batch_id: Option<Uuid>,
    /// The table.
    pub table_name: String,
    /// What differs.
    pub what: String,
}

/// What `audit verify` found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Blocks of the chain.
    pub blocks: u64,
    /// The last one.
    pub last: Option<Anchor>,
    /// Rows sealed in them: ledger lines and others.
    pub entries: u64,
    /// Anchors that were compared.
    pub anchors: u64,
    /// Ledger lines in no block yet: what they say is checked against the rows alone.
    pub unsealed_batches: u64,
    /// Batches whose rows are what was stored.
    pub batches: u64,
    /// Rows read.
    pub rows: u64,
    /// Batches that retention has dropped.
    pub trimmed_batches: u64,
    /// Batches that retention has dropped in part: the rest of their rows can't be compared.
    pub partly_trimmed_batches: u64,
    /// Batches stored before digests were such that rows can be compared with them: their rows were counted.
    pub counted_batches: u64,
    /// Batches of tables whose rows change (module, regime_state): not compared.
    pub other_batches: u64,
    /// What a person should know and is no finding: changes of retention's settings between blocks.
    pub notes: Vec<String>,
    /// How much differs.
    pub finding_count: u64,
    /// What differs, the first block and batch first; no more than a hundred of them.
    pub findings: Vec<Finding>,
}

impl Audit {
    pub(super) fn find(&mut self, block_number: Option<i64>, batch_id: Option<Uuid>, table_name: &str, what: impl Into<String>) {
        let unsealed = block_number.is_none();
        self.finding_count += 1;
        self.findings.push(Finding { unsealed, block_number, batch_id, table_name: table_name.to_owned(), what: what.into() });
        if self.findings.len() > 100 * TOLD {
            self.settle();
        }
    }

    /// Keeps the first ones.
    fn settle(&mut self) {
        self.findings.sort();
        self.findings.truncate(TOLD);
    }
}

impl Store {
    /// Computes every hash again, from the rows up, and compares; with anchors, compares the chain with
    /// them too. All of it is read from one snapshot.
    ///
    /// # Errors
    /// Whatever the database answers. What differs is no error but a finding.
    pub async fn audit_verify(&self, anchors: &[Anchor]) -> Result<Audit> {
        let doing = "verifying";
        let mut lease = self.upkeep().await?;
        let builder = lease.client().build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        let tx = builder.start().await.map_err(|e| Error::database(doing, e))?;
        // Before the snapshot is taken: it does not hold for chunks that are converted or dropped meanwhile.
        tx.batch_execute(
            "SET LOCAL timezone = 'UTC';
             LOCK TABLE hitherto.module_execution, hitherto.health_check, hitherto.signal, hitherto.proposal, hitherto.risk_evaluation,
                 hitherto.order_event, hitherto.portfolio_snapshot IN ACCESS SHARE MODE",
        )
        .await
        .map_err(|e| Error::database(doing, e))?;
        let mut audit = Audit::default();
        verify(&tx, self.capabilities().engine, anchors, &mut audit).await?;
        audit.settle();
        tx.commit().await.map_err(|e| Error::database(doing, e))?;
        done(lease).await?;
        Ok(audit)
    }
}

async fn verify(tx: &Transaction<'_>, engine: Engine, anchors: &[Anchor], audit: &mut Audit) -> Result<()> {
    chain::blocks(tx, anchors, audit).await?;
    chain::entries(tx, audit).await?;
    let dropped = retention::dropped(tx, engine, audit).await?;
    rows::compare::<ModuleExecution>(tx, &dropped, audit).await?;
    rows::compare::<HealthCheck>(tx, &dropped, audit).await?;
    rows::compare::<Signal>(tx, &dropped, audit).await?;
    rows::compare::<Proposal>(tx, &dropped, audit).await?;
    rows::compare::<RiskEvaluation>(tx, &dropped, audit).await?;
    rows::compare::<OrderEvent>(tx, &dropped, audit).await?;
    rows::compare::<PortfolioSnapshot>(tx, &dropped, audit).await?;
    rows::others(tx, audit).await
}
