//! What the exactly-once claim rests on: servers that die, wires that break, disks that fill up, each
//! followed by a count of what was written and what is there.
//!
//! `HITHERTO_FAULT=long` runs the long form, `HITHERTO_FAULT_SEED` the random choices of an earlier run.

mod crash;
mod cut;
mod disk;
mod duplicate;
mod identity;
mod proxy;
mod server;
mod spool_kill;
mod stall;
mod tally;

use rand::SeedableRng;
use rand::rngs::StdRng;

pub(crate) fn long() -> bool {
    std::env::var("HITHERTO_FAULT").is_ok_and(|form| form == "long")
}

/// Random choices that can be made again: a test that fails says its seed.
pub(crate) struct Seed {
    pub(crate) value: u64,
    what: &'static str,
}

impl Seed {
    pub(crate) fn new(what: &'static str) -> Self {
        let told = std::env::var("HITHERTO_FAULT_SEED").ok().map(|seed| seed.parse().expect("HITHERTO_FAULT_SEED is a number"));
        Self { value: told.unwrap_or_else(|| rand::random::<u64>() % 1_000_000), what }
    }

    pub(crate) fn random(&self) -> StdRng {
        StdRng::seed_from_u64(self.value)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("{}: to make the same choices again: HITHERTO_FAULT_SEED={}", self.what, self.value));
        }
    }
}

/// A line for people who run the long form, or whose test failed or was skipped.
pub(crate) fn say(line: &str) {
    #[expect(clippy::print_stderr, reason = "tests have no other way to speak")]
    {
        eprintln!("{line}");
    }
}
