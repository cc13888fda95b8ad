//! The edge towards publishers and viewers
