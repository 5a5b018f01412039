//! `bouncescope policies`.

use bouncescope_model::policy::{Lists, Policy, WhenFull};

/// Every policy with its rule and where it comes from.
pub fn text(policies: impl Iterator<Item = Policy>) -> String {
    let mut text = String::new();
    for policy in policies {
        text += &format!("{}\n    {}\n    from: {}\n", policy.name, policy.about, policy.origin);
    }
    text += &format!(
        "\nAll bounce rules leave alone coherent devices and what a device only reads. Each policy can be crossed with:\n\
             \x20   scatterlists behind an IOMMU   --lists {}\n\
             \x20   the pool                       --swiotlb captured, default, none, dynamic, restricted=SIZE, SIZE, SLOTS\n\
             \x20   a full pool                    --when-full {}\n\
             \x20   devices                        --coherent, --non-coherent, --untrusted DEVICE\n\
             `bouncescope policies NAME` prints one as TOML to start from.\n",
        Lists::WORDS,
        WhenFull::WORDS
    );
    text
}
