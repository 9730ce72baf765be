//! The same, and beside it the protocol with a bug, for the tests to find.

use ordain::{cli, registry::Registry};
use own_protocol::PrimaryCopy;

fn main() -> std::process::ExitCode {
    cli::main(
        Registry::standard()
            .with::<PrimaryCopy>()
            .with::<PrimaryCopy<true>>(),
    )
}
