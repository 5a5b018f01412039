//! The terminal dashboard of bouncescope.
