//! What a node sees of its cluster, and whether its lists are those of the cluster.
//!
//! A node that lost the others, or has just come back, may list what it had or nothing at all; nobody can tell that from a list.

use std::time::Duration;

use serde_json::Value;

use super::answer::{Unreadable, list, text};

/// What is asked of each node.
pub(super) const COLUMNS: &str = "columns=name,running,partitions,uptime";

/// So long after its start a node of a cluster may still be learning what the others know.
const LEARNS: Duration = Duration::from_secs(10);

/// A node, as another one or itself sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// Whether it runs, and nothing where that is not told.
    running: bool,
    /// Nodes that it lost and that were changed without it since.
    partitions: Vec<String>,
    uptime: Option<Duration>,
}

/// All nodes of the cluster.
pub(super) fn nodes(body: &[u8]) -> Result<Vec<Node>, Unreadable> {
    list(body, |item| {
        let partitions = item["partitions"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(Node {
            name: text(item, "name")?,
            running: item["running"].as_bool().unwrap_or(true),
            partitions: partitions.map(str::to_owned).collect(),
            uptime: item["uptime"].as_u64().map(Duration::from_millis),
        })
    })
}

/// Why the lists of the node `own` are not to be believed, if so. `others` says whether there are other nodes to be asked.
pub(super) fn behind(nodes: &[Node], own: &str, others: bool) -> Option<String> {
    let running = nodes.iter().filter(|node| node.running).count();
    if running * 2 < nodes.len() {
        return Some(format!(
            "{own} sees {running} of the {} nodes of its cluster, so that it may be behind",
            nodes.len()
        ));
    }
    let node = nodes.iter().find(|node| node.name == own)?;
    if !node.partitions.is_empty() {
        return Some(format!("{own} is partitioned from {}, so that it may be behind", node.partitions.join(", ")));
    }
    let young = node.uptime.filter(|uptime| others && *uptime < LEARNS)?;
    Some(format!("{own} was started {} s ago, so that it may be behind", young.as_secs()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn behind(own: Value, others: [bool; 2]) -> Option<String> {
        let other = |(n, running): (usize, &bool)| json!({"name": format!("rabbit@{n}"), "running": running});
        let all: Vec<_> = [own].into_iter().chain(others.iter().enumerate().map(other)).collect();
        super::behind(&nodes(json!(all).to_string().as_bytes()).unwrap(), "rabbit@own", true)
    }

    #[test]
    fn the_lists_of_a_node_are_believed_that_runs_with_the_majority_and_not_since_just_now() {
        let own = |uptime: u64| json!({"name": "rabbit@own", "running": true, "partitions": [], "uptime": uptime});
        assert_eq!(behind(own(60_000), [true, true]), None);
        assert_eq!(behind(own(60_000), [true, false]), None);
        assert_eq!(behind(json!({"name": "rabbit@own"}), [true, true]), None, "what is not told is no reason");
        assert!(behind(own(60_000), [false, false]).unwrap().contains("sees 1 of the 3 nodes"));
        assert!(behind(own(3_000), [true, true]).unwrap().contains("3 s ago"));
        let split = json!({"name": "rabbit@own", "running": true, "partitions": ["rabbit@0"]});
        assert!(behind(split, [true, true]).unwrap().contains("partitioned from rabbit@0"));
        let alone = nodes(br#"[{"name": "rabbit@own", "running": true, "uptime": 1}]"#).unwrap();
        assert_eq!(super::behind(&alone, "rabbit@own", false), None);
    }
}
