//! The one table of settings. Everything else about them is made from it: the sections of [`Config`], what is read from
//! the file and the environment, the example file, and the listing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::clients::{CLIENTS, Client, ROLES};
use super::kinds::*;
use super::places::*;
use super::report::{Given, Report};
use crate::secret::Secret;

/// One setting, as it is documented.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Where it stands in the file: the section and the key, joined by a dot.
    pub key: &'static str,
    /// The variable of the environment that sets it.
    pub variable: &'static str,
    /// What holds where nothing is given, as YAML; empty for nothing.
    pub default: &'static str,
    /// What a right value is, to stand after "give".
    pub expected: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
    /// What it does, in lines of Markdown.
    pub about: &'static str,
}

/// A section of the file.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its key.
    pub key: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

/// Each row reads `field: type = kind, default, key, variable`; what is documented of it stands above it.
macro_rules! settings {
    ($($(#[doc = $section_about:literal])+ $section:ident: $Section:ident {
        $($(#[doc = $about:literal])+ $field:ident: $type:ty = $kind:expr, $default:literal, $key:literal, $variable:literal;)+
    })+) => {
        $(
            $(#[doc = $section_about])+
            #[derive(Debug, Clone, PartialEq, Eq)]
            pub struct $Section {
                $($(#[doc = $about])+ pub $field: $type,)+
            }
        )+

        /// Every setting of the service, checked. A text or secret that was not given, and has no default, is empty.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $($(#[doc = $section_about])+ pub $section: $Section,)+
        }

        /// The table of settings.
        pub const SECTIONS: &[Section] = &[$(Section {
            key: stringify!($section),
            about: concat!($($section_about, "\n"),+),
            settings: &[$(Setting {
                key: concat!(stringify!($section), ".", $key),
                variable: $variable,
                default: $default,
                expected: { const KIND: Kind<$type> = $kind; KIND.expected },
                secret: { const KIND: Kind<$type> = $kind; KIND.secret },
                about: concat!($($about, "\n"),+),
            },)+],
        },)+];

        /// Reads every setting, and reports those that are wrong; the default stands in for them, so that the others can
        /// be checked too. `None` only if a default itself can't be read.
        pub(super) fn read(given: &Given<'_>, report: &mut Report) -> Option<Config> {
            $($(let $field = given.read(concat!(stringify!($section), ".", $key), &$kind, report);)+
            let $section = ($($field,)+);)+
            $(let ($($field,)+) = $section;
            let $section = $Section { $($field: $field?,)+ };)+
            Some(Config { $($section,)+ })
        }
    };
}

settings! {
    /// Namespaces, their rotation, and the connection strings that claims return.
    app: App {
        /// Begins the name of every namespace. What does not begin with it is never touched.
        namespace_prefix: String = NAMESPACE_PREFIX, "taskcluster-", "namespacePrefix", "NAMESPACE_PREFIX";
        /// Stands before the namespace in the names of its two broker users.
        username_prefix: String = USERNAME_PREFIX, "", "usernamePrefix", "USERNAME_PREFIX";
        /// How long a password is the active one. A claim's `reclaimAt` is up to one and a half times this ahead.
        namespace_rotation_interval: Duration = SPAN, "1 hour", "namespaceRotationInterval", "NAMESPACE_ROTATION_INTERVAL";
        /// How long after it expired a namespace is removed.
        namespaces_expiration_delay: Duration = DELAY, "1 hour", "namespacesExpirationDelay", "NAMESPACES_EXPIRATION_DELAY";
        /// Rotation and expiry wait while no web process was able to serve claims for this long, because it was out of its
        /// clients' reach or the auth service out of its own, and for this long after one is. No more than a quarter of the
        /// rotation interval counts.
        api_silence: Duration = SPAN, "2 min", "apiSilence", "API_SILENCE";
        /// How long rotation waits for the web processes at most, from the last time that one was able to serve claims.
        max_rotation_hold: Duration = DELAY, "1 day", "maxRotationHold", "MAX_ROTATION_HOLD";
        /// Whether the scheduled tasks only print what they would do, and change nothing.
        mock_maintenance: bool = SWITCH, "false", "mockMaintenance", "MOCK_MAINTENANCE";
        /// The host in connection strings. Where it is not given, the host of `rabbit.baseUrl`.
        amqp_hostname: String = HOST, "", "amqpHostname", "TASKCLUSTER_AMQP_HOSTNAME";
        /// The protocol in connection strings.
        amqp_protocol: String = AMQP_PROTOCOL, "amqps://", "amqpProtocol", "TASKCLUSTER_AMQP_PROTOCOL";
        /// The port in connection strings.
        amqp_port: u16 = PORT, "5671", "amqpPort", "TASKCLUSTER_AMQP_PORT";
        /// The virtual host that the namespaces are in.
        amqp_vhost: String = TEXT, "/", "amqpVhost", "TASKCLUSTER_AMQP_VHOST";
        /// Ends connection strings. `?frameMax=0` lets old AMQP clients log in to RabbitMQ 4.1 and later.
        connection_string_suffix: String = SUFFIX, "", "connectionStringSuffix", "CONNECTION_STRING_SUFFIX";
        /// The folder for files of the service itself: the SQLite database and its key.
        data_dir: PathBuf = FOLDER, "data", "dataDir", "DATA_DIR";
    }

    /// The Taskcluster deployment, and who we are there.
    taskcluster: Taskcluster {
        /// The root URL of the deployment.
        root_url: String = HTTP_URL, "", "rootUrl", "TASKCLUSTER_ROOT_URL";
        /// Whether we call other services of the deployment at `http://taskcluster-<service>`, their names inside its
        /// Kubernetes cluster, and not at the root URL. As for Taskcluster's own services, any text in the environment means
        /// yes, even `false`.
        kubernetes_dns: bool = PRESENCE, "", "useKubernetesDnsServiceDiscovery", "USE_KUBERNETES_DNS_SERVICE_DISCOVERY";
        /// Our client id.
        client_id: String = TEXT, "", "credentials.clientId", "TASKCLUSTER_CLIENT_ID";
        /// Our access token.
        access_token: Secret = SECRET, "", "credentials.accessToken", "TASKCLUSTER_ACCESS_TOKEN";
        /// The certificate that belongs to temporary credentials, as JSON text.
        certificate: Secret = SECRET, "", "credentials.certificate", "TASKCLUSTER_CERTIFICATE";
    }

    /// RabbitMQ's management API.
    rabbit: Rabbit {
        /// The name of the management account, which has the `administrator` tag and all permissions in the virtual host.
        username: String = TEXT, "", "username", "RABBIT_USERNAME";
        /// The password of the management account.
        password: Secret = SECRET, "", "password", "RABBIT_PASSWORD";
        /// The name of a second management account, which is used while RabbitMQ refuses the first. With two of them, the
        /// password of each can be changed without an outage.
        fallback_username: String = TEXT, "", "fallbackUsername", "RABBIT_FALLBACK_USERNAME";
        /// The password of the second management account.
        fallback_password: Secret = SECRET, "", "fallbackPassword", "RABBIT_FALLBACK_PASSWORD";
        /// The URL of the management API, without `/api`.
        base_url: String = HTTP_URL, "", "baseUrl", "RABBIT_BASE_URL";
        /// How long RabbitMQ may take to answer a call.
        request_timeout: Duration = SPAN, "3 s", "requestTimeout", "RABBIT_REQUEST_TIMEOUT";
        /// How long the first claim of a namespace waits for RabbitMQ, before its caller is told to come again. What is not
        /// done by then is finished by the next claim, or within minutes by the rotation.
        first_claim_timeout: Duration = SPAN, "1500 ms", "firstClaimTimeout", "RABBIT_FIRST_CLAIM_TIMEOUT";
        /// How long RabbitMQ may take to list all of its queues, users or connections.
        list_timeout: Duration = SPAN, "60 s", "listTimeout", "RABBIT_LIST_TIMEOUT";
    }

    /// What the service remembers.
    store: Store {
        /// The database: PostgreSQL where several processes share it, else SQLite. Where it is not given,
        /// `sqlite:<app.dataDir>/pulse.sqlite`.
        database_url: Secret = DATABASE_URL, "", "databaseUrl", "DATABASE_URL";
        /// The keys that seal stored passwords: the last one seals, every one opens. PostgreSQL needs one; for SQLite, one
        /// is made beside the file where none is given.
        crypto_keys: Secret = KEYS, "", "cryptoKeys", "DB_CRYPTO_KEYS";
        /// How many connections to PostgreSQL each process keeps.
        pool_size: usize = count(), "5", "poolSize", "STORE_POOL_SIZE";
        /// How long the database may take to answer.
        query_timeout: Duration = SPAN, "5 s", "queryTimeout", "STORE_QUERY_TIMEOUT";
        /// How many namespaces each web process remembers, to answer claims while the database is down.
        remembered_namespaces: usize = count(), "10000", "rememberedNamespaces", "STORE_REMEMBERED_NAMESPACES";
    }

    /// Who may claim.
    auth: Auth {
        /// Who says who a caller is. `local`: the list in `auth.clients`. `remote`: the auth service of the Taskcluster
        /// deployment at `taskcluster.rootUrl`, with its clients and roles. `both`: the list for the clients that stand in
        /// it, the auth service for everybody else, requests without credentials included. With `both`, what stands in the
        /// list is served while the auth service is down, or waits for us to start. A root URL alone changes nothing here.
        mode: AuthMode = AUTH_MODE, "local", "mode", "AUTH_MODE";
        /// How long the auth service may take, up to five repeated attempts included, before a caller is told to come back
        /// later. One attempt may take half of that.
        remote_timeout: Duration = SPAN, "5 s", "remoteTimeout", "AUTH_REMOTE_TIMEOUT";
        /// The clients that may call, with what they may do: a scope `pulse:namespace:<namespace>` allows to claim it, and
        /// one that ends in `*` whatever begins like it. There need be none where `auth.mode` is not `local`.
        clients: Vec<Client> = CLIENTS, "[]", "clients", "STATIC_CLIENTS";
        /// What a scope `assume:<role>` of these clients stands for.
        roles: BTreeMap<String, Vec<String>> = ROLES, "{}", "roles", "AUTH_ROLES";
    }

    /// The web server.
    server: Server {
        /// The address to listen at. The default is reachable from outside, as containers and Heroku need it; claims are
        /// authenticated.
        address: IpAddr = ADDRESS, "0.0.0.0", "address", "SERVER_ADDRESS";
        /// The port to listen at.
        port: u16 = LISTEN_PORT, "8080", "port", "PORT";
        /// Whether requests that did not come over HTTPS are refused. Needs `server.trustProxy`.
        force_ssl: bool = SWITCH, "false", "forceSSL", "FORCE_SSL";
        /// Whether a proxy in front of us sets `X-Forwarded-For` and `X-Forwarded-Proto`, and they can be believed.
        trust_proxy: bool = SWITCH, "false", "trustProxy", "TRUST_PROXY";
        /// The addresses of the proxies in front of us. `X-Forwarded-For`, `-Proto` and `-Port` from anybody else are then
        /// passed over. Where there are none, those of anybody count, so that only the proxy should be able to reach us.
        trusted_proxies: Vec<IpNet> = NETWORKS, "", "trustedProxies", "TRUSTED_PROXIES";
        /// How long a client may take to send the head of a request, once it began to.
        header_timeout: Duration = SPAN, "10 s", "headerTimeout", "SERVER_HEADER_TIMEOUT";
        /// How long a client may take to send the body of a request, and to take in each piece of a reply.
        body_timeout: Duration = SPAN, "10 s", "bodyTimeout", "SERVER_BODY_TIMEOUT";
        /// How long a client is let wait for a reply, once its request has been read. What it asked for goes on, and it
        /// is told to ask again. Taskcluster's clients and Heroku give up after 30 s.
        request_timeout: Duration = SPAN, "20 s", "requestTimeout", "SERVER_REQUEST_TIMEOUT";
        /// How long a connection is kept on which no request comes. It must be longer than the proxy keeps its own.
        keep_alive_timeout: Duration = SPAN, "90 s", "keepAliveTimeout", "SERVER_KEEP_ALIVE_TIMEOUT";
        /// How long running requests and tasks may go on when the process is told to stop. Heroku kills it after 30 s.
        drain_timeout: Duration = SPAN, "25 s", "drainTimeout", "SERVER_DRAIN_TIMEOUT";
        /// How many connections there are at a time. Past that, a request is answered 503, on a connection that is closed
        /// then. Each one takes a file descriptor; the service asks the system for as many, and says when it can't have them.
        max_connections: usize = count(), "10000", "maxConnections", "SERVER_MAX_CONNECTIONS";
        /// How many requests are answered at a time, of which one client gets half. Past that, they are answered 503 with
        /// `Retry-After`, and Taskcluster's clients try again by themselves.
        max_requests: usize = count(), "8192", "maxRequests", "SERVER_MAX_REQUESTS";
        /// How many requests a second one client may make; it may save up 10 s of them. Temporary credentials count for the
        /// client that issued them, and requests without credentials for their address. Past that, the answer is 503 too:
        /// Taskcluster's clients give up at 429.
        client_rate: u32 = count(), "500", "clientRate", "SERVER_CLIENT_RATE";
        /// How much memory the bodies of all requests may take together, those of up to 4 KiB not counted.
        body_memory: usize = SIZE, "64 MiB", "bodyMemory", "SERVER_BODY_MEMORY";
        /// The largest body of a request, as large as Taskcluster's services take.
        body_limit: usize = SIZE, "10 MiB", "bodyLimit", "SERVER_BODY_LIMIT";
    }

    /// How often the scheduled tasks run, where one process runs them all.
    worker: Worker {
        /// How often passwords that are due are rotated.
        rotate_interval: Duration = SPAN, "1 min", "rotateInterval", "WORKER_ROTATE_INTERVAL";
        /// How often the broker is looked over and repaired.
        monitor_interval: Duration = SPAN, "2 min", "monitorInterval", "WORKER_MONITOR_INTERVAL";
        /// How often expired namespaces are removed.
        expire_interval: Duration = SPAN, "5 min", "expireInterval", "WORKER_EXPIRE_INTERVAL";
        /// How often messages to owners are delivered.
        deliver_interval: Duration = SPAN, "30 s", "deliverInterval", "WORKER_DELIVER_INTERVAL";
    }

    /// What is done about queues that grow, old connections, and what is left over.
    monitor: Monitor {
        /// Messages in a queue above which its owner is warned.
        alert_threshold: u64 = count(), "4000", "alertThreshold", "MONITOR_ALERT_THRESHOLD";
        /// Messages in a queue above which it is deleted.
        delete_threshold: u64 = count(), "8000", "deleteThreshold", "MONITOR_DELETE_THRESHOLD";
        /// How often, at most, the owner is reminded while a warning lasts.
        reminder_interval: Duration = SPAN, "1 day", "reminderInterval", "MONITOR_REMINDER_INTERVAL";
        /// How long before a namespace expires its owner is warned, if messages are left in its queues.
        expiry_warning: Duration = SPAN, "1 hour", "expiryWarning", "MONITOR_EXPIRY_WARNING";
        /// How old a connection may get before it is closed.
        connection_max_lifetime: Duration = SPAN, "3 days", "connectionMaxLifetime", "MONITOR_CONNECTION_MAX_LIFETIME";
        /// How many things one run may remove at most. A run that would remove more removes nothing.
        max_removals: usize = count(), "500", "maxRemovals", "MONITOR_MAX_REMOVALS";
        /// Which share of the things that it sees one run may remove at most. A few are always allowed, so that small
        /// brokers are kept clean too.
        max_removal_share: u8 = SHARE, "25%", "maxRemovalShare", "MONITOR_MAX_REMOVAL_SHARE";
        /// Whether things that look like ours, but belong to no namespace that we know of, are deleted. They are reported
        /// in any case.
        delete_orphans: bool = SWITCH, "false", "deleteOrphans", "MONITOR_DELETE_ORPHANS";
        /// How long such a thing must have been seen before it is deleted.
        orphan_grace: Duration = SPAN, "7 days", "orphanGrace", "MONITOR_ORPHAN_GRACE";
    }

    /// How the owners of namespaces are told of their troubles.
    notify: Notify {
        /// The way: `taskcluster` for its notify service, which needs the section `taskcluster`; `smtp` for e-mail, which
        /// needs `smtpUrl` and `from`; `log` for a line in our own log alone.
        method: NotifyMethod = METHOD, "log", "method", "NOTIFY_METHOD";
        /// The mail server. User and password are percent-encoded, or left out. `smtps` begins with TLS; `smtp` turns to it
        /// before anything is sent, with `?tls=opportunistic` where the server offers that, with `?tls=none` never. A
        /// password is sent with `opportunistic` by no means.
        smtp_url: Secret = SMTP_URL, "", "smtpUrl", "NOTIFY_SMTP_URL";
        /// Who e-mail comes from.
        from: String = MAILBOX, "", "from", "NOTIFY_FROM";
    }

    /// What the service writes about its work, on its standard output.
    logging: Logging {
        /// From which level on events are logged: `debug`, `info`, `notice`, `warning`, `err`, `crit`, `alert` or `emerg`.
        /// `notice` is the same as `info` here, and what is worse than `err` the same as `err`. Parts are the modules of the
        /// service and the crates that it uses; the latter log from `warning` on, where nothing else is said.
        level: Levels = LEVELS, "info", "level", "LEVEL";
        /// How log lines are written: `human`, `json` as mozlog has it, or `auto`, which is `human` on a terminal and `json`
        /// otherwise.
        format: LogFormat = FORMAT, "auto", "format", "LOG_FORMAT";
    }
}
