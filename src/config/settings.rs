//! The one table of settings. The sections of [`Config`], the code that reads the file and the environment, the example file and
//! the listing are all generated from it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::accounts::{LIFETIME, PATTERNS};
use super::clients::{CLIENTS, Client, ROLES};
use super::console::{OWNERS, PERSON};
use super::groups::GROUPS;
use super::kinds::*;
use super::limits::{LONGEST, MOST, MOST_BYTES, NAMESPACES};
use super::metrics::{LISTEN_ADDRESS, PROMETHEUS, Prometheus};
use super::places::*;
use super::report::{Given, Report};
use super::setting::{Section, Setting};
use super::suffixes::SUFFIXES;
use crate::domain::owner::{Groups, Owner};
use crate::secret::Secret;
use crate::service::SuffixRule;

/// Each row reads `field: type = kind, default, key, variable`. Its doc comment is also its text in the listing and the example.
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

        /// Every setting of the service, checked. A text or secret without a value and without a default is empty.
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

        /// Reads every setting, and reports the wrong ones. It uses the default in place of a wrong one, so that it can check
        /// the others too. `None` only if a default itself can't be read.
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
        /// The name of every namespace begins with this. The service never touches names that don't begin with it.
        namespace_prefix: String = NAMESPACE_PREFIX, "taskcluster-", "namespacePrefix", "NAMESPACE_PREFIX";
        /// The names of a namespace's two users at RabbitMQ are this, the namespace, and `-1` or `-2`.
        username_prefix: String = USERNAME_PREFIX, "", "usernamePrefix", "USERNAME_PREFIX";
        /// How long a password is active. The `reclaimAt` of a claim is at most one and a half times this ahead.
        namespace_rotation_interval: Duration = SPAN, "1 hour", "namespaceRotationInterval", "NAMESPACE_ROTATION_INTERVAL";
        /// How long after its end a namespace is removed.
        namespaces_expiration_delay: Duration = DELAY, "1 hour", "namespacesExpirationDelay", "NAMESPACES_EXPIRATION_DELAY";
        /// Rotation and expiry wait if no web process was able to serve claims for this long, because its clients could
        /// not reach it or it could not reach the auth service. They wait for as long again after a web process is able
        /// to. If this is more than a quarter of the rotation interval, that quarter counts.
        api_silence: Duration = SPAN, "2 min", "apiSilence", "API_SILENCE";
        /// How long rotation waits for the web processes at most, counted from the last time that one was able to serve
        /// claims.
        max_rotation_hold: Duration = DELAY, "1 day", "maxRotationHold", "MAX_ROTATION_HOLD";
        /// How many live namespaces one client may have. Temporary credentials count for the client that issued them.
        /// The service refuses the client's first claim of another namespace. It never refuses claims of live
        /// namespaces for that.
        namespaces_per_client: usize = count(), "1000", "namespacesPerClient", "NAMESPACES_PER_CLIENT";
        /// Whether the scheduled tasks only print what they would do, and change nothing.
        mock_maintenance: bool = SWITCH, "false", "mockMaintenance", "MOCK_MAINTENANCE";
        /// The host in connection strings. By default, the host of `rabbit.baseUrl`.
        amqp_hostname: String = HOST, "", "amqpHostname", "TASKCLUSTER_AMQP_HOSTNAME";
        /// The protocol in connection strings.
        amqp_protocol: String = AMQP_PROTOCOL, "amqps://", "amqpProtocol", "TASKCLUSTER_AMQP_PROTOCOL";
        /// The port in connection strings.
        amqp_port: u16 = PORT, "5671", "amqpPort", "TASKCLUSTER_AMQP_PORT";
        /// The virtual host of the namespaces.
        amqp_vhost: String = TEXT, "/", "amqpVhost", "TASKCLUSTER_AMQP_VHOST";
        /// Every connection string ends with this. `?frameMax=0` lets old AMQP clients log in to RabbitMQ 4.1 and
        /// later.
        connection_string_suffix: String = SUFFIX, "", "connectionStringSuffix", "CONNECTION_STRING_SUFFIX";
        /// Other suffixes for some callers, for example for consumers that refuse the one above:
        /// `[{namespace: 'taskcluster-x-*', suffix: ''}]`. An entry fits if its `namespace` is the claimed one and its
        /// `clientId` is the client that claims, or the client that issued the temporary credentials. Either may end in
        /// `*`, which stands for anything, and one of the two may be left out. The first entry that fits counts.
        connection_string_suffixes: Vec<SuffixRule> = SUFFIXES, "[]", "connectionStringSuffixes", "CONNECTION_STRING_SUFFIXES";
        /// The folder for the service's own files: the SQLite database and its key.
        data_dir: PathBuf = FOLDER, "data", "dataDir", "DATA_DIR";
    }

    /// The Taskcluster deployment, and the service's credentials there.
    taskcluster: Taskcluster {
        /// The root URL of the deployment.
        root_url: String = HTTP_URL, "", "rootUrl", "TASKCLUSTER_ROOT_URL";
        /// Whether the service calls other services of the deployment at `http://taskcluster-<service>`, their names
        /// inside its Kubernetes cluster, instead of at the root URL. As in Taskcluster's own services, any text in the
        /// environment means yes, even `false`.
        kubernetes_dns: bool = PRESENCE, "", "useKubernetesDnsServiceDiscovery", "USE_KUBERNETES_DNS_SERVICE_DISCOVERY";
        /// A file with the certificates, as PEM, of the authorities that are trusted when the deployment is called, in place of
        /// the system's.
        ca_file: PathBuf = FILE, "", "caFile", "TASKCLUSTER_CA_FILE";
        /// The URL of a proxy that signs requests to the deployment, as taskcluster-proxy does for tasks. `claim` and
        /// `exec` call it without a signature if they have no credentials.
        proxy_url: String = HTTP_URL, "", "proxyUrl", "TASKCLUSTER_PROXY_URL";
        /// The client id of the service.
        client_id: String = TEXT, "", "credentials.clientId", "TASKCLUSTER_CLIENT_ID";
        /// The access token of the service.
        access_token: Secret = SECRET, "", "credentials.accessToken", "TASKCLUSTER_ACCESS_TOKEN";
        /// The certificate of temporary credentials, as JSON text.
        certificate: Secret = SECRET, "", "credentials.certificate", "TASKCLUSTER_CERTIFICATE";
    }

    /// RabbitMQ's management API.
    rabbit: Rabbit {
        /// The name of the management account. It needs the `administrator` tag and all permissions on the virtual
        /// host.
        username: String = TEXT, "", "username", "RABBIT_USERNAME";
        /// The password of the management account.
        password: Secret = SECRET, "", "password", "RABBIT_PASSWORD";
        /// The name of a second management account. The service uses it while RabbitMQ refuses the first one. With two
        /// accounts you can change the password of each without an outage.
        fallback_username: String = TEXT, "", "fallbackUsername", "RABBIT_FALLBACK_USERNAME";
        /// The password of the second management account.
        fallback_password: Secret = SECRET, "", "fallbackPassword", "RABBIT_FALLBACK_PASSWORD";
        /// How the service logs in to the management API. `password`: with these names and passwords. `token`: with tokens that it
        /// signs with a key of its own, each for five minutes. RabbitMQ needs the plugin `rabbitmq_auth_backend_oauth2` for that.
        way_in: RabbitAuth = RABBIT_AUTH, "password", "auth", "RABBIT_AUTH";
        /// The keys that sign tokens, each as `keys make` prints it. The last one signs. While RabbitMQ refuses it, the others do, so
        /// that you can change it without an outage.
        token_keys: Secret = TOKEN_KEYS, "", "tokenKeys", "RABBIT_TOKEN_KEYS";
        /// RabbitMQ's setting `auth_oauth2.resource_server_id`.
        token_audience: String = TEXT, "rabbitmq", "tokenAudience", "RABBIT_TOKEN_AUDIENCE";
        /// The URL of the management API, without `/api`. Of a cluster, give those of several nodes, separated by commas: the
        /// service calls the first one, and another one while that does not answer.
        base_url: Vec<String> = HTTP_URLS, "", "baseUrl", "RABBIT_BASE_URL";
        /// A file with the certificates, as PEM, of the authorities that are trusted when RabbitMQ is called, in place of the
        /// system's.
        ca_file: PathBuf = FILE, "", "caFile", "RABBIT_CA_FILE";
        /// A file with the certificate, as PEM, that the service shows if RabbitMQ, or a proxy in front of it, asks for one.
        cert_file: PathBuf = FILE, "", "certFile", "RABBIT_CERT_FILE";
        /// A file with the key of that certificate, as PEM, without a password.
        key_file: PathBuf = FILE, "", "keyFile", "RABBIT_KEY_FILE";
        /// The URL of the Prometheus plugin, without `/metrics`, such as `http://rabbitmq.example.com:15692`. With RabbitMQ
        /// 4.0 or newer on one node, the guard then looks at the consumers of all queues by one call to it, instead of one for
        /// each queue. It sends no password there.
        metrics_url: String = HTTP_URL, "", "metricsUrl", "RABBIT_METRICS_URL";
        /// How long RabbitMQ may take to answer a call.
        request_timeout: Duration = SPAN, "3 s", "requestTimeout", "RABBIT_REQUEST_TIMEOUT";
        /// How long the first claim of a namespace waits for RabbitMQ before the service tells the caller to retry. The
        /// next claim, or the rotation within minutes, finishes the rest.
        first_claim_timeout: Duration = SPAN, "1500 ms", "firstClaimTimeout", "RABBIT_FIRST_CLAIM_TIMEOUT";
        /// How long RabbitMQ may take to list all of its queues, users or connections.
        list_timeout: Duration = SPAN, "60 s", "listTimeout", "RABBIT_LIST_TIMEOUT";
    }

    /// The database.
    store: Store {
        /// The URL of the database: PostgreSQL if processes run on several machines, otherwise SQLite. The default is
        /// `sqlite:<app.dataDir>/pulse.sqlite`.
        database_url: Secret = DATABASE_URL, "", "databaseUrl", "DATABASE_URL";
        /// The keys that encrypt stored passwords. The last one encrypts, and each one can decrypt. PostgreSQL needs at
        /// least one. With SQLite, the service creates one beside the file if you give none.
        crypto_keys: Secret = KEYS, "", "cryptoKeys", "DB_CRYPTO_KEYS";
        /// How many connections to PostgreSQL each process keeps.
        pool_size: usize = count(), "5", "poolSize", "STORE_POOL_SIZE";
        /// How long the database may take to answer.
        query_timeout: Duration = SPAN, "5 s", "queryTimeout", "STORE_QUERY_TIMEOUT";
        /// How many namespaces each web process remembers, to answer claims while the database is down. If there are
        /// more, each client gets a share.
        remembered_namespaces: usize = count(), "10000", "rememberedNamespaces", "STORE_REMEMBERED_NAMESPACES";
        /// How long the audit trail is kept: who did what to whose things, and why.
        audit_kept: Duration = SPAN, "365 days", "auditKept", "STORE_AUDIT_KEPT";
    }

    /// Who may claim.
    auth: Auth {
        /// Where clients are defined. `local`: in `auth.clients`. `remote`: in the auth service of the Taskcluster
        /// deployment at `taskcluster.rootUrl`, with its clients and roles. `both`: in `auth.clients`, and the auth
        /// service is asked about everybody else, also about requests without credentials. With `both`, the clients in
        /// the list don't need the auth service, so put the clients that it needs to start into the list.
        /// `taskcluster.rootUrl` alone does not change this setting.
        mode: AuthMode = AUTH_MODE, "local", "mode", "AUTH_MODE";
        /// How long the auth service may take, with up to five retries, before the service tells the caller to retry
        /// later. One attempt may take half of that.
        remote_timeout: Duration = SPAN, "5 s", "remoteTimeout", "AUTH_REMOTE_TIMEOUT";
        /// The clients that may call, with their scopes. `pulse:namespace:<namespace>` allows a client to claim that
        /// namespace. A scope that ends in `*` covers everything that begins with the part before it. The list may be
        /// empty if `auth.mode` is not `local`.
        clients: Vec<Client> = CLIENTS, "[]", "clients", "STATIC_CLIENTS";
        /// The scopes that a scope `assume:<role>` of these clients stands for.
        roles: BTreeMap<String, Vec<String>> = ROLES, "{}", "roles", "AUTH_ROLES";
    }

    /// The web server.
    server: Server {
        /// The address to listen on. With the default, everybody can reach the service, as containers and Heroku need
        /// it; claims need a signature.
        address: IpAddr = ADDRESS, "0.0.0.0", "address", "SERVER_ADDRESS";
        /// The port to listen on.
        port: u16 = LISTEN_PORT, "8080", "port", "PORT";
        /// Whether the service refuses requests that did not come over HTTPS. Needs `server.trustProxy`.
        force_ssl: bool = SWITCH, "false", "forceSSL", "FORCE_SSL";
        /// Whether to believe `X-Forwarded-For` and `X-Forwarded-Proto`, because a proxy in front of the service sets
        /// them.
        trust_proxy: bool = SWITCH, "false", "trustProxy", "TRUST_PROXY";
        /// The addresses of the proxies in front of the service. The service then ignores `X-Forwarded-For`, `-Proto`
        /// and `-Port` from all others. If this is empty, the service believes these headers from everybody, so only
        /// the proxy should be able to reach it.
        trusted_proxies: Vec<IpNet> = NETWORKS, "", "trustedProxies", "TRUSTED_PROXIES";
        /// How long a client may take to send the head of a request, after its first byte.
        header_timeout: Duration = SPAN, "10 s", "headerTimeout", "SERVER_HEADER_TIMEOUT";
        /// How long a client may take to send the body of a request, and to receive each piece of a reply.
        body_timeout: Duration = SPAN, "10 s", "bodyTimeout", "SERVER_BODY_TIMEOUT";
        /// How long a client waits for a reply after it has sent its request. Then the service tells it to retry, and
        /// finishes the work meanwhile. Taskcluster's clients and Heroku give up after 30 s.
        request_timeout: Duration = SPAN, "20 s", "requestTimeout", "SERVER_REQUEST_TIMEOUT";
        /// How long the service keeps an idle connection. It must be longer than the proxy keeps idle connections.
        keep_alive_timeout: Duration = SPAN, "90 s", "keepAliveTimeout", "SERVER_KEEP_ALIVE_TIMEOUT";
        /// How long requests and tasks may continue after the process is told to stop. Heroku kills the process after
        /// 30 s.
        drain_timeout: Duration = SPAN, "25 s", "drainTimeout", "SERVER_DRAIN_TIMEOUT";
        /// How many connections may be open at a time. One address, or one IPv6 network (/64), gets half of them,
        /// unless it is in `server.trustedProxies`. Past that, the service answers 503 and closes the connection. Each
        /// connection uses a file descriptor. The service raises its limit for them as needed, and says so if it can't.
        max_connections: usize = count(), "10000", "maxConnections", "SERVER_MAX_CONNECTIONS";
        /// How many requests are answered at a time. One client gets half of them. Past that, the answer is 503 with
        /// `Retry-After`, and Taskcluster's clients retry by themselves.
        max_requests: usize = count(), "8192", "maxRequests", "SERVER_MAX_REQUESTS";
        /// How many requests a second one client may make. It can save up 10 s of them. Temporary credentials count for
        /// the client that issued them, and requests without credentials for their address. Past that, the answer is
        /// 503, because Taskcluster's clients give up after a 429.
        client_rate: u32 = count(), "500", "clientRate", "SERVER_CLIENT_RATE";
        /// How many requests a second are answered that no other setting limits: monitoring, the references, and
        /// refusals of strangers. In addition, each connection may make 2 a second, and can save up 10 s of them. The
        /// service answers the rest up to 2 s later, and never refuses it.
        spare_rate: u32 = count(), "1000", "spareRate", "SERVER_SPARE_RATE";
        /// How much memory the bodies of all requests and replies may take together. A reply counts until it is
        /// written. Bodies of up to 4 KiB don't count.
        body_memory: usize = SIZE, "64 MiB", "bodyMemory", "SERVER_BODY_MEMORY";
        /// The largest body of a request. Each endpoint has a lower limit of its own besides: 16 KiB for a claim, 1 KiB
        /// for the others.
        body_limit: usize = SIZE, "10 MiB", "bodyLimit", "SERVER_BODY_LIMIT";
        /// Whether `/__error__` is there, which logs an error and answers 500, to try out how errors are reported. Anybody
        /// who reaches the service can call it.
        error_path: bool = SWITCH, "false", "errorPath", "SERVER_ERROR_PATH";
    }

    /// How often the scheduled tasks run, if one process runs them all.
    worker: Worker {
        /// How often to rotate the passwords that are due.
        rotate_interval: Duration = SPAN, "1 min", "rotateInterval", "WORKER_ROTATE_INTERVAL";
        /// How often to check and repair the broker.
        monitor_interval: Duration = SPAN, "2 min", "monitorInterval", "WORKER_MONITOR_INTERVAL";
        /// How often to remove expired namespaces.
        expire_interval: Duration = SPAN, "5 min", "expireInterval", "WORKER_EXPIRE_INTERVAL";
        /// How often to deliver messages to owners.
        deliver_interval: Duration = SPAN, "30 s", "deliverInterval", "WORKER_DELIVER_INTERVAL";
    }

    /// What is done about queues that grow, old connections, and what is left over.
    monitor: Monitor {
        /// Messages in a queue above which its owner is warned.
        alert_threshold: u64 = count(), "4000", "alertThreshold", "MONITOR_ALERT_THRESHOLD";
        /// Messages in a queue above which it is deleted: if it stays above, does not drain, and its owner was warned.
        delete_threshold: u64 = count(), "8000", "deleteThreshold", "MONITOR_DELETE_THRESHOLD";
        /// Unacknowledged messages in a queue above which its owner is warned of the consumer that holds them.
        unacked_alert_threshold: u64 = count(), "1000", "unackedAlertThreshold", "MONITOR_UNACKED_ALERT_THRESHOLD";
        /// Unacknowledged messages in a queue above which the one connection that holds the most is closed.
        unacked_close_threshold: u64 = count(), "4000", "unackedCloseThreshold", "MONITOR_UNACKED_CLOSE_THRESHOLD";
        /// What is done about queues in trouble: `delete` those that are too large; `purge` their messages only; `warn` their
        /// owners only; `observe`, which reports what would be done.
        action: MonitorAction = ACTION, "delete", "action", "MONITOR_ACTION";
        /// How long after its owner's mail system took a warning a queue may be removed at the earliest.
        grace: Duration = SPAN, "15 min", "grace", "MONITOR_GRACE";
        /// The same while the broker is in memory or disk alarm, if that is less.
        alarm_grace: Duration = SPAN, "5 min", "alarmGrace", "MONITOR_ALARM_GRACE";
        /// How often, at most, the owner is reminded while a warning lasts.
        reminder_interval: Duration = SPAN, "1 day", "reminderInterval", "MONITOR_REMINDER_INTERVAL";
        /// How long before its end the owner of a namespace is warned, if its queues have messages.
        expiry_warning: Duration = SPAN, "1 hour", "expiryWarning", "MONITOR_EXPIRY_WARNING";
        /// The age at which a connection is closed.
        connection_max_lifetime: Duration = SPAN, "3 days", "connectionMaxLifetime", "MONITOR_CONNECTION_MAX_LIFETIME";
        /// How many things one run may decide to remove. A run that would remove more removes nothing.
        max_removals: usize = count(), "500", "maxRemovals", "MONITOR_MAX_REMOVALS";
        /// What share of the things that it sees one run may decide to remove. A few are always allowed, so that the
        /// service can clean up small brokers, too.
        max_removal_share: u8 = SHARE, "25%", "maxRemovalShare", "MONITOR_MAX_REMOVAL_SHARE";
        /// What share of what one run may decide to remove may belong to one client. If more would, the run removes
        /// nothing of that client, and removes the things of the others.
        max_owner_share: u8 = SHARE, "50%", "maxOwnerShare", "MONITOR_MAX_OWNER_SHARE";
        /// Whether to delete users, queues and exchanges that are named like a namespace's but belong to no namespace
        /// in the database. The service reports them in any case.
        delete_orphans: bool = SWITCH, "false", "deleteOrphans", "MONITOR_DELETE_ORPHANS";
        /// How long ago the service must have seen such a thing first before it deletes it.
        orphan_grace: Duration = SPAN, "7 days", "orphanGrace", "MONITOR_ORPHAN_GRACE";
    }

    /// Accounts of people, whose passwords change when an owner asks for it.
    accounts: Accounts {
        /// What accounts may be called: patterns, separated by commas, in which `*` stands for any characters. By default,
        /// their names begin with `app.namespacePrefix`, as those of all namespaces.
        names: Vec<String> = PATTERNS, "", "names", "ACCOUNT_NAMES";
        /// What accounts may not be called: patterns likewise. Case does not matter.
        reserved: Vec<String> = PATTERNS, "", "reserved", "RESERVED_NAMES";
        /// How long after its last use an account ends. Its owners are told 30, 7 and 1 days before.
        lifetime: Duration = LIFETIME, "365 days", "lifetime", "ACCOUNT_LIFETIME";
        /// How long nobody may have used an adopted user whose owner has moved on before it is deleted.
        retire_after: Duration = LIFETIME, "30 days", "retireAfter", "ACCOUNT_RETIRE_AFTER";
    }

    /// The console: pages for people, below `/console`.
    console: Console {
        /// The URL at which people reach the service, without a path, such as `https://pulse.example.com`. Signing in by
        /// OpenID Connect or Taskcluster needs it.
        url: String = HTTP_URL, "", "url", "CONSOLE_URL";
        /// Who administers: people who signed in with one of these addresses, or are in one of these groups.
        administrators: Vec<Owner> = OWNERS, "", "administrators", "CONSOLE_ADMINISTRATORS";
        /// For development alone: whoever reaches the service may sign in as the person with this address, without a
        /// password. The service starts with it only if it listens on a loopback address.
        fake_account: String = PERSON, "", "fakeAccount", "FAKE_ACCOUNT";
        /// The issuer of the OpenID Connect provider by which people sign in, such as `https://accounts.example.com`. There,
        /// `<console.url>/console/sign-in/callback` is the address that people are led back to.
        oidc_issuer: String = HTTP_URL, "", "oidcIssuer", "OIDC_ISSUER";
        /// The client id of this service at the provider.
        oidc_client_id: String = TEXT, "", "oidcClientId", "OIDC_CLIENT_ID";
        /// Its secret there. Leave it out for a public client.
        oidc_client_secret: Secret = SECRET, "", "oidcClientSecret", "OIDC_CLIENT_SECRET";
        /// A file with the certificates, as PEM, of the authorities that are trusted when the provider is called, in place of the
        /// system's.
        oidc_ca_file: PathBuf = FILE, "", "oidcCaFile", "OIDC_CA_FILE";
        /// The scopes that are asked for.
        oidc_scopes: String = TEXT, "openid email profile", "oidcScopes", "OIDC_SCOPES";
        /// The claim that has a person's groups. Namespaces belong to them as `group:<name>`.
        oidc_groups_claim: String = TEXT, "groups", "oidcGroupsClaim", "OIDC_GROUPS_CLAIM";
        /// The client id of this service among the `REGISTERED_CLIENTS` of the Taskcluster deployment at `taskcluster.rootUrl`, by
        /// which people sign in then. They have the scopes that they have there. `<console.url>/console/sign-in/taskcluster/callback`
        /// is its `redirectUri`.
        taskcluster_client_id: String = TEXT, "", "taskclusterClientId", "CONSOLE_TASKCLUSTER_CLIENT_ID";
        /// The scopes that are registered there, with blanks between them.
        taskcluster_scopes: String = TEXT, "pulse:*", "taskclusterScopes", "CONSOLE_TASKCLUSTER_SCOPES";
    }

    /// Limits that RabbitMQ itself keeps. None is set by default. The service sets these at RabbitMQ in each sweep, and takes
    /// away what it set before and is set no more. RabbitMQ warns nobody before it acts.
    limits: Limits {
        /// How many messages may wait in a queue. RabbitMQ drops the oldest ones, and of a stream none.
        max_length: Option<u64> = MOST, "", "maxLength", "LIMITS_MAX_LENGTH";
        /// How many bytes the messages that wait in a queue, or are kept in a stream, may take. RabbitMQ drops the oldest ones.
        max_length_bytes: Option<u64> = MOST_BYTES, "", "maxLengthBytes", "LIMITS_MAX_LENGTH_BYTES";
        /// How long a message may wait in a queue before RabbitMQ drops it.
        message_ttl: Option<Duration> = LONGEST, "", "messageTtl", "LIMITS_MESSAGE_TTL";
        /// How long a queue may be without consumers, and nobody fetch or declare it, before RabbitMQ deletes it.
        expires: Option<Duration> = LONGEST, "", "expires", "LIMITS_EXPIRES";
        /// How many connections each of a namespace's two users may have open.
        max_connections: Option<u64> = MOST, "", "maxConnections", "LIMITS_MAX_CONNECTIONS";
        /// How many channels each of a namespace's two users may have open, in all its connections together.
        max_channels: Option<u64> = MOST, "", "maxChannels", "LIMITS_MAX_CHANNELS";
        /// The namespaces that none of these limits holds for.
        exceptions: BTreeSet<String> = NAMESPACES, "", "exceptions", "LIMITS_EXCEPTIONS";
    }

    /// How the owners of namespaces are warned.
    notify: Notify {
        /// `taskcluster` sends messages through Taskcluster's notify service, and needs the section `taskcluster`.
        /// `smtp` sends e-mail, and needs `smtpUrl` and `from`. `log` only writes them to the service's own log.
        method: NotifyMethod = METHOD, "log", "method", "NOTIFY_METHOD";
        /// The mail server. Percent-encode the user and password, or leave them out. `smtps` uses TLS from the start.
        /// `smtp` changes to TLS before it sends anything. With `?tls=opportunistic` it does so only if the server
        /// offers TLS, and with `?tls=none` never. With `opportunistic`, the service never sends a password.
        smtp_url: Secret = SMTP_URL, "", "smtpUrl", "NOTIFY_SMTP_URL";
        /// A file with the certificates, as PEM, of the authorities that are trusted when the mail server is called, in place of
        /// the system's.
        smtp_ca_file: PathBuf = FILE, "", "smtpCaFile", "NOTIFY_SMTP_CA_FILE";
        /// The sender of e-mail.
        from: String = MAILBOX, "", "from", "NOTIFY_FROM";
        /// The name with which the service introduces itself to the mail server (`EHLO`). Many servers want one that is
        /// in DNS. The default is the domain of `from`.
        ehlo_name: String = EHLO_NAME, "", "ehloName", "NOTIFY_EHLO_NAME";
        /// Where to tell groups that own namespaces: a mailing list of each. Without an address a group gets no messages.
        groups: Groups = GROUPS, "{}", "groups", "NOTIFY_GROUPS";
    }

    /// Metrics for Prometheus, on a port of their own, of each process.
    metrics: Metrics {
        /// The address and port at which metrics are served, at the path `/metrics`. It needs no login, so only those who may
        /// read the metrics should be able to reach it.
        address: Option<SocketAddr> = LISTEN_ADDRESS, "", "address", "METRICS_ADDRESS";
        /// The same as Taskcluster's services are given it: `{server: {ip: '0.0.0.0', port: 9100}, prefix: 'tc'}`. `prefix`
        /// stands before all names of metrics. The service ignores `push`: it is scraped. Where both settings name an
        /// address, the other one counts.
        prometheus: Prometheus = PROMETHEUS, "{}", "prometheusConfig", "PROMETHEUS_CONFIG";
    }

    /// What the service logs to standard output.
    logging: Logging {
        /// The lowest level that is logged: `debug`, `info`, `notice`, `warning`, `err`, `crit`, `alert` or `emerg`.
        /// Here `notice` is the same as `info`, and levels above `err` are the same as `err`. You can set the level for
        /// parts: modules of the service, or crates that it uses. Crates log from `warning` on, unless you say
        /// otherwise.
        level: Levels = LEVELS, "info", "level", "LEVEL";
        /// The format of log lines: `human`, `json` (mozlog), or `auto`, which is `human` on a terminal and `json`
        /// otherwise.
        format: LogFormat = FORMAT, "auto", "format", "LOG_FORMAT";
        /// Whether each request is logged once more, as Mozilla's services log it: a line of the type `request.summary`.
        request_summary: bool = SWITCH, "false", "requestSummary", "LOG_REQUEST_SUMMARY";
    }
}
