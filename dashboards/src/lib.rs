//! The metric exposition, the web pages and the Grafana boards.
//!
//! This crate is told, it never asks: it knows how a figure or a page looks, not how it came
//! about. It imports no other crate of the workspace.
//!
//! - [`metrics`]: figures at one moment, in the text that Prometheus reads.
//! - [`pages`]: the pages for viewers and publishers, the operator's console, and the browser
//!   module that both are built on.
//! - [`boards`]: Grafana boards and alert rules, and the names of the metrics that they use.

#![forbid(unsafe_code)]

pub mod boards;
pub mod metrics;
pub mod pages;

pub use boards::board_metric_names;
