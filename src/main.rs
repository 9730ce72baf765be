//! The `ordain` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ordain::cli::main()
}
