//! The ids of modules, by name.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, RwLock};

use super::sql;
use crate::error::{Error, Result};
use crate::lease::Lease;
use crate::records::Record;

/// What is known of modules. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Modules(Arc<RwLock<HashMap<String, i64>>>);

impl Modules {
    /// For each row the id of the module it names, or 0; unknown modules are registered.
    pub(super) async fn ids<R: Record>(&self, lease: &mut Lease, rows: &[R]) -> Result<Vec<i64>> {
        let (mut ids, mut unknown) = (vec![0; rows.len()], Vec::new());
        {
            let known = self.0.read().unwrap_or_else(|e| e.into_inner());
            // Rows of one module tend to come together.
            let mut last = ("", None);
            for (place, row) in rows.iter().enumerate() {
                let Some(name) = row.module() else { continue };
                if last.0 != name {
                    last = (name, known.get(name).copied());
                }
                match last.1 {
                    Some(id) => ids[place] = id,
                    None => unknown.push(place),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(ids);
        }
        let names: BTreeSet<&str> = unknown.iter().filter_map(|place| rows[*place].module()).collect();
        let registered = self.register(lease, names.into_iter().collect()).await?;
        for place in unknown {
            ids[place] = rows[place].module().and_then(|name| registered.get(name)).copied().unwrap_or_default();
        }
        Ok(ids)
    }

    async fn register(&self, lease: &mut Lease, names: Vec<&str>) -> Result<HashMap<String, i64>> {
        let doing = "registering modules";
        let client = lease.client();
        let statement = client.prepare_cached(sql::MODULE_ENSURE).await.map_err(|e| Error::database(doing, e))?;
        let rows = client.query(&statement, &[&names]).await.map_err(|e| Error::database(doing, e))?;
        let registered: HashMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut known = self.0.write().unwrap_or_else(|e| e.into_inner());
        known.extend(registered.iter().map(|(name, id)| (name.clone(), *id)));
        Ok(registered)
    }

    /// Asks again from now on: a module may have been deleted by hand.
    pub(super) fn forget(&self) {
        self.0.write().unwrap_or_else(|e| e.into_inner()).clear();
    }
}
