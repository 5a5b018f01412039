//! Any bytes as BTF, as they are or in a file around it: what the programs are told of the kernel.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tracer::kernel::{
    btf::{Btf, unpacked},
    layout, linear_map,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(bytes) = unpacked(bytes.to_vec()) else { return };
    if let Ok(btf) = Btf::from_bytes(bytes) {
        layout::resolve(&btf, "aarch64", |_| None);
        linear_map::struct_page_size(&btf);
        for function in ["swiotlb_tbl_map_single", "dma_map_page_attrs", "f"] {
            btf.function(function);
        }
        btf.enum_value("zone_type", "ZONE_DMA");
        btf.has_typedef("btf_trace_dma_map_phys");
    }
});
