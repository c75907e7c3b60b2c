//! The shim: the parent of one program. It must do its few things even when the daemon is dead and nobody
//! looks: start the program, say who runs, hold the deadline, write down the end.
//!
//! It is plain blocking code without a runtime: it sleeps in one poll(2) on the program's pidfd, and does not
//! need to be started in more than a few milliseconds. Signals that end other processes do not end it: it
//! leads its own process group, so Ctrl-C at a terminal does not reach it, and SIGTERM, SIGINT, SIGQUIT and
//! SIGHUP sent to it (a service manager that ends all processes of a unit) are caught and ignored, because it
//! is then the one that can still record how the program ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::signal::unix::{SignalKind, signal};

use super::identity::{FOLDER_VARIABLE, Identity, Pids, boot, signal_of};
use crate::deadline::{is_due, pause};
use crate::folder::{self, Durability, ExitRecord, Output};
use crate::{AttemptSpec, secrets};
use clock::Clock;
use domain::dag::Program;
use domain::run::Exit;

/// This program, also after its file was replaced by a newer version: the kernel keeps the running one.
pub(crate) const SELF: &str = "/proc/self/exe";

/// What the shim says on its standard output once the `pid` file is there.
pub(super) const STARTED: &str = "started\n";

/// Shortest and longest real time between reads of the clock: one that is set, or changes its speed, is
/// noticed.
const PAUSES: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(500)];

/// Runs the attempt in `folder` to its end. `clock_file` is the virtual clock of a demo.
///
/// # Errors
/// When the folder already holds an attempt that was started, or cannot be written.
pub fn run(folder: &Path, clock_file: Option<&Path>) -> io::Result<()> {
    if [folder::PID, folder::EXIT].iter().any(|name| folder.join(name).exists()) {
        let text = format!("the attempt in {} was started before; attempts run once", folder.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    ignore_signals()?;
    let (clock, exit) = match clock_file.map_or_else(|| Ok(Clock::system()), Clock::follow) {
        Ok(clock) => {
            let exit = attempt(folder, &clock).unwrap_or_else(Exit::NotStarted);
            (clock, exit)
        }
        Err(error) => {
            (Clock::system(), Exit::NotStarted(format!("the clock of the day cannot be read: {error}")))
        }
    };
    record(folder, &ExitRecord { exit, finished_at: clock.now() })
}

/// Replaces the default action of the signals that end a process. They are set back to it in the program that
/// is started.
pub(crate) fn ignore_signals() -> io::Result<()> {
    // The handlers stay for the life of the process (tokio documents that); their runtime is not needed.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _inside = runtime.enter();
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::hangup()] {
        drop(signal(kind)?);
    }
    Ok(())
}

/// Starts the program and waits for its end; the error is why it did not start.
fn attempt(folder: &Path, clock: &Clock) -> Result<Exit, String> {
    let spec =
        folder::read_spec(folder).map_err(|error| format!("its specification cannot be read: {error}"))?;
    let text = |error: io::Error| {
        format!("{} cannot be written: {error}; check the disk's free space", folder.display())
    };
    let log = OpenOptions::new().create(true).append(true).open(folder.join(folder::OUTPUT)).map_err(text)?;
    let output = Output::open(folder, clock.clone()).map_err(text)?;
    let mut child =
        start(&spec, folder, &log).inspect_err(|why| output.line(&format!("could not be started: {why}")))?;
    drop(log);
    let identity = match announce(folder, &child) {
        Ok(identity) => identity,
        Err(error) => {
            // Nobody could stop a program that nobody knows.
            child.kill().and_then(|()| child.wait()).map_err(text)?;
            return Err(text(error));
        }
    };
    if let Err(error) = wait(&child, &identity, &spec, clock, &output) {
        output.line(&format!("the attempt cannot be watched, its deadline is not held: {error}"));
        return Ok(child.wait().map_or_else(|error| Exit::Lost(error.to_string()), exit_of));
    }
    // What the program left behind in its group ends now, before its status is taken: until then the number
    // of the group cannot come to mean another.
    identity.signal_group(Signal::KILL);
    Ok(child.wait().map_or_else(|error| Exit::Lost(error.to_string()), exit_of))
}

fn start(spec: &AttemptSpec, folder: &Path, log: &File) -> Result<Child, String> {
    let mut command = match &spec.step.program {
        Program::Uses(_) => {
            let mut command = Command::new(SELF);
            command.arg0("openbell").arg("step").arg("--folder").arg(folder);
            command
        }
        Program::Command { argv, .. } => {
            let (program, arguments) = argv.split_first().ok_or("the command is empty; name a program")?;
            let mut command = Command::new(program);
            command.args(arguments);
            command
        }
    };
    // What a command needs to know of its attempt, for example to write `result.json` into its folder.
    command.env("OPENBELL_RUN", spec.id.run.as_str());
    command.env("OPENBELL_STEP", spec.id.step.as_str());
    command.env("OPENBELL_ATTEMPT", spec.id.attempt.to_string());
    command.env("OPENBELL_SESSION_DATE", spec.session_date.to_string());
    command.envs(&spec.step.env);
    // The shim has the daemon's environment, so it finds what `env:` means there.
    command.envs(secrets::of_command(&spec.step, config::resolve)?);
    // Last: it also marks the processes of the attempt.
    command.env(FOLDER_VARIABLE, &spec.folder);
    command.stdin(Stdio::null()).process_group(0);
    let streams = log.try_clone().and_then(|out| Ok((out, log.try_clone()?)));
    let (out, err) = streams.map_err(|error| format!("its output cannot be opened: {error}"))?;
    command.stdout(out).stderr(err);
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("\"{name}\" not found; install it or give its full path"),
        io::ErrorKind::PermissionDenied => {
            format!("\"{name}\" may not be executed; make it executable (chmod +x)")
        }
        _ => format!("\"{name}\" cannot be executed: {error}"),
    })
}

