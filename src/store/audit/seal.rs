//! Puts what has come since into a block.

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use serde::Serialize;
use tokio_postgres::IsolationLevel;

use super::tuple::Tuples;
use super::{Anchor, BLOCK_ENTRIES, Block, BlockHash, NO_HASH, SOURCES, hex};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::upkeep::done;

/// "audit" as a number: sealers take turns by this advisory lock. Writers know nothing of it.
const LOCK: i64 = 0x61_75_64_69_74;

/// What `audit seal` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sealed {
    /// The blocks added now; none when nothing had come.
    pub added: Vec<Anchor>,
    /// Ledger lines and other rows sealed now.
    pub entries: i64,
    /// The last block of the chain; none in a store where nothing was ever sealed.
    pub last: Option<Anchor>,
}

/// What is to be sealed: source, key, hash.
#[derive(Default)]
struct Entries(Vec<(&'static str, String, Vec<u8>)>);

impl Store {
    /// Chains the ledger lines that have committed since into new blocks. Writers do not wait for it: it
    /// only reads their tables.
    ///
    /// # Errors
    /// Whatever the database answers.
    pub async fn audit_seal(&self) -> Result<Sealed> {
        let doing = "sealing the ledger";
        let mut lease = self.upkeep().await?;
        let mut sealed = Sealed { added: Vec::new(), entries: 0, last: None };
        loop {
            // Each statement sees what others sealed while this one waited for the lock.
            let builder = lease.client().build_transaction().isolation_level(IsolationLevel::ReadCommitted);
            let tx = builder.start().await.map_err(|e| Error::database(doing, e))?;
            tx.batch_execute(&format!(
                "SET LOCAL timezone = 'UTC'; SET LOCAL intervalstyle = 'postgres'; SELECT pg_advisory_xact_lock({LOCK})"
            ))
            .await
            .map_err(|e| Error::database(doing, e))?;
            let last = last_block(&tx).await?;
            let (block, entries) = next_block(&tx, last.as_ref()).await?;
            let changed = last.as_ref().map_or("{}", |last| &last.retention) != block.retention;
            if entries.0.is_empty() && !changed {
                sealed.last = last.as_ref().map(Block::anchor);
                tx.rollback().await.map_err(|e| Error::database(doing, e))?;
                break;
            }
            store(&tx, &block, &entries).await?;
            tx.commit().await.map_err(|e| Error::database(doing, e))?;
            sealed.entries += block.entry_count;
            sealed.added.push(block.anchor());
            sealed.last = sealed.added.last().cloned();
            // What has come meanwhile is the next seal's, or this one would never end.
            if block.entry_count < BLOCK_ENTRIES {
                break;
            }
        }
        done(lease).await?;
        Ok(sealed)
    }
}

async fn last_block(tx: &Transaction<'_>) -> Result<Option<Block>> {
    let query = format!("-- audit_last\nSELECT {} FROM hitherto.audit_block ORDER BY block_number DESC LIMIT 1", Block::COLUMNS);
    let row = tx.query_opt(&query, &[]).await.map_err(|e| Error::database("reading the last block", e))?;
    Ok(row.as_ref().map(Block::from_row))
}

async fn next_block(tx: &Transaction<'_>, last: Option<&Block>) -> Result<(Block, Entries)> {
    // Before the entries: the policies that allowed what is noted here are among them.
    let row = tx
        .query_one(
            "-- audit_retention
             SELECT clock_timestamp(), coalesce(jsonb_object_agg(table_name, jsonb_build_object('drop_after', p.drop_after::text,
                    'dropped_before', h.dropped_before)), '{}')::text
             FROM hitherto.retention_policy p FULL JOIN hitherto.retention_horizon h USING (table_name)",
            &[],
        )
        .await
        .map_err(|e| Error::database("reading what retention has noted", e))?;
    let mut entries = Entries::default();
    for source in SOURCES {
        let mut tuples = Tuples::of(tx, source.unsealed, "reading what is not sealed yet").await?;
        while let Some(mut tuple) = tuples.next().await? {
            let key = tuple.take_text();
            entries.0.push((source.name, key, tuple.digest().to_vec()));
        }
    }
    entries.0.sort_unstable();
    let mut block = Block {
        number: last.map_or(1, |last| last.number + 1),
        sealed_at: row.get::<_, DateTime<Utc>>(0),
        entry_count: entries.0.len() as i64,
        retention: row.get(1),
        previous_hash: last.map_or(NO_HASH.to_vec(), |last| last.hash.clone()),
        hash: Vec::new(),
    };
    let mut hash = BlockHash::new(&block);
    entries.0.iter().for_each(|(source, key, digest)| hash.entry(source, key, digest));
    block.hash = hash.finish().to_vec();
    Ok((block, entries))
}

async fn store(tx: &Transaction<'_>, block: &Block, entries: &Entries) -> Result<()> {
    let doing = || format!("storing block {} ({})", block.number, hex(&block.hash));
    tx.execute(
        "-- audit_block_insert
         INSERT INTO hitherto.audit_block (block_number, sealed_at, entry_count, retention, previous_hash, hash)
         VALUES ($1, $2, $3, $4::text::jsonb, $5, $6)",
        &[&block.number, &block.sealed_at, &block.entry_count, &block.retention, &block.previous_hash, &block.hash],
    )
    .await
    .map_err(|e| Error::database(&doing(), e))?;
    for part in entries.0.chunks(5_000) {
        let sources: Vec<&str> = part.iter().map(|(source, ..)| *source).collect();
        let keys: Vec<&str> = part.iter().map(|(_, key, _)| key.as_str()).collect();
        let hashes: Vec<&[u8]> = part.iter().map(|(.., hash)| hash.as_slice()).collect();
        tx.execute(
            "-- audit_entry_insert
             INSERT INTO hitherto.audit_entry (source, key, block_number, hash)
             SELECT source, key, $4, hash FROM unnest($1::text[], $2::text[], $3::bytea[]) AS e (source, key, hash)",
            &[&sources, &keys, &hashes, &block.number],
        )
        .await
        .map_err(|e| Error::database(&doing(), e))?;
    }
    Ok(())
}
