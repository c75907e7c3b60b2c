//! Gives commands in containers their [keepers](crate::keeper).

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::AttemptSpec;
use crate::folder::{self, KEEPER_LOCK, KEEPER_LOG};
use clock::Clock;
use domain::dag::Program;

/// Starts keepers.
#[derive(Debug, Clone)]
pub(crate) struct Keepers {
    /// The program whose `keep` is a keeper.
    pub(crate) binary: PathBuf,
    /// Address of the engine.
    pub(crate) host: String,
    pub(crate) clock: Clock,
}

impl Keepers {
    /// Sees to it that the attempt in `folder` has a living keeper, if it needs one.
    pub(crate) async fn ensure(&self, folder: &Path) {
        // Of a clock that no other process can read it would know nothing.
        if !self.clock.is_system() && self.clock.file().is_none() {
            return;
        }
        let (keepers, place) = (self.clone(), folder.to_owned());
        let started = tokio::task::spawn_blocking(move || keepers.start(&place))
            .await
            .map_err(io::Error::other)
            .flatten();
        if let Err(error) = started {
            let folder = folder.display();
            tracing::warn!(%folder, %error, "an attempt has no keeper; its deadline is held only while this daemon lives");
        }
    }

    fn start(&self, folder: &Path) -> io::Result<()> {
        if folder.join(folder::EXIT).exists() || !folder::read_spec(folder).is_ok_and(|spec| needs_one(&spec))
        {
            return Ok(());
        }
        let lock = File::options().create(true).truncate(false).write(true).open(folder.join(KEEPER_LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let log = File::options().create(true).append(true).open(folder.join(KEEPER_LOG))?;
        let mut command = Command::new(&self.binary);
        command.arg0("openbell").arg("keep").arg("--folder").arg(folder).arg("--host").arg(&self.host);
        command.env_remove("OPENBELL_CLOCK");
        if let Some(file) = self.clock.file() {
            command.arg("--clock").arg(file);
        }
        // The lock travels as standard input: held without a gap, and let go by the kernel when the keeper
        // ends.
        command.stdin(Stdio::from(lock)).stdout(Stdio::null()).stderr(log).process_group(0);
        // The runtime takes its status when it ends.
        command.spawn().map(drop)
    }
}

/// Built-in programs end themselves.
fn needs_one(spec: &AttemptSpec) -> bool {
    spec.deadline.is_some() && matches!(spec.step.program, Program::Command { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use domain::dag::{Step, StepKind, fixtures};
    use jiff::Timestamp;

    fn spec(program: Program, deadline: Option<Timestamp>) -> AttemptSpec {
        let step = Step { program, ..fixtures::step("load", StepKind::Task, &[]) };
        AttemptSpec { deadline, ..testing::attempt(step, 1) }
    }

    #[test]
    fn commands_with_a_deadline_are_given_a_keeper_and_nobody_else() {
        let command = || Program::Command { argv: vec!["true".into()], image: Some("x:1".into()) };
        let keepers = Keepers {
            binary: "/nonexistent".into(),
            host: "unix:///nonexistent".into(),
            clock: Clock::system(),
        };
        let start = |program, deadline, ended: bool| {
            let dir = tempfile::tempdir().expect("a folder");
            folder::write(
                &dir.path().join(folder::SPEC),
                &spec(program, deadline),
                folder::Durability::Volatile,
            )
            .expect("written");
            if ended {
                std::fs::write(dir.path().join(folder::EXIT), "{}").expect("written");
            }
            let started = keepers.start(dir.path());
            (started.is_err(), dir.path().join(KEEPER_LOCK).exists())
        };
        let deadline = || "2026-11-20T16:00:00+09:00".parse().expect("a time");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _inside = runtime.enter();
        assert_eq!(
            start(command(), Some(deadline()), false),
            (true, true),
            "this one is tried; there is no such binary"
        );
        assert_eq!(start(command(), None, false), (false, false));
        assert_eq!(
            start(Program::Uses("sink/index".into()), Some(deadline()), false),
            (false, false),
            "it ends itself"
        );
        assert_eq!(start(command(), Some(deadline()), true), (false, false), "it has ended");
    }
}
