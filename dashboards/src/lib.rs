//! The metric registry, console pages and Grafana boards
