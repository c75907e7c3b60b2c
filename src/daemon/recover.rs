//! At start: what the journal believes and what is alive are brought together before the first decision.

use super::action_runner::Call;
use super::dispatcher::Dispatcher;
use super::journal::JournalError;
use domain::dag::Step;
use domain::event::Action;
use domain::ids::AttemptId;
use engine::recovery::{self, Decision, FoundAttempt};

/// Carries out the recovery table (see `engine::recovery`).
///
/// # Errors
/// When the journal cannot be written.
pub async fn recover(daemon: &mut Dispatcher) -> Result<(), JournalError> {
    let mut found = Vec::new();
    for executor in daemon.executors.iter() {
        found.extend(executor.find().await);
    }
    let now = daemon.clock.now();
    let seen: Vec<_> =
        found.iter().map(|f| FoundAttempt { attempt: f.attempt.clone(), ended: f.ended.clone() }).collect();
    let runs: Vec<_> = daemon.state.runs.values().cloned().collect();
    for decision in recovery::recover(&runs, &seen, now) {
        match decision {
            Decision::Adopt(attempt) => {
                tracing::info!(%attempt, "adopted");
                if let Some(step) = step_of(daemon, &attempt) {
                    daemon.send(Call::Adopt(step, attempt));
                }
            }
            Decision::Feed { run, event } => {
                let effects = daemon.state.event(&run, event, now).await?;
                daemon.act(effects);
            }
            Decision::Start { attempt, deadline } => {
                let effect = super::daemon_state::Effect {
                    run: attempt.run.clone(),
                    action: Action::Start { attempt, deadline },
                };
                daemon.act(vec![effect]);
            }
            Decision::Stop { attempt, signal, kill_after, orphan } => {
                if orphan {
                    let notice = format!("{attempt} was alive although no run wants it; it is stopped");
                    tracing::warn!("{notice}");
                    daemon.notices.push(notice);
                }
                daemon.stop_found(attempt, signal, kill_after).await;
            }
            Decision::Forget(attempt) => daemon.forget_found(&attempt).await,
        }
    }
    for found in found {
        if found.ended.is_none() {
            let AttemptId { run, step, attempt } = found.attempt;
            for event in daemon.state.status(&run, &step, attempt, found.status) {
                let effects = daemon.state.event(&run, event, now).await?;
                daemon.act(effects);
            }
        }
    }
    let effects = daemon.state.tick(now).await?;
    daemon.act(effects);
    Ok(())
}

fn step_of(daemon: &Dispatcher, attempt: &AttemptId) -> Option<Step> {
    daemon.state.runs.get(&attempt.run).and_then(|run| run.dag.step(&attempt.step)).cloned()
}
