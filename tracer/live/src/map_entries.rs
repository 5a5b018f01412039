//! How many entries the programs' maps have: settable, for phones with little memory and for systems with many call sites.

use std::str::FromStr;

/// Entries of each map that may fill up; what finds one full is counted as lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapEntries {
    /// Call sites with the sizes that they ask for (`sites_full`); per possible CPU.
    pub sites: u32,
    /// Devices described, and devices that bounce for another reason than length (`devices_full`).
    pub devices: u32,
    /// Calls of probed functions in progress (`calls_full`).
    pub calls: u32,
    /// Mappings by device, direction and length (`lengths_full`); per possible CPU.
    pub lengths: u32,
    /// Scatterlists that are streamed and mapped at one time (`lists_full`).
    pub lists: u32,
}

impl Default for MapEntries {
    fn default() -> Self {
        Self { sites: 16384, devices: 1024, calls: 4096, lengths: 4096, lists: 4096 }
    }
}

impl MapEntries {
    /// The maps' names in the object, with their entries.
    pub(super) fn by_map(self) -> [(&'static str, u32); 6] {
        [
            ("SITES", self.sites),
            ("DEVICES", self.devices),
            ("BOUNCING", self.devices),
            ("CALLS", self.calls),
            ("LENGTHS", self.lengths),
            ("LISTS", self.lists),
        ]
    }
}

/// `sites=4096,devices=64`: those that are not named keep their default.
impl FromStr for MapEntries {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut entries = Self::default();
        for part in text.split(',') {
            let named = part.split_once('=').and_then(|(name, number)| Some((name, number.parse::<u32>().ok()?)));
            let Some((name, number @ 1..)) = named else {
                return Err(format!("{part:?} is not NAME=ENTRIES, such as sites=4096"));
            };
            match name {
                "sites" => entries.sites = number,
                "devices" => entries.devices = number,
                "calls" => entries.calls = number,
                "lengths" => entries.lengths = number,
                "lists" => entries.lists = number,
                _ => return Err(format!("no map {name}; there are sites, devices, calls, lengths and lists")),
            }
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_changes_and_the_rest_stays() {
        let entries: MapEntries = "calls=2,sites=8".parse().unwrap();
        assert_eq!(entries, MapEntries { sites: 8, calls: 2, ..MapEntries::default() });
    }

    #[test]
    fn nonsense_is_named() {
        let error = |text: &str| text.parse::<MapEntries>().unwrap_err();
        assert!(error("sites=0").contains("\"sites=0\""));
        assert!(error("8").contains("NAME=ENTRIES"));
        assert!(error("ring=8").contains("sites, devices, calls, lengths and lists"));
    }
}
