//! Devices and inference engines
