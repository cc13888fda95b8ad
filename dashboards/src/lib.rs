//! The metric registry, the web pages and the Grafana boards.
//!
//! This crate is told, it never asks: it knows how a figure or a page looks, not how it came about.

#![forbid(unsafe_code)]

pub mod metrics;
pub mod pages;
