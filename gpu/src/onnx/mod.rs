//! ONNX Runtime, found and opened when the program runs.
//!
//! A process holds one copy of the library, whichever was opened first, until it ends. [`Runtime`]
//! is that copy; [`Store`] is the folder of model files that graphs may name; [`Session`] is a
//! model made ready for pictures of one size on one [`Provider`].

mod error;
pub(crate) mod inspect;
mod provider;
mod runtime;
mod session;
mod store;
#[cfg(test)]
pub(crate) mod testing;

pub use error::Error;
pub use provider::{Choice, Provider};
pub use runtime::{Loaded, Runtime, Versions};
pub use session::{Channels, MODEL_BYTES_MAX, SCALE_MAX, Session, Signature};
pub use store::{MODELS_MAX, Store};
