//! Limits by the management API: operator policies, user limits, and a global parameter that says which of them are ours.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::ManagementApi;
use crate::broker::call::{Call, Sent};
use crate::broker::{BrokerError, Limiting};
use crate::domain::inventory::{LimitsSeen, Noted, OperatorPolicy, UserLimit};

/// The key of the namespaces that were spared.
const SPARED: &str = "spared";

#[async_trait]
impl Limiting for ManagementApi {
    async fn limits(&self, name: &str) -> Result<LimitsSeen, BrokerError> {
        let parameter = |item: &Value| Some((text(item, "name")?, item["value"].clone()));
        let of_vhost = ["operator-policies", self.vhost.as_str()];
        let (policies, users, parameters) = tokio::try_join!(
            self.list(&of_vhost, "", |body| all(body, policy)),
            self.list(&["user-limits"], "", |body| all(body, user_limits)),
            self.list(&["global-parameters"], "", |body| all(body, parameter)),
        )?;
        let noted = parameters.into_iter().find(|(of, _)| of == name).map(|(_, value)| noted(&value));
        Ok(LimitsSeen { policies, users: users.into_iter().collect(), noted: noted.unwrap_or_default() })
    }

    async fn note_limits(&self, name: &str, noted: &Noted) -> Result<(), BrokerError> {
        let segments = ["global-parameters", name];
        let Noted { values, spared } = noted;
        if values.is_empty() {
            return self.unset(&Call::new(Method::DELETE, &segments)).await;
        }
        let mut value: Map<_, _> = values.iter().map(|(limit, values)| (limit.to_string(), json!(values))).collect();
        value.insert(SPARED.to_owned(), json!(spared));
        self.put(&Call::new(Method::PUT, &segments).json(json!({ "value": value }))).await.map(drop)
    }

    async fn limit_user(&self, user: &str, limit: UserLimit, most: Option<u64>) -> Result<(), BrokerError> {
        let segments = ["user-limits", user, limit.as_str()];
        match most {
            Some(most) => self.put(&Call::new(Method::PUT, &segments).json(json!({ "value": most }))).await.map(drop),
            None => self.unset(&Call::new(Method::DELETE, &segments)).await,
        }
    }

    async fn put_operator_policy(&self, policy: &OperatorPolicy) -> Result<(), BrokerError> {
        let OperatorPolicy { name, pattern, apply_to, priority, definition } = policy;
        let body = json!({ "pattern": pattern, "apply-to": apply_to, "priority": priority, "definition": definition });
        let segments = ["operator-policies", self.vhost.as_str(), name];
        let call = Call::new(Method::PUT, &segments).json(body);
        // RabbitMQ looks at all queues anew before it answers.
        self.within(self.listing_timeout, &call, self.present(&call)).await.map(drop)
    }

    async fn delete_operator_policy(&self, name: &str) -> Result<(), BrokerError> {
        let call = Call::new(Method::DELETE, &["operator-policies", &self.vhost, name]);
        self.within(self.listing_timeout, &call, self.unset_once(&call)).await
    }
}

impl ManagementApi {
    /// Deletes what is as good as deleted where it is absent.
    async fn unset(&self, call: &Call<'_>) -> Result<(), BrokerError> {
        self.within(self.timeout, call, self.unset_once(call)).await
    }

    async fn unset_once(&self, call: &Call<'_>) -> Result<(), BrokerError> {
        match self.caller.send(call).await? {
            Sent::Answered(_) | Sent::Absent => Ok(()),
            Sent::Cut(lost) => Err(lost),
        }
    }
}

/// Each item of a list; one that can't be read makes the whole unreadable.
fn all<T>(body: &[u8], read: impl Fn(&Value) -> Option<T>) -> Result<Vec<T>, String> {
    let items: Vec<Value> = serde_json::from_slice(body).map_err(|_| "it is no list".to_owned())?;
    let read = |(at, item)| read(item).ok_or_else(|| format!("item {at} can't be read"));
    items.iter().enumerate().map(read).collect()
}

fn text(item: &Value, key: &str) -> Option<String> {
    item[key].as_str().map(str::to_owned)
}

fn policy(item: &Value) -> Option<OperatorPolicy> {
    let definition = item["definition"].as_object()?;
    let value = |(key, value): (&String, &Value)| (key.clone(), value.as_u64().unwrap_or(u64::MAX));
    Some(OperatorPolicy {
        name: text(item, "name")?,
        pattern: text(item, "pattern")?,
        apply_to: text(item, "apply-to")?,
        priority: item["priority"].as_i64()?,
        definition: definition.iter().map(value).collect(),
    })
}

/// A negative limit is none.
fn user_limits(item: &Value) -> Option<(String, BTreeMap<UserLimit, u64>)> {
    let limits = &item["value"];
    let limit = |limit: UserLimit| Some((limit, limits[limit.as_str()].as_u64()?));
    Some((text(item, "user")?, UserLimit::ALL.into_iter().filter_map(limit).collect()))
}

fn noted(value: &Value) -> Noted {
    let of = |limit: UserLimit| {
        let values: BTreeSet<_> = value[limit.as_str()].as_array()?.iter().filter_map(Value::as_u64).collect();
        (!values.is_empty()).then_some((limit, values))
    };
    let spared = value[SPARED].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
    Noted { values: UserLimit::ALL.into_iter().filter_map(of).collect(), spared: spared.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_to_set_equals_nothing_of_ours() {
        let body = br#"[{"vhost":"/","name":"n","pattern":"^q","apply-to":"queues","priority":0,
            "definition":{"max-length":5,"overflow":"reject-publish"}}]"#;
        let read = all(body, policy).unwrap().remove(0);
        assert_eq!(read.definition, [("max-length".to_owned(), 5), ("overflow".to_owned(), u64::MAX)].into());
        assert!(all(br#"[{"name":"n"}]"#, policy).is_err() && all(b"{}", policy).is_err());
    }

    #[test]
    fn a_negative_limit_is_none() {
        let body = br#"[{"user":"u","value":{"max-connections":-1,"max-channels":7}}]"#;
        assert_eq!(all(body, user_limits).unwrap(), [("u".to_owned(), [(UserLimit::Channels, 7)].into())]);
        let value = json!({"max-connections": [1, 5], "max-channels": [], "x": 1});
        let values = [(UserLimit::Connections, [1, 5].into())].into();
        assert_eq!(noted(&value), Noted { values, spared: BTreeSet::new() });
    }
}
