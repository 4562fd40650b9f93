//! `hitherto completions`

use clap::CommandFactory;
use clap_complete::Shell;

use super::output::write_stdout;
use super::{Cli, Ending};
use crate::error::Result;

/// Print a shell's completions, e.g. `hitherto completions bash > /etc/bash_completion.d/hitherto`
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<Ending> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hitherto", &mut script);
    write_stdout(&script)?;
    Ok(Ending::Done)
}
