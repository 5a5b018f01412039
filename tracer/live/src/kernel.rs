//! What this kernel is: its types, settings, pool, symbols and events, read from procfs, sysfs, debugfs and tracefs.
//! Linux only; nothing here loads or attaches a program.

pub mod alloc_info;
pub mod boot_trace;
pub mod btf;
pub mod build_config;
pub mod cache_line;
pub mod device_tree;
pub mod event_count;
pub mod events;
pub mod facts;
pub mod firmware;
pub mod identity;
pub mod layout;
pub mod linear_map;
pub mod machine;
pub mod pool;
pub mod privilege;
pub mod reach;
pub mod root;
pub mod slab;
pub mod slab_fill;
pub mod slab_pages;
pub mod symbols;
