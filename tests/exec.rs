//! `taskcluster-pulse exec` and `claim --watch`: the program itself, against a service that answers as it is told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::pulse::{ACCESS_TOKEN, Api, CLIENT_ID, Reclaim, Stub};
use crate::support::rabbitmq::eventually;
use crate::support::world::{BrokerKind, StoreKind, World};
use axum::Router;
use axum::extract::Request;
use axum::http::header;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use taskcluster_pulse::clock::Timestamp;
use tempfile::TempDir;
use tokio::process::{Child, Command};

const PATIENCE: Duration = Duration::from_secs(30);
const PROGRAM: &str = env!("CARGO_BIN_EXE_taskcluster-pulse");

fn pid_of(text: &str) -> Pid {
    Pid::from_raw(text.parse().unwrap()).unwrap()
}

/// The state of a process, as `/proc` has it.
fn state(pid: Pid) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A folder in which the program runs, and writes.
struct Place {
    folder: TempDir,
    root: String,
}

impl Place {
    fn at(api: &Api) -> Place {
        Place { folder: tempfile::tempdir().unwrap(), root: api.root().to_string() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lines(&self, name: &str) -> Vec<String> {
        fs::read_to_string(self.path(name)).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Waits until a file has so many lines.
    async fn lines_of(&self, name: &str, count: usize) -> Vec<String> {
        eventually("a line", async || Some(self.lines(name)).filter(|lines| lines.len() >= count)).await
    }

    fn program(&self, arguments: &[&str]) -> Program {
        self.run(&mut self.command(arguments))
    }

    /// The program with nothing of our environment but its credentials.
    fn command(&self, arguments: &[&str]) -> Command {
        self.started_by(PROGRAM, arguments)
    }

    fn started_by(&self, program: &str, arguments: &[&str]) -> Command {
        let output = |name| Stdio::from(fs::File::create(self.path(name)).unwrap());
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("TASKCLUSTER_ROOT_URL", &self.root)
            .env("TASKCLUSTER_CLIENT_ID", CLIENT_ID)
            .env("TASKCLUSTER_ACCESS_TOKEN", ACCESS_TOKEN)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .kill_on_drop(true);
        command
    }

    fn run(&self, command: &mut Command) -> Program {
        let child = command.spawn().unwrap();
        Program { child, stdout: self.path("stdout"), stderr: self.path("stderr") }
    }

    /// Runs a shell script.
    fn exec(&self, options: &[&str], script: &str) -> Program {
        self.program(&[&["exec", "taskcluster-a"], options, &["--", "sh", "-c", script]].concat())
    }
}

/// The program while it runs.
struct Program {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Program {
    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap()
    }

    fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Its own state, as `/proc` has it.
    fn state(&self) -> Option<char> {
        state(self.pid())
    }

    /// The states of its children, by their process ids, as `/proc` has them.
    fn children(&self) -> Vec<(Pid, char)> {
        let pid = self.pid().as_raw_nonzero();
        let children = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
        let listed: String = tasks.map(children).collect();
        let ids = listed.split_whitespace().map(pid_of);
        ids.filter_map(|pid| Some((pid, state(pid)?))).collect()
    }

    fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Waits for its end.
    async fn output(mut self) -> Output {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = status.expect("the program should end").unwrap();
        Output { status, stdout: fs::read(&self.stdout).unwrap(), stderr: fs::read(&self.stderr).unwrap() }
    }

    async fn code(self) -> i32 {
        let output = self.output().await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("canary"), "{stderr}");
        output.status.code().unwrap_or_else(|| panic!("{}: {stderr}", output.status))
    }
}

/// Says with which connection string it began, and goes on until SIGTERM.
const STEADY: &str = r#"echo "$PULSE_CONNECTION_STRING" >> began; exec sleep 1000"#;
const SOON: Reclaim = Reclaim::In(1500);
const LATER: Reclaim = Reclaim::In(3_600_000);

#[tokio::test]
async fn the_command_gets_the_string_and_its_exit_code_is_ours() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    let script = r#"printf '%s|' "$PULSE_CONNECTION_STRING" "$0" "$@" "${PULSE_CONNECTION_STRING_FILE-none}"; exit 7"#;
    let arguments = ["exec", "taskcluster-a", "--contact", "me@x.org", "--", "sh", "-c", script, "a b", "--wait"];
    let output = place.program(&arguments).output().await;
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    let expected = format!("{}|a b|--wait|none|", Stub::connection_string(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert_eq!(stub.claims()[0]["contact"], "me@x.org");
    assert_eq!(stub.claims().len(), 1);
}

#[tokio::test]
async fn an_end_by_a_signal_and_a_command_that_is_missing_have_the_codes_that_shells_give_them() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    assert_eq!(place.exec(&[], "kill -KILL $$").code().await, 128 + 9);
    assert_eq!(place.program(&["exec", "taskcluster-a", "--", "no-such-command"]).code().await, 127);
    fs::write(place.path("data"), "").unwrap();
    assert_eq!(place.program(&["exec", "taskcluster-a", "--", "./data"]).code().await, 126);
}

#[tokio::test]
async fn a_new_string_restarts_the_command_and_leaves_no_zombie_and_no_trace() {
    let stub = Stub::new(SOON);
    let place = Place::at(&stub.api);
    let program = place.exec(&[], STEADY);
    for turn in 0..3 {
        stub.set(|script| script.turn = turn);
        let began = place.lines_of("began", turn + 1).await;
        assert_eq!(began[turn], Stub::connection_string(turn));
        let children = program.children();
        assert!(matches!(children[..], [(_, state)] if state != 'Z'), "{children:?}");
        for pid in [program.pid(), children[0].0] {
            let line = fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap();
            assert!(!line.contains("canary"), "{line}");
        }
    }
    let (command, _) = program.children()[0];
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 15);
    assert!(test_kill_process(command).is_err());
    assert_eq!(place.lines("began").len(), 3);
}

#[tokio::test]
async fn a_claim_that_returns_the_same_string_leaves_the_command_alone() {
    let stub = Stub::new(SOON);
    let place = Place::at(&stub.api);
    let program = place.exec(&[], STEADY);
    eventually("a third claim", async || (stub.claims().len() >= 3).then_some(())).await;
    assert_eq!(place.lines("began").len(), 1);
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 15);
}

