//! What listeners count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Adds to one.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// Makes `Counters`, which a listener counts in, and `CountersSnapshot`, its figures at one moment,
/// of these fields.
macro_rules! counters {
    ($($(#[$words:meta])* $name:ident,)*) => {
        /// What a server has counted since its start.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($name: std::sync::atomic::AtomicU64,)*
        }

        /// [`Counters`] at one moment.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CountersSnapshot {
            $($(#[$words])* pub $name: u64,)*
        }

        impl Counters {
            /// The figures now.
            pub fn snapshot(&self) -> CountersSnapshot {
                CountersSnapshot {
                    $($name: self.$name.load(std::sync::atomic::Ordering::Relaxed),)*
                }
            }
        }
    };
}

pub(crate) use counters;
