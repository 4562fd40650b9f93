//! The `hitherto` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    hitherto::cli::main()
}
