//! Any text as a policy, as rules, and as devices; a policy survives being written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::{
    check::Rules,
    exchange::given,
    model::policy::{from_toml, to_toml},
};

fuzz_target!(|text: &str| {
    if let Ok(policy) = from_toml(text) {
        assert_eq!(from_toml(&to_toml(&policy)).expect("what was written can be read"), policy);
    }
    // Any policy file that rules name is this text, too.
    let _ = Rules::from_toml(text, |_| Ok(text.to_owned()));
    let _ = given::from_toml(text);
});
