//! `MillstreamOnnx`.
