//! ordain's command line with a protocol of our own.

use ordain::{cli, registry::Registry};
use own_protocol::PrimaryCopy;

fn main() -> std::process::ExitCode {
    cli::main(Registry::standard().with::<PrimaryCopy>())
}
