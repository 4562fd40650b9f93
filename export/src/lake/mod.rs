//! A lake: one Delta table a dataset.

mod bound;
mod commit;
mod compact;
mod draft;
mod folder;
mod held;
mod history;
pub(crate) mod ledger;
mod leftover;
mod merge;
mod object;
mod plan;
mod stats;
pub(crate) mod store;
mod table;
mod told;
mod vacuum;
mod verify;
mod versions;
mod watermark;

use std::future::Future;
use std::time::Instant;

use futures_util::future::try_join_all;
use tokio::sync::RwLock;
use tokio_postgres::Client;

pub use self::compact::{CompactOptions, Compacted, compact_lake};
use self::draft::Draft;
use self::folder::{Entered, enter, look};
use self::held::Held;
pub use self::history::{History, Version, lake_history};
use self::leftover::{Files, tidy};
use self::plan::Plan;
pub use self::vacuum::{VacuumOptions, Vacuumed, vacuum_lake};
pub use self::verify::{Finding, Verified, VerifiedTable, VerifyOptions, compare_with_ledger, verify_lake};
use self::watermark::Server;
use crate::dataset::{Dataset, Exported, Mode, Options, Planned};
use crate::error::{ExportError, Result};
use crate::place::Place;
use crate::readers::Readers;
use crate::snapshot::{OnProgress, Snapshot};

/// The partition column.
const DAY: &str = "day";

/// Held while versions are being published: what waits for it, waits for whole lakes.
static PUBLISHING: RwLock<()> = RwLock::const_new(());

/// Brings a lake's datasets up to date, all of them as of one instant. Every data file of every dataset is on
/// disk before the first commit; then the datasets become visible one after the other, each at once and
/// whole, and `_snapshot.json` names the versions that belong together.
///
/// A dataset with a [`Dataset::ledger`] has the days written that the ledger has new lines of, a plain table
/// with a [`Dataset::fingerprint`] is written when that has changed; others, and all of them with
/// [`Options::full`], or when [`Options::identity`] is not the one that the lake was last written from, are written
/// in full. With [`Options::from`] or [`Options::to`], the days in that range are replaced and others left alone.
/// Days that the lake has and the database has dropped ([`Dataset::dropped_before`]) stay; rows that came
/// to them since are added.
///
/// `lake` is a folder, made if missing, a `file://` URL, or `s3://bucket/prefix` with what the usual `AWS_` variables
/// say. A future that is dropped before the first
/// commit publishes nothing; from there on the rest is published all the same: see
/// [`publishing_ended`].
///
/// # Errors
/// See [`crate::ExportErrorKind`]; what was visible before still is, and files of the failed export
/// are removed. Should a commit fail after others went through, the error names both.
pub async fn export_lake(
    client: &mut Client,
    lake: &str,
    datasets: &[Dataset],
    options: &Options,
    progress: OnProgress<'_>,
) -> Result<Vec<Exported>> {
    let began = Instant::now();
    for dataset in datasets {
        dataset.check()?;
    }
    let place = Place::new(lake)?;
    let mut entered = enter(&place, options.source.as_deref()).await?;
    tidy(&place).await?;
    let mut readers = Readers::open(client, datasets).await?;
    let plans = plan(&readers.snapshot, &place, datasets, options).await?;
    if plans.iter().any(|plan| plan.mode != Mode::Unchanged) {
        readers.join(datasets, options).await?;
    }
    let mut files = Files::new(&place);
    let drafts = draft::write(readers, &place, began, plans, options.unverified, &mut files, progress).await?;
    let publishing = PUBLISHING.read().await;
    let task = tokio::spawn(async move {
        let published = publish(&place, &mut entered, drafts, &mut files).await;
        if entered.check().is_err() {
            files.lost();
        }
        files.end().await;
        entered.leave().await;
        drop(publishing);
        published
    });
    task.await.unwrap_or_else(|e| Err(ExportError::lake("publishing the lake", e)))
}

/// What [`export_lake`] would write, and why. Nothing is written, not even the folder.
///
/// # Errors
/// As [`export_lake`]'s, but for those of writing.
pub async fn plan_lake(client: &mut Client, lake: &str, datasets: &[Dataset], options: &Options) -> Result<Vec<Planned>> {
    for dataset in datasets {
        dataset.check()?;
    }
    let place = Place::new(lake)?;
    look(&place, options.source.as_deref()).await?;
    let snapshot = Snapshot::open(client, datasets).await?;
    let plans = plan(&snapshot, &place, datasets, options).await?;
    snapshot.close().await?;
    Ok(plans.iter().map(Plan::told).collect())
}

async fn plan(snapshot: &Snapshot<'_>, place: &Place, datasets: &[Dataset], options: &Options) -> Result<Vec<Plan>> {
    let held = try_join_all(datasets.iter().map(|dataset| Held::load(place, &dataset.name))).await?;
    let server = Server::read(snapshot, options.identity.as_deref()).await?;
    if let Some(server) = &server {
        server.warn_of_lag(snapshot, options.lag.as_deref()).await?;
    }
    let mut plans = Vec::with_capacity(datasets.len());
    for (dataset, held) in datasets.iter().zip(held) {
        plans.push(Plan::new(snapshot, server.as_ref(), dataset, held, options).await?);
    }
    Ok(plans)
}

/// Makes sure that a lake can be written to from this source, and makes it if it is missing.
///
/// # Errors
/// As [`export_lake`]'s, before it reads anything.
pub async fn check_lake(lake: &str, source: &str) -> Result<()> {
    let mut entered = enter(&Place::new(lake)?, Some(source)).await?;
    entered.keep();
    entered.leave().await;
    Ok(())
}

/// Does what is left to do for somebody who can't wait for it; [`publishing_ended`] waits.
pub(crate) fn later(work: impl Future<Output = ()> + Send + 'static) {
    let held = PUBLISHING.try_read();
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            work.await;
            drop(held);
        });
    }
}

/// Waits until no export of this process is between its first and its last commit.
pub async fn publishing_ended() {
    drop(PUBLISHING.write().await);
}

async fn publish(place: &Place, entered: &mut Entered, drafts: Vec<Draft>, files: &mut Files) -> Result<Vec<Exported>> {
    for draft in &drafts {
        draft.try_log()?;
    }
    entered.keep();
    let mut exported: Vec<(Exported, bool)> = Vec::with_capacity(drafts.len());
    let mut left: Vec<String> = drafts.iter().map(|d| d.plan.dataset.name.clone()).collect();
    for draft in drafts {
        let ranged = draft.plan.ranged;
        let committed = match entered.check() {
            Ok(()) => draft.commit(files).await,
            Err(e) => Err(e),
        };
        match committed {
            Ok(done) => exported.push((done, ranged)),
            Err(error) if exported.is_empty() => return Err(error),
            Err(error) => {
                let done: Vec<&str> = exported.iter().map(|(e, _)| e.dataset.as_str()).collect();
                let words = format!("published: {}; not published: {}; run the export again", done.join(", "), left.join(", "));
                return Err(error.with(&words));
            }
        }
        left.remove(0);
    }
    let noted = versions::note(place, &exported).await;
    noted.map_err(|e| e.with("all datasets were published; run the export again, so that it says which versions belong together"))?;
    Ok(exported.into_iter().map(|(e, _)| e).collect())
}
