//! The audit trail: who did what to whose things, and why. A record is written once, and never changed.

use std::fmt;

use crate::clock::Timestamp;
use crate::domain::name::Name;

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// A machine, by the name of its client.
    Client(String),
    /// A person, by the address.
    Person(String),
    /// A scheduled task, by its name on the command line.
    Task(String),
    /// Somebody at a shell of the deployment, by the name of the operating system's user.
    Command(String),
}

impl Actor {
    /// What it is, and its name.
    pub fn parts(&self) -> (&'static str, &str) {
        match self {
            Actor::Client(name) => ("client", name),
            Actor::Person(name) => ("person", name),
            Actor::Task(name) => ("task", name),
            Actor::Command(name) => ("command", name),
        }
    }

    /// The actor of these parts; `None` where there is no such kind.
    pub fn from_parts(kind: &str, name: String) -> Option<Actor> {
        Some(match kind {
            "client" => Actor::Client(name),
            "person" => Actor::Person(name),
            "task" => Actor::Task(name),
            "command" => Actor::Command(name),
            _ => return None,
        })
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = self.parts();
        write!(f, "{kind} {name}")
    }
}

/// Who did something, and by which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// The id of the request, which its log lines have, too; `None` where it was none.
    pub request: Option<String>,
}

impl By {
    /// A machine.
    pub fn client(name: &str) -> By {
        By { actor: Actor::Client(name.to_owned()), request: None }
    }

    /// A scheduled task.
    pub fn task(name: &str) -> By {
        By { actor: Actor::Task(name.to_owned()), request: None }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A namespace was claimed that was not there, and so it was made.
    Claim,
    /// A claim named another contact.
    SetContact,
    /// Somebody was refused for lack of a right.
    Refuse,
    /// The owners of a namespace were changed.
    SetOwners,
    /// Queues were allowed to grow.
    Exempt,
    /// And no longer.
    EndExemption,
    /// The owners were told that something is the matter with a queue.
    Warn,
    /// A queue was emptied.
    EmptyQueue,
    /// A queue was deleted.
    DeleteQueue,
    /// An exchange was deleted.
    DeleteExchange,
    /// A namespace expired, and was marked as gone.
    Expire,
    /// A namespace was ended, because somebody asked for it.
    Release,
    /// The credentials of a namespace were revoked.
    Revoke,
    /// A namespace was disabled: nobody may claim it.
    Disable,
    /// And may again.
    Enable,
    /// The connection that held a queue's messages was closed.
    CloseConnection,
    /// The same, and its user may open no more.
    KeepOut,
    /// It may again.
    LetIn,
    /// An account was made of a user of somebody else.
    Adopt,
    /// An account was made.
    MakeAccount,
    /// An account got new credentials.
    NewCredentials,
    /// The owner of an account got credentials in place of the user that it was made of.
    MoveOn,
    /// That user was deleted, or is to be.
    Retire,
    /// A person signed in to the console.
    SignIn,
    /// And out.
    SignOut,
    /// An owner asked that queues may grow.
    AskExemption,
    /// An administrator refused that.
    RefuseExemption,
    /// The end of a namespace was put off.
    Extend,
    /// A person was kept from signing in.
    DisablePerson,
    /// And may again.
    EnablePerson,
    /// A scheduled task was run by hand, with more than its brakes allow.
    RunTask,
    /// Somebody looked at what is published to an exchange.
    Inspect,
    /// What the broker has in the name of a namespace that the store does not know is to be deleted.
    EndUnknown,
}

impl Deed {
    /// All of them.
    pub const ALL: [Deed; 33] = [
        Deed::Claim,
        Deed::SetContact,
        Deed::Refuse,
        Deed::SetOwners,
        Deed::Exempt,
        Deed::EndExemption,
        Deed::Warn,
        Deed::EmptyQueue,
        Deed::DeleteQueue,
        Deed::DeleteExchange,
        Deed::Expire,
        Deed::Release,
        Deed::Revoke,
        Deed::Disable,
        Deed::Enable,
        Deed::CloseConnection,
        Deed::KeepOut,
        Deed::LetIn,
        Deed::Adopt,
        Deed::MakeAccount,
        Deed::NewCredentials,
        Deed::MoveOn,
        Deed::Retire,
        Deed::SignIn,
        Deed::SignOut,
        Deed::AskExemption,
        Deed::RefuseExemption,
        Deed::Extend,
        Deed::DisablePerson,
        Deed::EnablePerson,
        Deed::RunTask,
        Deed::Inspect,
        Deed::EndUnknown,
    ];

    /// Its name: in the trail, the API and the log.
    pub fn word(self) -> &'static str {
        match self {
            Deed::Claim => "claim",
            Deed::SetContact => "set-contact",
            Deed::Refuse => "refuse",
            Deed::SetOwners => "set-owners",
            Deed::Exempt => "exempt",
            Deed::EndExemption => "end-exemption",
            Deed::Warn => "warn",
            Deed::EmptyQueue => "empty-queue",
            Deed::DeleteQueue => "delete-queue",
            Deed::DeleteExchange => "delete-exchange",
            Deed::Expire => "expire",
            Deed::Release => "release",
            Deed::Revoke => "revoke",
            Deed::Disable => "disable",
            Deed::Enable => "enable",
            Deed::CloseConnection => "close-connection",
            Deed::KeepOut => "keep-out",
            Deed::LetIn => "let-in",
            Deed::Adopt => "adopt",
            Deed::MakeAccount => "make-account",
            Deed::NewCredentials => "new-credentials",
            Deed::MoveOn => "move-on",
            Deed::Retire => "retire",
            Deed::SignIn => "sign-in",
            Deed::SignOut => "sign-out",
            Deed::AskExemption => "ask-exemption",
            Deed::RefuseExemption => "refuse-exemption",
            Deed::Extend => "extend",
            Deed::DisablePerson => "disable-person",
            Deed::EnablePerson => "enable-person",
            Deed::RunTask => "run-task",
            Deed::Inspect => "inspect",
            Deed::EndUnknown => "end-unknown",
        }
    }
}

/// One record of the trail. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Names this record for ever: a UUID.
    pub id: String,
    /// When it was done.
    pub at: Timestamp,
    /// By whom.
    pub by: By,
    /// What was done: [`Deed::word`], or that of another version of the program.
    pub action: String,
    /// To whose things; `None` where they are nobody's.
    pub namespace: Option<Name>,
    /// To what: a queue, a connection, or the namespace itself.
    pub object: String,
    /// Why, and what it was before where that can be told.
    pub reason: String,
}

/// Which records of the trail to read. What is `None` does not matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditFilter {
    /// About this namespace.
    pub namespace: Option<Name>,
    /// By this actor, whose name alone is compared.
    pub actor: Option<String>,
    /// Of this action.
    pub action: Option<String>,
    /// Not earlier than this.
    pub from: Option<Timestamp>,
    /// Earlier than this.
    pub to: Option<Timestamp>,
    /// Those that come after the record with this time and id, in the order of the trail: the newest first.
    pub after: Option<(Timestamp, String)>,
}
