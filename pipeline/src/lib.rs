//! Packets, frames, the graph engine and its host nodes
