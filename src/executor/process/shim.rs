//! The shim: a small process between the daemon and a step, so that the step's exit is known although the daemon died.
//!
//! It starts the program in a process group of its own, waits for its end, kills what the program left behind in the group, and writes
//! `exit.json`. It enforces the attempt's deadline, so a dead daemon cannot leave a step running. It says one line to whoever
//! started it: `started`, `failed`, `ended` or `busy`.

use std::io::{self, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::identity::{Identity, PidFile};
use super::{CLOCK_VARIABLE, signal_of};
use crate::clock::Clock;
use crate::domain::dag::{Program, SecretRef};
use crate::domain::run::Exit;
use crate::executor::AttemptSpec;
use crate::executor::folder::{ExitFile, Folder};

/// Runs the attempt whose folder this is to its end.
///
/// # Errors
/// When the folder cannot be read or written. How the program ended is in `exit.json`, not here.
pub fn run(folder: &Path) -> io::Result<()> {
    let folder = Folder::new(folder);
    // Held until this process ends: an attempt can never run twice side by side, whoever starts it.
    let lock = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(folder.file("lock"))?;
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        say("busy");
        return Ok(());
    }
    if folder.exit().is_some() {
        say("ended");
        return Ok(());
    }
    let spec = folder.spec()?;
    let clock = match std::env::var_os(CLOCK_VARIABLE) {
        Some(file) => Clock::follow(Path::new(&file))?,
        None => Clock::system(),
    };
    let own = i32::try_from(std::process::id()).ok().and_then(Identity::of);
    let own = own.ok_or_else(|| io::Error::other("/proc is not mounted; the process executor needs it"))?;
    let mut pids = PidFile { shim: own, child: None };
    folder.replace("pid", &pids, false)?;
    let mut child = match spawn(&spec, &folder) {
        Ok(child) => child,
        Err(reason) => {
            folder.set_exit(&ExitFile { exit: Exit::NotStarted(reason), finished_at: clock.now(), by_deadline: false })?;
            say("failed");
            return Ok(());
        }
    };
    let number = i32::try_from(child.id()).map_err(io::Error::other)?;
    pids.child = Identity::of(number);
    folder.replace("pid", &pids, false)?;
    say("started");

    let life = Arc::new(Life::default());
    if let Some(deadline) = spec.deadline {
        let (life, clock, spec) = (Arc::clone(&life), clock.clone(), spec.clone());
        std::thread::Builder::new()
            .name("deadline".into())
            .spawn(move || keep_deadline(&life, &clock, &spec, number, deadline))?;
    }
    let status = wait(&mut child, number, &life)?;
    let by_deadline = life.lock().by_deadline;
    let exit = match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Lost("the system did not say how it ended".into()),
    };
    folder.set_exit(&ExitFile { exit, finished_at: clock.now(), by_deadline })
}

/// Nobody may be listening any more; that is what the shim is for.
fn say(word: &str) {
    let mut out = io::stdout();
    if writeln!(out, "{word}").and_then(|()| out.flush()).is_err() {
        tracing::debug!("the daemon did not wait for the start");
    }
}

