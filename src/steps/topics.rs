//! Stub: filled by its owner.

/// Runs the step.
pub async fn run(_context: super::Context) -> Result<serde_json::Value, super::StepError> {
    unimplemented!()
}