#[tokio::test]
async fn a_command_that_does_not_end_is_killed_and_started_anew() {
    let stub = Stub::new(SOON);
    let place = Place::at(&stub.api);
    let script = r#"trap 'echo ignored >> ended' TERM; echo "$$" >> began; while :; do sleep 0.1; done"#;
    let program = place.exec(&["--stop-timeout", "400ms"], script);
    let first = place.lines_of("began", 1).await;
    stub.set(|script| script.turn = 1);
    let both = place.lines_of("began", 2).await;
    assert_ne!(first[0], both[1]);
    assert_eq!(place.lines("ended"), ["ignored"]);
    assert!(!Path::new(&format!("/proc/{}", first[0])).exists());
    // SIGTERM from outside has the same patience.
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 9);
}

#[tokio::test]
async fn a_command_may_be_signalled_and_reads_the_new_string_from_the_file() {
    let stub = Stub::new(SOON);
    let place = Place::at(&stub.api);
    let script = r#"
        read_it() { echo "$(cat "$PULSE_CONNECTION_STRING_FILE") $$" >> read; }
        trap read_it USR1
        trap 'cd /; exit 4' TERM
        read_it
        echo "$PULSE_CONNECTION_STRING" >> began
        while :; do sleep 0.05; done"#;
    let program = place.exec(&["--signal", "SIGUSR1", "--file", "secret"], script);
    for turn in 0..3 {
        stub.set(|script| script.turn = turn);
        let read = place.lines_of("read", turn + 1).await;
        let (string, pid) = read[turn].split_once(' ').unwrap();
        assert_eq!(string, Stub::connection_string(turn));
        assert_eq!(pid, program.children()[0].0.as_raw_nonzero().to_string());
        assert_eq!(fs::metadata(place.path("secret")).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(place.lines("began"), [Stub::connection_string(0)]);
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 4);
    let left: Vec<_> = fs::read_dir(place.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("secret")), "{left:?}");
}

