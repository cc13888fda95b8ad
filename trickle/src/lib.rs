//! Named channels of numbered segments
