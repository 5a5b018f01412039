//! `bouncescope policies`.

use crate::model::policy::Policy;

/// Every policy with its rule and where it comes from.
pub fn text(policies: impl Iterator<Item = Policy>) -> String {
    let mut text = String::new();
    for policy in policies {
        text += &format!("{}\n    {}\n    from: {}\n", policy.name, policy.about, policy.origin);
    }
    text += "\nAll bounce rules leave alone coherent devices and what a device only reads. Each policy can be crossed with:\n\
             \x20   scatterlists behind an IOMMU   --lists whole-list, whole-list-bounce, flagged\n\
             \x20   the pool                       --swiotlb captured, default, none, dynamic, restricted=SIZE, SIZE, SLOTS\n\
             \x20   a full pool                    --when-full fail, fallback\n\
             \x20   devices                        --coherent, --non-coherent, --untrusted DEVICE\n\
             `bouncescope policies NAME` prints one as TOML to start from.\n";
    text
}
