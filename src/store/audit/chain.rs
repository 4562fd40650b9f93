//! The chain of blocks: each block against its entries, the block before and the anchors; each entry
//! against the row that it was made of.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::tuple::{Tuple, Tuples};
use super::verify::Audit;
use super::{Anchor, Block, BlockHash, NO_HASH, SOURCES};
use crate::error::{Error, Result};

/// Up to when rows of a table may be gone, because retention is known to have dropped them.
pub(super) type Dropped = HashMap<String, DateTime<Utc>>;

pub(super) async fn blocks(tx: &Transaction<'_>, anchors: &[Anchor], audit: &mut Audit) -> Result<()> {
    let query = format!("-- audit_blocks\nSELECT {} FROM hitherto.audit_block ORDER BY block_number", Block::COLUMNS);
    let rows = tx.query(&query, &[]).await.map_err(|e| Error::database("reading the blocks", e))?;
    let blocks: Vec<Block> = rows.iter().map(Block::from_row).collect();
    audit.blocks = blocks.len() as u64;
    audit.last = blocks.last().map(Block::anchor);
    let (mut previous, mut expected) = (NO_HASH.to_vec(), 1);
    for block in &blocks {
        if block.number != expected {
            audit.find(Some(expected), None, "audit_block", format!("blocks {expected} to {} are missing", block.number - 1));
        } else if block.previous_hash != previous {
            audit.find(
                Some(block.number),
                None,
                "audit_block",
                "does not follow from the block before: one of them was changed, or they were reordered",
            );
        }
        (previous, expected) = (block.hash.clone(), block.number + 1);
    }
    for anchor in anchors {
        audit.anchors += 1;
        match blocks.iter().find(|block| block.number == anchor.block_number).map(Block::anchor) {
            None => audit.find(Some(anchor.block_number), None, "audit_block", "is anchored and is gone: the end of the chain was cut off"),
            Some(there) if there.hash != anchor.hash => {
                audit.find(
                    Some(anchor.block_number),
                    None,
                    "audit_block",
                    format!("is not the one that is anchored ({}): the chain was made anew", anchor.hash),
                );
            }
            Some(_) => {}
        }
    }
    hashes(tx, &blocks, audit).await
}

/// Computes the blocks' hashes again from their entries.
async fn hashes(tx: &Transaction<'_>, blocks: &[Block], audit: &mut Audit) -> Result<()> {
    let copy = "COPY (SELECT block_number, source, key, hash FROM hitherto.audit_entry ORDER BY block_number, source, key) TO STDOUT (FORMAT binary)";
    let mut tuples = Tuples::of(tx, copy, "reading the blocks' entries").await?;
    let mut next = entry(tuples.next().await?);
    for block in blocks {
        let (mut hash, mut count) = (BlockHash::new(block), 0);
        while let Some((number, source, key, digest)) = next.take_if(|(number, ..)| *number <= block.number) {
            audit.entries += 1;
            if number == block.number {
                hash.entry(&source, &key, &digest);
                count += 1;
            } else {
                stray(number, &source, &key, audit);
            }
            next = entry(tuples.next().await?);
        }
        if count != block.entry_count {
            audit.find(Some(block.number), None, "audit_block", format!("was sealed with {} entries and has {count}", block.entry_count));
        } else if hash.finish().as_slice() != block.hash {
            audit.find(Some(block.number), None, "audit_block", "is not as it was sealed: it or its entries were changed");
        }
    }
    while let Some((number, source, key, _)) = next {
        audit.entries += 1;
        stray(number, &source, &key, audit);
        next = entry(tuples.next().await?);
    }
    Ok(())
}

/// An entry of a block that is not there: the block was taken out.
fn stray(number: i64, source: &str, key: &str, audit: &mut Audit) {
    audit.find(Some(number), key.parse().ok(), source, format!("{key} is sealed in a block that is not there"));
}

fn entry(tuple: Option<Tuple>) -> Option<(i64, String, String, Vec<u8>)> {
    let mut tuple = tuple?;
    Some((tuple.take_int8(), tuple.take_text(), tuple.take_text(), tuple.take().unwrap_or_default().to_vec()))
}

