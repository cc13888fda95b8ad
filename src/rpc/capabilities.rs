//! Capability numbers and the subset rule.

use std::collections::HashMap;

use super::net::Capabilities;
use super::net::capabilities::capability_constraints::ModelConstraint;
use super::net::capabilities::{CapabilityConstraints, Constraints};

/// Live video to video.
pub const LIVE_VIDEO_TO_VIDEO: u32 = 35;

/// The model under which graphs run.
pub const MODEL: &str = "comfyui";

/// What every node advertises: 0 to 12, 14 and 26.
const DEFAULT: [u32; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 26];

/// Our version as peers compare it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What an orchestrator with `free` of `free + in_use` live sessions offers.
pub fn offered(free: u32, in_use: u32) -> Capabilities {
    let mut bits = DEFAULT.to_vec();
    bits.push(LIVE_VIDEO_TO_VIDEO);
    let model = ModelConstraint {
        warm: true,
        capacity: free,
        capacity_in_use: in_use,
        ..Default::default()
    };
    build(&bits, model)
}

/// What a gateway asks for.
pub fn wanted() -> Capabilities {
    build(&[LIVE_VIDEO_TO_VIDEO], ModelConstraint::default())
}

fn build(bits: &[u32], model: ModelConstraint) -> Capabilities {
    let mut bitstring = Vec::new();
    for bit in bits {
        let word = (bit / 64) as usize;
        if bitstring.len() <= word {
            bitstring.resize(word + 1, 0_u64);
        }
        bitstring[word] |= 1 << (bit % 64);
    }
    let models = HashMap::from([(MODEL.to_owned(), model)]);
    let constraints = CapabilityConstraints { models };
    Capabilities {
        bitstring,
        mandatories: Vec::new(),
        capacities: bits.iter().map(|bit| (*bit, 1)).collect(),
        version: VERSION.to_owned(),
        constraints: Some(Constraints {
            min_version: String::new(),
            per_capability: HashMap::from([(LIVE_VIDEO_TO_VIDEO, constraints)]),
        }),
    }
}

/// Whether `offered` holds every bit of `wanted` and every model that it names; a capability
/// without constraints passes.
pub fn compatible(wanted: &Capabilities, offered: &Capabilities) -> bool {
    let bits = wanted.bitstring.iter().enumerate().all(|(word, bits)| {
        let has = offered.bitstring.get(word).copied().unwrap_or_default();
        bits & has == *bits
    });
    let models = |capabilities: &Capabilities| {
        capabilities.constraints.as_ref().map(|c| c.per_capability.clone()).unwrap_or_default()
    };
    let has = models(offered);
    bits && models(wanted).iter().all(|(capability, constraint)| {
        has.get(capability).is_none_or(|offered| {
            constraint.models.keys().all(|model| offered.models.contains_key(model))
        })
    })
}

/// Free and running live sessions that an orchestrator states; one free where it says nothing.
pub fn live_capacity(offered: &Capabilities) -> (u32, u32) {
    offered
        .constraints
        .as_ref()
        .and_then(|constraints| constraints.per_capability.get(&LIVE_VIDEO_TO_VIDEO))
        .map_or((1, 0), |capability| {
            capability.models.values().fold((0, 0), |(free, in_use), model| {
                (free + model.capacity, in_use + model.capacity_in_use)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subset_rule_holds_for_bits_and_models() {
        assert!(compatible(&wanted(), &offered(1, 0)));
        assert!(!compatible(&wanted(), &Capabilities::default()));
        let mut other = wanted();
        if let Some(constraints) = &mut other.constraints {
            let models = constraints.per_capability.get_mut(&LIVE_VIDEO_TO_VIDEO).unwrap();
            models.models = HashMap::from([("noop".to_owned(), ModelConstraint::default())]);
        }
        assert!(!compatible(&other, &offered(1, 0)));
        let mut silent = offered(1, 0);
        silent.constraints = None;
        assert!(compatible(&other, &silent), "a capability that states no models passes");
    }

    #[test]
    fn the_bit_string_is_that_of_the_network() {
        let bits = offered(1, 0).bitstring;
        assert_eq!(bits, [0x8_0400_5FFF]);
        assert_eq!(live_capacity(&offered(3, 2)), (3, 2));
    }
}
