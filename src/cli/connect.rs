//! Which database a command works on.

use std::path::PathBuf;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;

/// Which database.
#[derive(clap::Args, Debug)]
pub(super) struct Database {
    /// Where the database is: postgresql://user:password@host:5432/database
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true, value_name = "URL", help_heading = "Database")]
    database_url: Option<String>,
    /// A file that holds the password and nothing else, whatever the URL says; read anew at every connection
    #[arg(long, global = true, value_name = "FILE", help_heading = "Database")]
    password_file: Option<PathBuf>,
}

impl Database {
    /// The database that was named, if any was.
    pub(super) fn named(&self) -> Result<Option<Config>> {
        let config = match self.database_url.as_deref().filter(|url| !url.is_empty()) {
            Some(url) => Some(Config::from_url(url)?),
            None => Config::from_pg_env()?,
        };
        Ok(match (config, &self.password_file) {
            (Some(config), Some(file)) => Some(config.with_password_file(file)),
            (config, _) => config,
        })
    }

    /// The environment alone would name another database, or none.
    pub(super) fn by_flag(&self) -> bool {
        self.database_url.is_some() && self.database_url != std::env::var("DATABASE_URL").ok()
    }

    pub(super) fn config(&self) -> Result<Config> {
        self.named()?.ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "no database is named; use --database-url, DATABASE_URL or the PG* variables (or try: hitherto demo)",
            )
        })
    }

    pub(super) async fn store(&self) -> Result<Store> {
        Store::connect(self.config()?).await
    }
}
