//! Stub: filled by its owner.

/// Runs the step.
pub async fn run(_context: crate::steps::Context) -> Result<serde_json::Value, crate::steps::StepError> {
    unimplemented!()
}
