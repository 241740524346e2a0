//! Running a process to its end, and watching what it takes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::report::Report;

/// What a process took.
pub struct Run {
    /// From its start to its end.
    pub seconds: f64,
    /// How much of that it computed, in seconds of one processor. This hardly depends on what else the machine does.
    pub cpu: f64,
    /// The most memory that it had at once, as the kernel counts it (`VmHWM`), in MiB.
    pub peak: f64,
    /// What it wrote to its standard output; to be less than a pipe holds.
    pub output: String,
}

/// The longest that any process here may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How often a process is looked at. The kernel keeps the highest mark, so only what rises in the last moment is missed.
const PAUSE: Duration = Duration::from_millis(1);

/// Runs `command`, whose success is required.
pub fn run(mut command: Command) -> Result<Run> {
    let started = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut peak = 0.0;
    // A process that has ended shows its time for as long as nobody has waited for it, but no memory.
    let cpu = loop {
        peak = peak_of(child.id()).unwrap_or(peak);
        let (state, cpu) = cpu_of(child.id())?;
        if state == "Z" {
            break cpu;
        }
        if started.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            bail!("{command:?} took longer than {LIMIT:?}");
        }
        std::thread::sleep(PAUSE);
    };
    let seconds = started.elapsed().as_secs_f64();
    let status = child.wait()?;
    let output = std::io::read_to_string(child.stdout.take().context("a standard output")?)?;
    if !status.success() {
        bail!("{command:?} failed ({status}): {output}");
    }
    Ok(Run { seconds, cpu, peak, output })
}

/// Makes raw calls in a process of their own; `arguments` are those of `raw`.
pub fn raw_calls(arguments: &[&str]) -> Result<Run> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("raw").args(arguments);
    run(command)
}

/// The most memory that the process had at once so far, in MiB.
pub fn peak_of(process: u32) -> Option<f64> {
    mebibytes(process, "VmHWM:")
}

/// The memory that the process has now, in MiB.
pub fn memory_of(process: u32) -> Option<f64> {
    mebibytes(process, "VmRSS:")
}

fn mebibytes(process: u32, what: &str) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The state of a process, `Z` once it has ended, and the processor time that it took so far, in seconds.
pub fn cpu_of(process: u32) -> Result<(String, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second field is its name, in parentheses; the 3rd is the state, the 14th and 15th are hundredths of a second.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied().context("a shorter /proc/<pid>/stat than Linux has");
    let (user, system): (f64, f64) = (field(14)?.parse()?, field(15)?.parse()?);
    Ok((field(3)?.to_owned(), (user + system) / 100.0))
}

/// The samples of many runs of one thing.
#[derive(Default)]
pub struct Samples {
    seconds: Vec<f64>,
    cpu: Vec<f64>,
    peaks: Vec<f64>,
}

impl Samples {
    /// Adds a run.
    pub fn add(&mut self, run: &Run) {
        self.seconds.push(run.seconds);
        self.cpu.push(run.cpu);
        self.peaks.push(run.peak);
    }
    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.seconds.is_empty()
    }

    /// Reports these of ours next to raw ones.
    pub fn report(&self, report: &mut Report, what: &str, counterpart: &'static str, raw: &Samples) {
        report.add(what.to_owned(), "s", &self.seconds, counterpart, &raw.seconds);
        report.add(what.to_owned(), "s computing", &self.cpu, counterpart, &raw.cpu);
        report.add(what.to_owned(), "MiB peak", &self.peaks, counterpart, &raw.peaks);
    }
}
