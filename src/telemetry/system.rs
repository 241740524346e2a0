//! What the system tells of this process, by the names that Prometheus' own clients give it. It is read at each scrape.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use crate::clock::Timestamp;

/// Of this process, which began then.
#[derive(Debug)]
pub struct System {
    started: f64,
}

impl System {
    /// Of a process that began then.
    pub fn since(started: Timestamp) -> System {
        System { started: started.millis() as f64 / 1000.0 }
    }
}

/// The fields of `/proc/self/stat` after the name, which may hold anything.
fn stat() -> Option<Vec<u64>> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    // The first one is the state, a letter.
    Some(rest.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect())
}

/// What one file system or another may not tell is left out.
impl Collector for System {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        gauge("process_start_time_seconds", "When the process began, in seconds since 1970", self.started)?;
        let stat = stat().unwrap_or_default();
        if let (Some(size), Some(pages)) = (stat.get(20), stat.get(21)) {
            gauge("process_virtual_memory_bytes", "Virtual memory", *size as f64)?;
            gauge("process_resident_memory_bytes", "Memory in use", (*pages * page_size() as u64) as f64)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            gauge("process_open_fds", "Open files", files.count() as f64)?;
        }
        if let Some(most) = getrlimit(Resource::Nofile).current {
            gauge("process_max_fds", "How many files may be open", most as f64)?;
        }
        if let (Some(user), Some(system)) = (stat.get(11), stat.get(12)) {
            let seconds = ConstCounter::new((user + system) as f64 / clock_ticks_per_second() as f64);
            let help = "Processor time";
            seconds.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, seconds.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::prometheus_text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn the_system_tells_of_the_process() {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(System::since(Timestamp::from_millis(1500))));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().unwrap()
        };
        assert_eq!(value("process_start_time_seconds"), 1.5);
        assert!((1e6..1e11).contains(&value("process_resident_memory_bytes")));
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
        assert!(value("process_cpu_seconds_total") < 1e6);
    }
}
