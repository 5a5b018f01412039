//! Dependencies keep to `deny.toml`: licences, versions and sources. `cargo deny` reads the same file, and can say more; this needs cargo alone.
//! `cargo test --test dependencies -- --ignored`

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::Command,
};

use serde_json::Value;
use spdx::{Expression, LicenseReq, ParseMode};

fn deny() -> toml::Table {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap().parse().unwrap()
}

fn texts<'a>(list: &'a toml::Value, key: Option<&str>) -> BTreeSet<&'a str> {
    let values = list.as_array().unwrap().iter();
    values.map(|value| key.map_or(value, |key| &value[key]).as_str().unwrap()).collect()
}

/// The workspace, and the package with an engine for SQL, which has a lock file of its own.
const WORKSPACES: [&str; 2] = [".", "fleet"];

/// All packages that any member of a workspace is built from on one of the systems.
fn packages(folder: &str) -> Vec<Value> {
    let targets = &deny()["graph"]["targets"];
    let platforms = texts(targets, None).into_iter().flat_map(|target| ["--filter-platform", target]);
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .args(["metadata", "--locked", "--all-features", "--format-version", "1"])
        .args(platforms)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().clone();
    assert!(packages.len() > 50, "only {} packages", packages.len());
    packages
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

#[test]
#[ignore = "fetches what was never built here"]
fn every_dependency_has_a_licence_that_is_allowed() {
    let deny = deny();
    let allowed = texts(&deny["licenses"]["allow"], None);
    let mut used = BTreeSet::new();
    for package in WORKSPACES.iter().flat_map(|folder| packages(folder)) {
        let expression = Expression::parse_mode(text(&package, "license"), ParseMode::LAX)
            .unwrap_or_else(|error| panic!("{}: {error}", text(&package, "name")));
        let mut may = |licence: &LicenseReq| {
            let name = licence.to_string();
            let allowed = allowed.get(name.as_str());
            used.extend(allowed.map(|name| (*name).to_owned()));
            allowed.is_some()
        };
        assert!(expression.evaluate(&mut may), "{}: {expression}", text(&package, "name"));
    }
    let unused: Vec<_> = allowed.iter().filter(|name| !used.contains(**name)).collect();
    assert!(unused.is_empty(), "allowed in deny.toml and used by none: {unused:?}");
}

#[test]
#[ignore = "fetches what was never built here"]
fn no_crate_has_two_versions_but_those_that_are_listed() {
    let deny = deny();
    let skipped = texts(&deny["bans"]["skip"], Some("crate"));
    let mut listed = BTreeSet::new();
    for folder in WORKSPACES {
        let mut versions = BTreeMap::<String, Vec<String>>::new();
        for package in packages(folder) {
            versions.entry(text(&package, "name").into()).or_default().push(text(&package, "version").into());
        }
        versions.retain(|_, versions| versions.len() > 1);
        for (name, versions) in &versions {
            let named: Vec<_> = versions.iter().map(|version| format!("{name}@{version}")).collect();
            let unlisted: Vec<_> = named.iter().filter(|one| !skipped.contains(one.as_str())).collect();
            assert_eq!(unlisted.len(), 1, "{folder}: {named:?}: all but one belong into `skip` of deny.toml");
            listed.extend(named);
        }
    }
    let gone: Vec<_> = skipped.iter().filter(|one| !listed.contains(**one)).collect();
    assert!(gone.is_empty(), "in `skip` of deny.toml, but no longer beside another version: {gone:?}");
}

#[test]
#[ignore = "fetches what was never built here"]
fn every_dependency_is_of_the_registry_or_of_this_workspace() {
    for package in WORKSPACES.iter().flat_map(|folder| packages(folder)) {
        let source = package["source"].as_str();
        assert!(source.is_none_or(|source| source.starts_with("registry+")), "{}: {source:?}", text(&package, "name"));
    }
}
