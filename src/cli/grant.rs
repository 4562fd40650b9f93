//! `hitherto grant`

use super::Ending;
use super::connect::Database;
use super::output::Output;
use crate::error::Result;
use crate::migrate::Role;
use crate::store::Granted;

/// Put a login into a role of this store, or take it out. What each role may do: docs/roles.md
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: hitherto grant writer trading_app")]
pub(super) struct Args {
    /// owner, writer, analyst or exporter
    role: Role,
    /// The login, as it stands in the server: make it first with CREATE ROLE ... LOGIN PASSWORD ...
    user: String,
    /// Take the login out of the role
    #[arg(long)]
    revoke: bool,
}

pub(super) async fn run(args: Args, database: &Database, output: Output) -> Result<Ending> {
    let store = database.store().await?;
    let granted =
        if args.revoke { store.role_revoke(args.role, &args.user).await? } else { store.role_grant(args.role, &args.user).await? };
    output.print(&granted, |granted| text(granted, args.revoke))?;
    Ok(Ending::Done)
}

fn text(granted: &Granted, revoked: bool) -> String {
    let Granted { role, user, roles, notes } = granted;
    let mut text = if revoked { format!("{user} is out of {role}\n") } else { format!("{user} is in {role}\n") };
    match roles.as_slice() {
        [] => text.push_str("  has no role of this store now\n"),
        roles => roles.iter().for_each(|role| text.push_str(&format!("  may {} ({role})\n", role.may()))),
    }
    for note in notes {
        text.push_str(&format!("  {note}\n"));
    }
    text
}