/// Each sealed row against its entry.
pub(super) async fn entries(tx: &Transaction<'_>, audit: &mut Audit) -> Result<()> {
    for source in SOURCES {
        let mut tuples = Tuples::of(tx, source.sealed, "comparing sealed rows").await?;
        while let Some(mut tuple) = tuples.next().await? {
            let (block, key, hash) = (tuple.take_int8(), tuple.take_text(), tuple.take().unwrap_or_default());
            let batch: Option<Uuid> = key.parse().ok();
            if tuple.is_null() {
                audit.find(Some(block), batch, source.name, format!("{key} was sealed and is gone"));
            } else if tuple.digest() != hash[..] {
                audit.find(Some(block), batch, source.name, format!("{key} was changed after it was sealed"));
            }
        }
    }
    Ok(())
}

/// What retention may have dropped. A claim that is sealed counts as far as the policies sealed with it and
/// in the block before allow; one that is newer, as far as the last block's policy allows: whoever drops
/// rows by hand and claims that retention did it has to let the change of policy be sealed, and it is told.
pub(super) async fn retention(tx: &Transaction<'_>, audit: &mut Audit) -> Result<Dropped> {
    let doing = "reading what retention has noted";
    let mut dropped = Dropped::new();
    let rows = tx
        .query(
            "-- audit_retention_sealed
             SELECT b.block_number, r.table_name, (r.now ->> 'dropped_before')::timestamptz,
                    greatest(b.sealed_at - (r.now ->> 'drop_after')::interval, b.sealed_at - (r.before ->> 'drop_after')::interval),
                    coalesce(justify_hours((r.now ->> 'drop_after')::interval)::text, 'ever'),
                    coalesce(justify_hours((r.before ->> 'drop_after')::interval)::text, 'ever'), p.block_number IS NULL
             FROM hitherto.audit_block b LEFT JOIN hitherto.audit_block p ON p.block_number = b.block_number - 1,
                  LATERAL (SELECT k AS table_name, b.retention -> k AS now, p.retention -> k AS before
                           FROM jsonb_object_keys(b.retention || coalesce(p.retention, '{}')) AS k) r
             ORDER BY b.block_number, r.table_name",
            &[],
        )
        .await
        .map_err(|e| Error::database(doing, e))?;
    for row in &rows {
        let (block, table): (i64, String) = (row.get(0), row.get(1));
        let (claimed, allowed): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = (row.get(2), row.get(3));
        let (policy, before, first): (&str, &str, bool) = (row.get(4), row.get(5), row.get(6));
        if !first && policy != before {
            audit.notes.push(format!("block {block}: {table} is kept for {policy} since, for {before} before"));
        }
        let believed = dropped.get(&table).copied();
        let Some(claimed) = claimed.filter(|claimed| believed.is_none_or(|b| *claimed > b)) else { continue };
        if first || allowed.is_some_and(|allowed| claimed <= allowed) {
            dropped.insert(table, claimed);
            continue;
        }
        audit.find(
            Some(block),
            None,
            "retention_horizon",
            format!("says that {table} was dropped before {claimed}, which no sealed policy allows"),
        );
        dropped.extend(allowed.filter(|allowed| believed.is_none_or(|b| *allowed > b)).map(|allowed| (table, allowed)));
    }
    let rows = tx
        .query(
            "-- audit_retention_unsealed
             SELECT h.table_name, CASE WHEN b.retention IS NULL THEN h.dropped_before WHEN p.drop_after IS NOT NULL
                                       THEN least(h.dropped_before, now() - p.drop_after) END
             FROM hitherto.retention_horizon h
             LEFT JOIN LATERAL (SELECT retention FROM hitherto.audit_block ORDER BY block_number DESC LIMIT 1) b ON true
             LEFT JOIN LATERAL (SELECT (b.retention -> h.table_name ->> 'drop_after')::interval AS drop_after) p ON true",
            &[],
        )
        .await
        .map_err(|e| Error::database(doing, e))?;
    for row in &rows {
        let (table, claimed): (String, Option<DateTime<Utc>>) = (row.get(0), row.get(1));
        let Some(claimed) = claimed else { continue };
        let believed = dropped.entry(table).or_insert(claimed);
        *believed = claimed.max(*believed);
    }
    Ok(dropped)
}
