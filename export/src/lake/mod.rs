//! A lake: one Delta table a dataset.

mod commit;
mod draft;
mod folder;
mod held;
mod ledger;
mod leftover;
mod plan;
mod stats;
mod store;
mod versions;
mod watermark;

use std::path::Path;

use futures_util::future::try_join_all;
use tokio::sync::RwLock;
use tokio_postgres::Client;

use self::draft::Draft;
use self::folder::{enter, folder, look};
use self::held::Held;
use self::leftover::{Files, tidy};
use self::plan::Plan;
use self::watermark::Server;
use crate::dataset::{Dataset, Exported, Options, Planned};
use crate::error::{ExportError, Result};
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
/// `lake` is a folder, made if missing, or a `file://` URL. A future that is dropped before the first
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
    for dataset in datasets {
        dataset.check()?;
    }
    let root = folder(lake)?;
    let lock = enter(&root, options.source.as_deref())?;
    tidy(&root).await?;
    let snapshot = Snapshot::open(client, datasets).await?;
    let plans = plan(&snapshot, &root, datasets, options).await?;
    let mut files = Files::new(&root);
    let drafts = draft::write(&snapshot, &root, plans, options.unverified, &mut files, progress).await?;
    snapshot.close().await?;
    let publishing = PUBLISHING.read().await;
    let task = tokio::spawn(async move {
        let _held = (publishing, lock);
        publish(&root, drafts, files).await
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
    let root = folder(lake)?;
    look(&root, options.source.as_deref())?;
    let snapshot = Snapshot::open(client, datasets).await?;
    let plans = plan(&snapshot, &root, datasets, options).await?;
    snapshot.close().await?;
    Ok(plans.iter().map(Plan::told).collect())
}

async fn plan(snapshot: &Snapshot<'_>, root: &Path, datasets: &[Dataset], options: &Options) -> Result<Vec<Plan>> {
    let held = try_join_all(datasets.iter().map(|dataset| Held::load(root, &dataset.name))).await?;
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

/// Makes sure that a lake can be written to from this source, and makes the folder if it is missing.
///
/// # Errors
/// As [`export_lake`]'s, before it reads anything.
pub fn check_lake(lake: &str, source: &str) -> Result<()> {
    enter(&folder(lake)?, Some(source)).map(drop)
}

/// Waits until no export of this process is between its first and its last commit.
pub async fn publishing_ended() {
    drop(PUBLISHING.write().await);
}

async fn publish(root: &Path, drafts: Vec<Draft>, mut files: Files) -> Result<Vec<Exported>> {
    for draft in &drafts {
        draft.try_log()?;
    }
    let mut exported: Vec<Exported> = Vec::with_capacity(drafts.len());
    let mut left: Vec<String> = drafts.iter().map(|d| d.plan.dataset.name.clone()).collect();
    for draft in drafts {
        match draft.commit(&mut files).await {
            Ok(done) => exported.push(done),
            Err(error) if exported.is_empty() => return Err(error),
            Err(error) => {
                let done: Vec<&str> = exported.iter().map(|e| e.dataset.as_str()).collect();
                let words = format!("published: {}; not published: {}; run the export again", done.join(", "), left.join(", "));
                return Err(error.with(&words));
            }
        }
        left.remove(0);
    }
    versions::note(root, &exported)?;
    Ok(exported)
}