/// Writes down who runs, and tells the daemon if it still listens.
fn announce(folder: &Path, child: &Child) -> io::Result<Identity> {
    let identity = Identity::of(child.id())?;
    let pids = Pids { boot: boot(), shim: Identity::of(std::process::id())?, child: Some(identity) };
    folder::write(&folder.join(folder::PID), &pids, Durability::Volatile)?;
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(STARTED.as_bytes()).and_then(|()| out.flush()) {
        // The daemon that started this shim is gone; the next one reads the file.
        eprintln!("nobody listens: {error}");
    }
    Ok(identity)
}

/// What the deadline asks for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alarm {
    /// Ask the program to stop at this time.
    Stop(Timestamp),
    /// Kill it at this time.
    Kill(Timestamp),
    Never,
}

/// Waits until the program has ended, and sees to it that it does when its deadline has passed.
fn wait(
    child: &Child,
    program: &Identity,
    spec: &AttemptSpec,
    clock: &Clock,
    output: &Output,
) -> io::Result<()> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut alarm = spec.deadline.map_or(Alarm::Never, Alarm::Stop);
    loop {
        let now = clock.now();
        match alarm {
            Alarm::Stop(at) if is_due(at, now) => {
                let signal = spec.step.stop.signal;
                output.line(&format!("the attempt's deadline {at} has passed: sent {}", signal.name()));
                program.signal_group(signal_of(signal));
                // Nobody has told it otherwise, so it takes the time of an orderly stop.
                alarm = Alarm::Kill(now.checked_add(spec.step.stop_time()).unwrap_or(Timestamp::MAX));
                continue;
            }
            Alarm::Kill(at) if is_due(at, now) => {
                output.line("it did not stop in time: sent SIGKILL");
                program.signal_group(Signal::KILL);
                alarm = Alarm::Never;
                continue;
            }
            _ => {}
        }
        let timeout = match alarm {
            Alarm::Stop(at) | Alarm::Kill(at) => {
                Some(timespec(pause(at.duration_since(now), clock.speed(), PAUSES)))
            }
            Alarm::Never => None,
        };
        match poll(&mut [PollFd::new(&pidfd.as_fd(), PollFlags::IN)], timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // Half a second at most, so that both numbers fit.
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) as _ }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Lost(format!("the system reports neither code nor signal ({status})")),
    }
}

/// Writes down the end. A full disk may have room again soon, and the exit code is worth some patience.
fn record(folder: &Path, record: &ExitRecord) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match folder::write(&folder.join(folder::EXIT), record, Durability::Synced) {
            Err(error) if tries < 60 && folder.is_dir() => {
                eprintln!("cannot record {}: {error}", record.exit);
                tries += 1;
                std::thread::sleep(Duration::from_secs(1));
            }
            done => return done,
        }
    }
}
