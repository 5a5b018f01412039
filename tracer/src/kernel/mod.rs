//! What this kernel is: its types, settings, pool, symbols and events, read from procfs, sysfs, debugfs and tracefs.
//! Linux only; nothing here loads or attaches a program.

pub mod btf;
pub mod layout;
