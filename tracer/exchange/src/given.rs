//! What a user adds about the devices of a trace: a TOML file.

use bouncescope_model::policy::line_at;
use serde::Deserialize;

use bouncescope_capture::facts::Device;

/// A device, as far as it is told. What is not stays as the trace shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GivenDevice {
    /// `dev_name()`, or `*` for all that have no entry of their own.
    pub name: String,
    /// `dev->driver->name`.
    pub driver: Option<String>,
    /// `dev_is_dma_coherent()`.
    pub coherent: Option<bool>,
    /// `*dev->dma_mask`.
    pub dma_mask: Option<u64>,
    /// `dev->bus_dma_limit`.
    pub bus_dma_limit: Option<u64>,
    /// `dev->dma_parms->min_align_mask`.
    pub min_align_mask: Option<u32>,
    /// `dma_get_max_seg_size()`, bytes.
    pub max_segment_size: Option<u32>,
    /// `dma_get_seg_boundary()`.
    pub segment_boundary_mask: Option<u64>,
    /// The IOMMU's granule, bytes; 0 for a device without.
    pub iommu_granule: Option<u64>,
    /// An untrusted PCI device.
    pub untrusted: Option<bool>,
    /// Its pool bounces everything.
    pub force_bounce: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    device: Vec<GivenDevice>,
}

/// Reads `[[device]]` tables.
///
/// # Errors
///
/// In words, when the text is no such file.
pub fn from_toml(text: &str) -> Result<Vec<GivenDevice>, String> {
    let file: File = toml::from_str(text).map_err(|error| {
        let line = line_at(text, error.span().map_or(0, |span| span.start));
        format!("line {line}: {}", error.message().replace('\n', "; "))
    })?;
    Ok(file.device)
}

impl GivenDevice {
    /// Changes what is told.
    pub(super) fn apply(&self, device: &mut Device) {
        device.driver = self.driver.clone().unwrap_or_else(|| std::mem::take(&mut device.driver));
        device.coherent = self.coherent.unwrap_or(device.coherent);
        device.dma_mask = self.dma_mask.unwrap_or(device.dma_mask);
        device.bus_dma_limit = self.bus_dma_limit.unwrap_or(device.bus_dma_limit);
        device.min_align_mask = self.min_align_mask.unwrap_or(device.min_align_mask);
        device.max_segment_size = self.max_segment_size.or(device.max_segment_size);
        device.segment_boundary_mask = self.segment_boundary_mask.or(device.segment_boundary_mask);
        device.untrusted = self.untrusted.unwrap_or(device.untrusted);
        device.force_bounce = self.force_bounce.unwrap_or(device.force_bounce);
        match self.iommu_granule {
            Some(0) => device.iommu_granule = None,
            Some(granule) => device.iommu_granule = Some(granule),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_device_changes_and_the_rest_stays() {
        let given =
            from_toml("[[device]]\nname = \"usb\"\ncoherent = true\ndma-mask = 0xffff_ffff\niommu-granule = 0\n")
                .unwrap();
        let mut device = Device { driver: "xhci".into(), iommu_granule: Some(4096), ..Device::default() };
        given[0].apply(&mut device);
        let expected = Device { driver: "xhci".into(), coherent: true, dma_mask: 0xffff_ffff, ..Device::default() };
        assert_eq!(device, expected);
    }

    #[test]
    fn a_word_that_is_none_is_named() {
        let error = from_toml("[[device]]\nname = \"usb\"\ncoherant = true\n").unwrap_err();
        assert!(error.starts_with("line 3: unknown field `coherant`") && !error.contains('\n'), "{error}");
    }
}
