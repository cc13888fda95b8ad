//! Pictures through packets and back.