/// Starts the program, or says in words why not.
fn spawn(spec: &AttemptSpec, folder: &Folder) -> Result<Child, String> {
    let mut command = match &spec.step.program {
        Program::Uses(_) => {
            let own = std::env::current_exe().map_err(|e| format!("the openbell binary cannot be found: {e}"))?;
            let mut command = Command::new(own);
            command.arg("step").arg("--folder").arg(folder.path());
            command
        }
        Program::Command { argv, image: Some(_) } => {
            return Err(format!("\"{}\" needs a container; give the step the executor docker or swarm", argv.join(" ")));
        }
        Program::Command { argv, image: None } => {
            let (program, arguments) = argv.split_first().ok_or("the command is empty")?;
            let mut command = Command::new(program);
            command.args(arguments).envs(&spec.step.env);
            for (name, reference) in &spec.step.secrets {
                command.env(name, resolve(name, reference)?);
            }
            command
        }
    };
    let id = &spec.id;
    command
        .env("OPENBELL_RUN", id.run.as_str())
        .env("OPENBELL_STEP", id.step.as_str())
        .env("OPENBELL_ATTEMPT", id.attempt.to_string())
        .env("OPENBELL_SESSION_DATE", spec.session_date.to_string())
        .env("OPENBELL_FOLDER", folder.path());
    let output = folder.output().map_err(|e| format!("{}: {e}", folder.file("output.log").display()))?;
    let errors = output.try_clone().map_err(|e| e.to_string())?;
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    command.spawn().map_err(|error| {
        let program = command.get_program().to_string_lossy().into_owned();
        match error.kind() {
            io::ErrorKind::NotFound => {
                format!("program \"{program}\" was not found; give its full path, or add its folder to PATH")
            }
            io::ErrorKind::PermissionDenied => {
                format!("program \"{program}\" may not be run: {error}; check that it is executable")
            }
            _ => format!("program \"{program}\": {error}"),
        }
    })
}

fn resolve(name: &str, reference: &SecretRef) -> Result<String, String> {
    match reference {
        SecretRef::Env(variable) => std::env::var(variable)
            .map_err(|_| format!("secret \"{name}\" ({reference}) is not set; set {variable} in the daemon's environment")),
        SecretRef::File(path) => std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
            .map_err(|e| format!("secret \"{name}\" ({reference}) cannot be read: {e}")),
    }
}

/// Whether the program still lives, as far as signalling it is concerned.
#[derive(Default)]
struct Life {
    state: Mutex<Ended>,
    changed: Condvar,
}

#[derive(Default)]
struct Ended {
    ended: bool,
    by_deadline: bool,
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, Ended> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for the program's end. While its number is still its own (a zombie holds it), whatever it left in its group is killed.
fn wait(child: &mut Child, number: i32, life: &Life) -> io::Result<ExitStatus> {
    let pid = Pid::from_raw(number).ok_or_else(|| io::Error::other("a process has the number 0"))?;
    loop {
        match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let mut state = life.lock();
    state.ended = true;
    life.changed.notify_all();
    signal_group(pid, Signal::KILL);
    child.wait()
}

fn signal_group(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process_group(pid, signal)
        && error != rustix::io::Errno::SRCH
    {
        tracing::warn!(%error, "the step's process group cannot be signalled");
    }
}

/// Asks at the deadline, kills after the grace.
fn keep_deadline(life: &Life, clock: &Clock, spec: &AttemptSpec, number: i32, deadline: Timestamp) {
    let Some(pid) = Pid::from_raw(number) else { return };
    let kill_at = deadline.checked_add(spec.step.stop.grace).unwrap_or(Timestamp::MAX);
    for (at, signal) in [(deadline, signal_of(spec.step.stop.signal)), (kill_at, Signal::KILL)] {
        let Some(mut state) = life_until(life, clock, at) else { return };
        state.by_deadline = true;
        signal_group(pid, signal);
    }
}

/// Waits until `at`; `None` when the program ended first. The lock that comes back keeps the program's number its own.
fn life_until<'l>(life: &'l Life, clock: &Clock, at: Timestamp) -> Option<MutexGuard<'l, Ended>> {
    let mut state = life.lock();
    loop {
        if state.ended {
            return None;
        }
        let left = at.duration_since(clock.now());
        if left <= SignedDuration::ZERO {
            return Some(state);
        }
        let real = left.unsigned_abs().div_f64(clock.speed().max(1e-9));
        // Clocks are set and virtual ones change their speed: looked at again now and then.
        let most = if clock.is_system() { Duration::from_secs(20) } else { Duration::from_millis(100) };
        state = life.changed.wait_timeout(state, real.min(most)).unwrap_or_else(PoisonError::into_inner).0;
    }
}