#[tokio::test]
async fn a_file_that_can_not_be_written_is_told_before_the_command_runs() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    fs::create_dir(place.path("folder")).unwrap();
    for file in ["/dev/null", "folder", "no/such/folder/file"] {
        let program = place.exec(&["--file", file], "touch ran");
        let output = program.output().await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{file}: {stderr}");
        assert!(stderr.contains(&format!("{file} can't be written")), "{stderr}");
    }
    assert!(!place.path("ran").exists());
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_refused() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    for (options, hint) in [
        (&["--on-reclaim", "signal"][..], "--file"),
        (&["--signal", "HUP"], "--file"),
        (&["--signal", "KILL", "--file", "f"], "give HUP"),
        (&["--stop-timeout", "soon"], "--stop-timeout"),
    ] {
        let output = place.exec(options, "touch ran").output().await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        assert!(stderr.contains(hint), "{stderr}");
    }
    assert_eq!(place.program(&["exec", "taskcluster-a"]).code().await, 2);
    assert!(!place.path("ran").exists() && stub.claims().is_empty());
}

#[tokio::test]
async fn an_end_that_is_past_is_refused_before_anything_is_claimed() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    for (expires, why) in
        [("2020-01-01T00:00:00Z", "2020-01-01T00:00:00.000Z is past"), ("0s", "no time is left from each claim")]
    {
        for arguments in [
            &["exec", "taskcluster-a", "--expires", expires, "--", "touch", "ran"][..],
            &["claim", "taskcluster-a", "--watch", "--expires", expires],
        ] {
            let output = place.program(arguments).output().await;
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
            assert!(stderr.contains(why) && stderr.contains("give a date to come"), "{stderr}");
        }
    }
    assert!(stub.claims().is_empty() && !place.path("ran").exists());
}

#[tokio::test]
async fn signals_are_passed_on() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    let script = r#"
        for signal in HUP USR1 USR2; do trap "echo $signal >> got" $signal; done
        trap 'exit 5' TERM; trap 'exit 6' INT; trap 'exit 7' QUIT
        echo >> began
        while :; do sleep 0.05; done"#;
    // Whoever runs this test by nohup hands on that hangups are ignored.
    let command = ["--default-signal=HUP", PROGRAM, "exec", "taskcluster-a", "--", "sh", "-c", script];
    for (round, (signal, code)) in [(Signal::TERM, 5), (Signal::INT, 6), (Signal::QUIT, 7)].into_iter().enumerate() {
        let program = place.run(&mut place.started_by("env", &command));
        place.lines_of("began", round + 1).await;
        if round == 0 {
            for (count, signal) in [Signal::HUP, Signal::USR1, Signal::USR2].into_iter().enumerate() {
                program.send(signal);
                place.lines_of("got", count + 1).await;
            }
        }
        program.send(signal);
        assert_eq!(program.code().await, code);
    }
    assert_eq!(place.lines("got"), ["HUP", "USR1", "USR2"]);
}

#[tokio::test]
async fn the_command_outlives_an_outage_and_is_restarted_after_it() {
    let mut stub = Stub::new(Reclaim::In(3000));
    let place = Place::at(&stub.api);
    let program = place.exec(&[], STEADY);
    place.lines_of("began", 1).await;
    stub.api.down().await;
    let warned = |text: &'static str| {
        let program = &program;
        async move { eventually(text, async || program.stderr().contains(text).then_some(())).await }
    };
    warned("could not be renewed since").await;
    warned("can't be claimed for now").await;
    assert_eq!(place.lines("began").len(), 1);
    assert!(program.stderr().lines().count() <= 2, "{}", program.stderr());
    let asked = stub.claims().len();
    stub.api.up();
    // The same string again is no reason to start anew.
    eventually("a second claim", async || (stub.claims().len() >= asked + 2).then_some(())).await;
    assert_eq!(place.lines("began").len(), 1);
    stub.set(|script| script.turn = 1);
    assert_eq!(place.lines_of("began", 2).await[1], Stub::connection_string(1));
    program.send(Signal::INT);
    assert_eq!(program.code().await, 128 + 2);
}

