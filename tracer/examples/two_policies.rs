//! Replays a capture under two policies, and prints what bounces under each and in the kernel that was recorded.
//!
//! `cargo run --package bouncescope-tracer --example two_policies -- captures/default.bounce`

use std::{env, error::Error};

use tracer::{
    capture::Reader,
    model::policy::builtin,
    replay::{
        Wanted, replay,
        settings::{Settings, WhatIf},
    },
};

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args_os().nth(1).ok_or("name a capture")?;
    let policies = ["mainline", "legacy"].map(|name| builtin(name).expect("a policy of the library"));

    let replayed = replay(&mut Reader::open(path.as_ref())?, |start| Wanted {
        settings: policies.iter().map(|one| Settings::what_if(&start.kernel, one, &WhatIf::default())).collect(),
        ..Wanted::default()
    })?;

    println!("{} on {}", replayed.start.kernel.release, replayed.start.kernel.machine);
    for outcome in &replayed.outcomes {
        println!("{}: {} buffers bounce, {} slots at most", outcome.name, outcome.total.bounces, outcome.peak_slots);
    }
    println!("the kernel itself: {} buffers bounced", replayed.verdict.bounces_kernel);
    Ok(())
}
