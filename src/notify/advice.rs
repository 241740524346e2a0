//! What is the matter with a queue, and what to do about it, by the cause; and what can be done about
//! reminders.

use crate::domain::verdict::Kind;

/// How reminders can be had no more. No name stands here that somebody might copy into a shell.
pub(super) const REMINDERS: &str = "you get one from time to time as long as this lasts. Whoever runs the service can mute them, for \
     a queue or for a namespace, with `taskcluster-pulse mute`. What comes before a removal is told all the same.";

/// What is the matter with a queue, in a word or two.
pub(super) fn state(cause: Kind) -> &'static str {
    match cause {
        Kind::Fine | Kind::Draining => "large",
        Kind::Slow => "read too slowly",
        Kind::Stalled | Kind::Stopped => "not read any more",
        Kind::NoConsumer => "no consumer",
        Kind::Looping => "messages come back again and again",
        Kind::Hoarding => "a consumer hoards",
    }
}

/// What to do about it.
pub(super) fn advice(cause: Kind) -> &'static str {
    match cause {
        Kind::NoConsumer => {
            "start the program that reads from this queue, or find out why it does not connect. If nothing needs the queue any \
             more, delete it."
        }
        Kind::Stalled | Kind::Stopped => {
            // Its consumers are not always known.
            "see whether the program that reads from this queue is running and connected. If it is, it acknowledges nothing: \
             find out whether it hangs, and restart it."
        }
        Kind::Looping => {
            "the program that reads from this queue fails on some messages, and gets them again each time: look at its log, and \
             let it reject what it can't handle."
        }
        Kind::Hoarding => {
            "let the program that reads from this queue acknowledge what it is done with, and set a prefetch limit \
             (`basic.qos`), so that it gets no more messages than it can handle."
        }
        Kind::Fine | Kind::Draining | Kind::Slow => {
            "see to it that the program that reads from this queue is running and keeps up. If nothing needs the queue any \
             more, delete it."
        }
    }
}