#[tokio::test]
async fn a_refusal_ends_it_at_the_start_and_only_warns_later() {
    let stub = Stub::new(SOON);
    stub.set(|script| script.status = 403);
    let place = Place::at(&stub.api);
    let started = Instant::now();
    assert_eq!(place.exec(&[], "touch ran").code().await, 3);
    assert!(started.elapsed() < PATIENCE / 2 && !place.path("ran").exists());

    stub.set(|script| script.status = 200);
    let program = place.exec(&[], STEADY);
    place.lines_of("began", 1).await;
    stub.set(|script| script.status = 403);
    eventually("a warning", async || program.stderr().contains("the claim is refused").then_some(())).await;
    stub.set(|script| (script.status, script.turn) = (200, 1));
    place.lines_of("began", 2).await;
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 15);
}

#[tokio::test]
async fn a_service_that_is_down_at_the_start_is_waited_for_within_bounds() {
    let mut stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    stub.api.down().await;
    let program = place.exec(&["--wait", "500ms"], "touch ran");
    let output = program.output().await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("could not be claimed within 500ms") && !place.path("ran").exists(), "{stderr}");

    let program = place.exec(&[], "echo >> began");
    eventually("a warning", async || program.stderr().contains("can't be claimed for now").then_some(())).await;
    stub.api.up();
    assert_eq!(program.code().await, 0);
    assert_eq!(place.lines("began").len(), 1);

    stub.api.down().await;
    let program = place.exec(&[], "touch ran");
    eventually("a warning", async || program.stderr().contains("can't be claimed for now").then_some(())).await;
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 15);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_the_service_itself_restarts_the_command() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.policy.rotation_interval = Duration::from_secs(4);
    let api = Api::of(&world);
    let place = Place::at(&api);
    let program = place.exec(&["--expires", "1 day"], STEADY);
    let first = place.lines_of("began", 1).await;
    world.clock.advance(Duration::from_secs(4));
    world.service().rotate(false).await.unwrap();
    let both = place.lines_of("began", 2).await;
    assert_eq!(both[0], first[0]);
    assert_ne!(both[0], both[1]);
    assert!(world.logs_in(&both[0]).await && world.logs_in(&both[1]).await);
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 15);
}

#[tokio::test]
async fn claim_watch_prints_each_new_string_and_warns_of_outages() {
    let mut stub = Stub::new(SOON);
    let (plain, json) = (Place::at(&stub.api), Place::at(&stub.api));
    let programs = [
        plain.program(&["claim", "--watch", "taskcluster-a"]),
        json.program(&["claim", "--watch", "--json", "taskcluster-a"]),
    ];
    for place in [&plain, &json] {
        place.lines_of("stdout", 1).await;
    }
    stub.api.down().await;
    for program in &programs {
        let stderr = || program.stderr();
        eventually("a warning", async || stderr().contains("can't be claimed for now").then_some(())).await;
        assert!(!stderr().contains("canary"));
    }
    stub.set(|script| script.turn = 1);
    stub.api.up();
    assert_eq!(plain.lines_of("stdout", 2).await, [Stub::connection_string(0), Stub::connection_string(1)]);
    let line: Value = serde_json::from_str(&json.lines_of("stdout", 2).await[1]).unwrap();
    assert_eq!(line["connectionString"], Stub::connection_string(1));
    assert_eq!(line["namespace"], "taskcluster-a");
    assert!(Timestamp::parse(line["reclaimAt"].as_str().unwrap()).is_some());

    stub.set(|script| script.status = 403);
    let output = plain.program(&["claim", "--watch", "taskcluster-a"]).output().await;
    assert_eq!((output.status.code(), output.stdout), (Some(3), vec![]));
}

/// A function of the shell that works until it is told to end, takes some time for that, and says so.
const WORKER: &str = r#"
    work() { sh -c '
        trap "sleep 0.7; echo end >> log; exit 0" TERM
        echo "$$" >> pids; echo start >> log
        while :; do sleep 0.05; done'
    }
    "#;

