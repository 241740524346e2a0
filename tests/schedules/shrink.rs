//! Shrinking: of the steps of a schedule that fails, those without which it would not.

use super::planted::Plant;
use super::schedule::Schedule;
use super::step::{Setup, Step};

/// What is wrong after these steps.
pub fn fault(setup: &Setup, steps: &[Step], plant: Option<Plant>) -> Option<String> {
    Schedule::new(setup.clone(), plant).replay(steps).err()
}

/// What a planted fault makes wrong after these steps, and it alone.
pub fn fault_of(setup: &Setup, steps: &[Step], plant: Option<Plant>) -> Option<String> {
    fault(setup, steps, plant).filter(|_| plant.is_none() || fault(setup, steps, None).is_none())
}

/// What kind of fault it is: its words.
fn kind(fault: &str) -> String {
    fault.chars().filter(|c| !c.is_ascii_digit()).take(60).collect()
}

/// The fewest steps that we find which fail in the same way, with a planted fault for that alone: leaves out ever smaller parts for as
/// long as it still fails.
pub fn shrink(setup: &Setup, steps: &[Step], plant: Option<Plant>) -> (Vec<Step>, String) {
    let mut steps = steps.to_vec();
    let Some(mut found) = fault_of(setup, &steps, plant) else { return (steps, "it does not fail again".to_owned()) };
    let wanted = kind(&found);
    let mut size = steps.len().div_ceil(2);
    loop {
        let (mut at, before) = (0, steps.len());
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match fault_of(setup, &fewer, plant).filter(|fault| kind(fault) == wanted) {
                Some(fault) => (steps, found) = (fewer, fault),
                None => at += size,
            }
        }
        if size == 1 && steps.len() == before {
            return (steps, found);
        }
        size = size.div_ceil(2);
    }
}
