//! The chain of blocks: each block against its entries, the block before and the anchors; each entry
//! against the row that it was made of.

use deadpool_postgres::Transaction;
use uuid::Uuid;

use super::tuple::{Tuple, Tuples};
use super::verify::Audit;
use super::{Anchor, Block, BlockHash, NO_HASH, SOURCES};
use crate::error::{Error, Result};

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