/// The lines of the log must be a start and an end by turns, where one works at a time.
fn assert_one_at_a_time(log: &[String]) {
    let wanted = ["start", "end"].into_iter().cycle();
    assert!(log.iter().zip(wanted).all(|(line, wanted)| line == wanted), "{log:?}");
}

#[tokio::test]
async fn two_of_a_command_never_work_at_once_whatever_it_is_made_of() {
    for script in ["work | cat", "work & wait", "work & exec sleep 1000", "(work &) ; exec sleep 1000"] {
        let stub = Stub::new(SOON);
        let place = Place::at(&stub.api);
        let program = place.exec(&[], &format!("{WORKER} {script}"));
        for turn in 0..3 {
            stub.set(|script| script.turn = turn);
            place.lines_of("log", 2 * turn + 1).await;
        }
        program.send(Signal::TERM);
        assert_eq!(program.code().await, 128 + 15, "{script}");
        let log = place.lines("log");
        assert_one_at_a_time(&log);
        assert_eq!(log.len(), 6, "{script}: it ended before its worker did: {log:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_command_outlives_its_stop() {
    let stub = Stub::new(LATER);
    let nested = format!("{PROGRAM} exec taskcluster-b --stop-timeout 500ms -- sh -c");
    let ignoring = r#"sh -c 'trap "" TERM; echo $$ >> pids; while :; do sleep 0.05; done'"#;
    let obeying = "sh -c 'echo $$ >> pids; exec sleep 1000'";
    for (what, script, workers) in [
        ("one that ignores SIGTERM", format!("{ignoring} | cat"), 1),
        ("one beside its leader", format!("{ignoring} & wait"), 1),
        ("two of them", format!("{ignoring} & {ignoring} & wait"), 2),
        ("one without a parent", format!("({ignoring} &); exec sleep 1000"), 1),
        ("one that is stopped", "sh -c 'echo $$ >> pids; kill -STOP $$; exec sleep 1000' & wait".to_owned(), 1),
        ("one in a group of its own", format!("timeout 1000 {obeying} & exec sleep 1000"), 1),
        ("one that ignores SIGTERM in a group of its own", format!("timeout 1000 {ignoring} & exec sleep 1000"), 1),
        ("the command of another exec", format!("{nested} \"echo \\$\\$ >> pids; exec sleep 1000\" & wait"), 1),
        (
            "one that ignores SIGTERM under another exec",
            format!("{nested} \"trap '' TERM; echo \\$\\$ >> pids; while :; do sleep 0.05; done\""),
            1,
        ),
    ] {
        let place = Place::at(&stub.api);
        let arguments = ["exec", "taskcluster-a", "--stop-timeout", "500ms", "--pass", "TASKCLUSTER_ACCESS_TOKEN"];
        let program = place.program(&[&arguments[..], &["--", "sh", "-c", &script]].concat());
        let pids = place.lines_of("pids", workers).await;
        program.send(Signal::TERM);
        let began = Instant::now();
        program.code().await;
        assert!(began.elapsed() < PATIENCE / 3, "{what} took {:?}", began.elapsed());
        for pid in pids {
            // Who has lost its parent is reaped by somebody else now, in time.
            let left = state(pid_of(&pid)).filter(|state| *state != 'Z');
            assert_eq!(left, None, "{what} is left");
        }
    }
}

#[tokio::test]
async fn a_command_that_ends_by_itself_takes_with_it_what_it_left_running() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    let program = place.exec(&[], &format!("{WORKER} work & until [ -s log ]; do sleep 0.05; done; exit 7"));
    assert_eq!(program.code().await, 7);
    assert_eq!(place.lines("log"), ["start", "end"]);

    // What only has to write down the rest is left the time for it.
    let place = Place::at(&stub.api);
    assert_eq!(place.exec(&[], "(sleep 0.3; echo rest >> log) & exit 7").code().await, 7);
    assert_eq!(place.lines("log"), ["rest"]);
}

#[tokio::test]
async fn a_daemon_in_a_session_of_its_own_is_left_alone() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    let program = place.exec(&[], "setsid sh -c 'echo $$ > pids; exec sleep 1000' & exec sleep 1000");
    let daemon = pid_of(&place.lines_of("pids", 1).await[0]);
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 15);
    assert!(state(daemon).is_some_and(|state| state != 'Z'));
    kill_process(daemon, Signal::KILL).unwrap();
}

