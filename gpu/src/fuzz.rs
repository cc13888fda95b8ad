//! Fuzz targets for everything here that reads bytes from outside.

/// One reader of outside bytes.
pub struct Target {
    /// Its name, unique in the crate.
    pub name: &'static str,
    /// Runs it over any bytes; must not panic.
    pub run: fn(&[u8]),
    /// Inputs that make sense, to start from.
    pub seeds: &'static [&'static [u8]],
}

/// All targets of this crate.
pub const TARGETS: &[Target] = &[Target {
    name: "onnx_outline",
    run: crate::onnx::inspect::fuzz,
    seeds: &[include_bytes!("onnx/seed.onnx")],
}];
