//! Policies by name or from files, as the command line names them.

use std::path::Path;

use anyhow::Result;
use tracer::model::policy::{Policy, builtin, builtins, named};
use tracer::plain::plain_word;

use crate::{input::read_text, one_line};

/// What is compared where nothing else is asked for. Policies that look at long buffers too make every mapping a step of each
/// simulated kernel, which on a long capture takes longer than all the rest; `packed` needs a second pass.
pub(crate) const POLICIES: &str = "mainline,legacy,dynamic,always-small";

/// The policies of these names: each a name, `all`, or a file. Of several with one name those of files say so.
pub(crate) fn policies(names: &[String]) -> Result<Vec<Policy>> {
    let mut all: Vec<(Policy, Option<&str>)> = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => all.extend(builtins().map(|policy| (policy, None))),
            name => all.push((policy(name)?, builtin(name).is_none().then_some(name))),
        }
    }
    let is_alone = |policy: &Policy| all.iter().all(|(other, _)| other.name != policy.name || other == policy);
    let named = |(policy, file): &(Policy, Option<&str>)| match file {
        Some(file) if !is_alone(policy) => Policy { name: format!("{} ({file})", policy.name), ..policy.clone() },
        _ => policy.clone(),
    };
    Ok(all.iter().map(named).collect())
}

/// Longest name of a policy, or text about one, bytes.
const LONGEST: usize = 4096;

/// A policy by its name, or from a file.
pub(crate) fn policy(name: &str) -> Result<Policy> {
    let read = |path: &str| read_text(Path::new(path)).map_err(|error| one_line(&error));
    let mut policy = named(name, read).map_err(anyhow::Error::msg)?;
    let devices = policy.devices.iter_mut().map(|device| &mut device.name);
    for text in [&mut policy.name, &mut policy.about].into_iter().chain(devices) {
        plain_word(text, LONGEST);
    }
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_policy_is_answered_with_those_there_are() {
        assert!(policy("nonsense").unwrap_err().to_string().contains("always-small"));
    }
}