#[tokio::test]
async fn orphans_are_adopted_and_reaped() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    let orphan = "(setsid sh -c 'echo $$ >> pids; until [ -e go ]; do sleep 0.05; done' &)";
    let program = place.exec(&[], &format!("for i in 1 2 3 4 5; do {orphan}; done; exec sleep 1000"));
    place.lines_of("pids", 5).await;
    eventually("all of them to be ours", async || (program.children().len() == 6).then_some(())).await;
    fs::write(place.path("go"), "").unwrap();
    eventually("all of them to be gone", async || (program.children().len() == 1).then_some(())).await;
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 15);
}

#[tokio::test]
async fn being_told_again_to_end_gives_a_command_no_more_time() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    let program = place.exec(&["--stop-timeout", "1s"], r#"trap "" TERM; echo >> began; while :; do sleep 0.1; done"#);
    place.lines_of("began", 1).await;
    eventually("the end", async || {
        program.send(Signal::TERM);
        matches!(program.state(), None | Some('Z')).then_some(())
    })
    .await;
    assert_eq!(program.code().await, 128 + 9);
}

#[tokio::test]
async fn a_command_that_is_being_restarted_and_interrupted_is_not_started_anew() {
    let stub = Stub::new(SOON);
    let place = Place::at(&stub.api);
    let script = r#"trap 'echo told >> told' TERM; trap 'exit 6' INT; echo >> began; while :; do sleep 0.05; done"#;
    let program = place.exec(&[], script);
    place.lines_of("began", 1).await;
    stub.set(|script| script.turn = 1);
    place.lines_of("told", 1).await;
    program.send(Signal::INT);
    assert_eq!(program.code().await, 6);
    assert_eq!(place.lines("began").len(), 1);
}

/// What a shell does on Ctrl-Z, and on `fg`.
#[tokio::test]
async fn a_job_is_stopped_and_goes_on_together_with_its_command() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    let program = place.run(place.command(&["exec", "taskcluster-a", "--", "sh", "-c", STEADY]).process_group(0));
    place.lines_of("began", 1).await;
    let states = || [program.state(), program.children().first().map(|(_, state)| *state)];
    let all = |wanted: char| states().iter().all(|state| *state == Some(wanted));
    eventually("it to sleep", async || all('S').then_some(())).await;
    program.send(Signal::TSTP);
    eventually("both to be stopped", async || all('T').then_some(())).await;
    program.send(Signal::CONT);
    eventually("both to go on", async || all('S').then_some(())).await;
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 15);
}

#[tokio::test]
async fn what_nohup_keeps_from_hangups_stays_so() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    let program =
        place.run(&mut place.started_by("nohup", &[PROGRAM, "exec", "taskcluster-a", "--", "sh", "-c", STEADY]));
    place.lines_of("began", 1).await;
    program.send(Signal::HUP);
    program.send(Signal::TERM);
    assert_eq!(program.code().await, 128 + 15);
}

