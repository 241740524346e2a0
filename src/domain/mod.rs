//! What the service is about, as pure functions: no async, no IO, no clock, no randomness, no serde.
//!
//! * [`name`]: names of namespaces, their users, queues and exchanges, and whether one of them is ours.
//! * [`identity`]: whose a user of the broker is.
//! * [`namespace`]: a namespace as the store keeps it.
//! * [`account`]: what a namespace of people is beyond that.
//! * [`adoption`]: makes accounts of users of somebody else.
//! * [`owner`]: who may manage a namespace, and is told of its troubles.
//! * [`exemption`]: queues that may grow beyond the limit.
//! * [`audit`]: who did what to whose things, and why.
//! * [`scope`]: what a scope satisfies.
//! * [`rights`]: who may do what to a namespace.
//! * [`session`]: a person who is signed in.
//! * [`rotation`]: which password is in force, which comes next, and until when one is good.
//! * [`calendar`]: whether the calendar is to be believed.
//! * [`hold`]: whether rotation and expiry have to wait.
//! * [`claim`]: what a claim does to what the store holds; [`renewal`]: what most of them change.
//! * [`barred`]: who is kept from logging in to a namespace on demand.
//! * [`ends`]: what releasing, revoking, disabling and enabling do to what the store holds.
//! * [`inventory`]: what the broker holds, as far as we read it.
//! * [`history`]: what was seen of a queue.
//! * [`course`]: which way a queue goes.
//! * [`trend`]: how a number changes, with a range.
//! * [`verdict`]: what a queue's history says about it.
//! * [`forecast`]: when a queue will reach a size.
//! * [`inspection`]: looks at what is published.
//! * [`limits`]: plans the limits that the broker keeps by itself.
//! * [`ladder`]: what is done about a queue in trouble: told, told again, relieved of a hoarder, removed.
//! * [`watched`]: what is remembered of a queue in trouble, as the store keeps it.
//! * [`recipients`]: who can't be told, and who wants no reminders.
//! * [`guard`]: what was seen of all queues, judged.
//! * [`shown`]: what is shown of a queue.
//! * [`words`]: numbers and times as people read them.
//! * [`notice`]: a message to the owner of a namespace, and the events that it tells of.
//! * [`pace`]: how many messages may go to one address in a stretch of time.
//! * [`share`]: how much of a room each of many may have, and whose things are counted together.
//! * [`snapshot`]: what a run looks at before it plans.
//! * [`action`]: what a run may do, by where it is done.
//! * [`plan`]: what a run is going to do, and how much it may remove.
//! * [`usage`]: plans what follows from whether accounts are used.
//! * [`sweep`]: plans repairs, warnings, and the removal of large queues and old connections.
//! * [`order`]: which namespaces a sweep has nothing to do about.
//! * [`unknown`]: what the broker has in the names of namespaces that the store does not know.
//! * [`expiry`]: plans the end of namespaces.

pub mod account;
pub mod action;
pub mod adoption;
pub mod audit;
pub mod barred;
pub mod calendar;
pub mod claim;
pub mod course;
pub mod ends;
pub mod exemption;
pub mod expiry;
pub mod forecast;
pub mod guard;
pub mod history;
pub mod hold;
pub mod identity;
pub mod inspection;
pub mod inventory;
pub mod ladder;
pub mod limits;
pub mod name;
pub mod name_list;
pub mod namespace;
pub mod notice;
pub mod order;
pub mod owner;
pub mod pace;
pub mod plan;
pub mod recipients;
pub mod release;
pub mod renewal;
pub mod rights;
pub mod rotation;
pub mod scope;
pub mod session;
pub mod share;
pub mod shown;
pub mod snapshot;
pub mod sweep;
pub mod trend;
pub mod unknown;
pub mod usage;
pub mod verdict;
pub mod watched;
pub mod words;
