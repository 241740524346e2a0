//! Releases of RabbitMQ: which one runs, and what is known to bite with it.

/// What the broker tells of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Release {
    /// Its version, such as `4.3.6`.
    pub version: String,
    /// The deprecated features that something on it uses, by RabbitMQ's names. Releases before 4.0 don't tell.
    pub deprecated: Vec<String>,
}

/// The oldest release that this service is tested with.
const OLDEST: [u64; 3] = [3, 10, 0];
/// From here on, the broker refuses AMQP clients that ask for frames of less than 8,192 bytes.
const LARGE_FRAMES: [u64; 3] = [4, 1, 0];
/// These demand the right to configure even of who only asks whether an exchange is there (rabbitmq-server#16085).
const STRICT: [[u64; 3]; 2] = [[4, 2, 6], [4, 3, 0]];
/// From here on, the features below are refused unless the broker's settings permit them.
const REFUSES: [u64; 3] = [4, 3, 0];
const REFUSED: [&str; 4] = ["amqp_address_v1", "global_qos", "queue_master_locator", "transient_nonexcl_queues"];

impl Release {
    /// Whether it tells which deprecated features are used.
    pub fn tells_deprecated(&self) -> bool {
        self.number() >= [4, 0, 0]
    }

    /// What an operator should know, in sentences. `suffix` is what connection strings end with.
    pub fn warnings(&self, suffix: &str) -> Vec<String> {
        let (number, version) = (self.number(), &self.version);
        let mut warnings = Vec::new();
        if number < OLDEST {
            warnings.push(format!(
                "RabbitMQ {version} is older than 3.10, and this service is not tested with it: update it"
            ));
        }
        if STRICT.contains(&number) {
            warnings.push(format!(
                "RabbitMQ {version} refuses passive declarations of what a client may not configure, so programs that declare \
                 the exchanges of others passively (mozillapulse) can't bind to them: update it to 4.2.7, 4.3.1 or newer"
            ));
        }
        if number >= LARGE_FRAMES && !suffix.to_ascii_lowercase().replace('_', "").contains("framemax=") {
            warnings.push(format!(
                "RabbitMQ {version} refuses AMQP clients that ask for frames of less than 8,192 bytes, such as amqplib before \
                 0.10.7: set CONNECTION_STRING_SUFFIX to ?frameMax=0 if there are any"
            ));
        }
        let refused: Vec<_> =
            REFUSED.into_iter().filter(|feature| self.deprecated.iter().any(|used| used == feature)).collect();
        if number < REFUSES && !refused.is_empty() {
            warnings.push(format!(
                "clients of RabbitMQ {version} use what 4.3 refuses by default: {}; change them before you update it",
                refused.join(", ")
            ));
        }
        warnings
    }

    /// Its parts as numbers, as far as they are that.
    fn number(&self) -> [u64; 3] {
        let mut parts = self.version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or_default());
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(version: &str, deprecated: &[&str], suffix: &str) -> Vec<String> {
        let deprecated = deprecated.iter().map(|feature| (*feature).to_owned()).collect();
        Release { version: version.to_owned(), deprecated }.warnings(suffix)
    }

    #[test]
    fn what_bites_with_a_release_is_told_of_that_release_alone() {
        for quiet in ["3.10.8", "3.13.7", "4.0.5-1", "4.0.5+dfsg"] {
            assert!(warnings(quiet, &[], "").is_empty(), "{quiet}");
        }
        for (version, says) in [
            ("3.8.9", "older than 3.10"),
            ("4.1.0", "0.10.7"),
            ("4.2.6", "4.2.7"),
            ("4.3.0", "passive"),
            ("nonsense", "older than 3.10"),
        ] {
            assert!(warnings(version, &[], "").concat().contains(says), "{version}");
        }
        assert!(!warnings("4.2.7", &[], "").concat().contains("passive"));
        for suffix in ["?frameMax=0", "?heartbeat=30&frame_max=131072"] {
            assert!(warnings("4.3.6", &[], suffix).is_empty(), "{suffix}");
        }
    }

    #[test]
    fn features_that_the_next_release_refuses_are_told_before_it_does() {
        let used = ["transient_nonexcl_queues", "management_metrics_collection", "global_qos"];
        let told = warnings("4.0.5", &used, "").concat();
        assert!(told.contains(": global_qos, transient_nonexcl_queues;"), "{told}");
        assert!(warnings("4.3.6", &used, "?frameMax=0").is_empty(), "it refuses them, or its settings permit them");
    }
}