#[tokio::test]
async fn a_command_gets_the_parts_of_the_string_and_none_of_our_secrets() {
    let stub = Stub::new(LATER);
    let place = Place::at(&stub.api);
    let script = "env | sort";
    let arguments =
        |options: &'static [&str]| [&["exec", "taskcluster-a"], options, &["--", "sh", "-c", script]].concat();
    let ours = [
        ("TASKCLUSTER_CERTIFICATE", ""),
        ("RABBIT_PASSWORD", "ours"),
        ("RABBIT_FALLBACK_PASSWORD", ""),
        ("DB_CRYPTO_KEYS", ""),
        ("STATIC_CLIENTS", ""),
        ("NOTIFY_SMTP_URL", "smtps://me:ours@x"),
        ("DATABASE_URL", "sqlite:theirs"),
        ("PULSE_PASSWORD", "of another time"),
        ("OTHER", "theirs"),
    ];
    let output = place.run(place.command(&arguments(&[])).envs(ours)).output().await;
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(!stdout.contains(ACCESS_TOKEN) && !stdout.contains("ours"), "{stdout}");
    for name in ["TASKCLUSTER_ACCESS_TOKEN", "TASKCLUSTER_CERTIFICATE", "DB_CRYPTO_KEYS", "STATIC_CLIENTS"] {
        assert!(!stdout.contains(name), "{stdout}");
    }
    for line in [
        "PULSE_USERNAME=me",
        "PULSE_PASSWORD=canary-password-0",
        "PULSE_HOSTNAME=127.0.0.1",
        "PULSE_VHOST=/",
        "PULSE_AMQPS=false",
        "DATABASE_URL=sqlite:theirs",
        "OTHER=theirs",
    ] {
        assert!(stdout.lines().any(|found| found == line), "{line} is missing:\n{stdout}");
    }

    let output = place.program(&arguments(&["--pass", "TASKCLUSTER_ACCESS_TOKEN"])).output().await;
    let expected = format!("TASKCLUSTER_ACCESS_TOKEN={ACCESS_TOKEN}");
    assert!(String::from_utf8(output.stdout).unwrap().lines().any(|line| line == expected));
    let refused = place.program(&arguments(&["--pass", "OTHER"])).output().await;
    assert_eq!(refused.status.code(), Some(2));
}

/// A service behind a proxy that signs: it answers at the proxy's address, and tells what it was asked.
async fn behind_a_proxy(stub: &Stub) -> (Api, Arc<Mutex<Vec<(String, bool)>>>) {
    let (root, asked) = (stub.api.root(), Arc::new(Mutex::new(Vec::new())));
    let seen = asked.clone();
    let forward = async move |request: Request| {
        let signed = request.headers().contains_key(header::AUTHORIZATION);
        seen.lock().unwrap().push((request.uri().path().to_owned(), signed));
        let answer = reqwest::Client::new().post(root).body("{}").send().await.unwrap();
        ([(header::CONTENT_TYPE, "application/json")], answer.text().await.unwrap())
    };
    (Api::serving(Router::new().fallback(forward)), asked)
}

#[tokio::test]
async fn inside_a_task_the_proxy_is_called_without_a_signature() {
    taskcluster_pulse::tls::install_crypto_provider();
    let stub = Stub::new(LATER);
    let (proxy, asked) = behind_a_proxy(&stub).await;
    let place = Place::at(&stub.api);
    let in_a_task = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command
            .env("TASKCLUSTER_ROOT_URL", "https://tc.example.com")
            .env("TASKCLUSTER_PROXY_URL", proxy.root().as_str());
        command.env_remove("TASKCLUSTER_CLIENT_ID").env_remove("TASKCLUSTER_ACCESS_TOKEN");
        command
    };
    let output = place.run(&mut in_a_task(&["claim", "taskcluster-a"])).output().await;
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), Stub::connection_string(0), "{:?}", output.stderr);
    let exec = ["exec", "taskcluster-a", "--", "sh", "-c", r#"[ "$PULSE_USERNAME" = me ]"#];
    assert_eq!(place.run(&mut in_a_task(&exec)).code().await, 0);
    let path = "/api/pulse/v1/namespace/taskcluster-a".to_owned();
    assert_eq!(*asked.lock().unwrap(), [(path.clone(), false), (path, false)]);

    // Who has credentials signs with them, at the root URL.
    let mut own = place.command(&["claim", "taskcluster-a"]);
    assert_eq!(place.run(own.env("TASKCLUSTER_PROXY_URL", proxy.root().as_str())).code().await, 0);
    assert_eq!(asked.lock().unwrap().len(), 2);
    // Half of them is a mistake.
    let half = place.run(in_a_task(&["claim", "taskcluster-a"]).env("TASKCLUSTER_CLIENT_ID", CLIENT_ID)).output().await;
    let stderr = String::from_utf8(half.stderr).unwrap();
    assert!(half.status.code() == Some(2) && stderr.contains("TASKCLUSTER_ACCESS_TOKEN"), "{stderr}");
}
