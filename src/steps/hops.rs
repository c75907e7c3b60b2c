//! The hops that a check or a reconciliation looks at: those of its run, as its attempt was told them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Context, StepError, spool_tail};
use domain::freshness::Life;
use domain::hop::{Hop, narrowed};
use domain::ids::StepName;
use domain::parameters::Parameters;
use domain::program::{Parameter, Shape};

const INSTEAD: &str = "remove it; it follows from the steps of the DAG";

/// Narrows what is looked at to the hops of one collecting step.
pub(crate) const COLLECTOR: Parameter =
    Parameter::new("collector", Shape::Text, "only the hops of this collecting step").deprecated(INSTEAD);
/// Narrows it to the hops of one topic.
pub(crate) const TOPIC: Parameter =
    Parameter::new("topic", Shape::Text, "only the hops of this topic").deprecated(INSTEAD);
/// Narrows the raw hops to one collection.
pub(crate) const COLLECTION: Parameter =
    Parameter::new("collection", Shape::Text, "only this collection of the raw store").deprecated(INSTEAD);
/// Narrows the index hops to one index.
pub(crate) const INDEX: Parameter =
    Parameter::new("index", Shape::Text, "only the index with this name before the date").deprecated(INSTEAD);
/// Narrows the hops in objects to one beginning of keys.
pub(crate) const PREFIX: Parameter =
    Parameter::new("prefix", Shape::Text, "only objects whose keys begin with this").deprecated(INSTEAD);
/// The zone of object keys.
pub(crate) const TIMEZONE: Parameter =
    Parameter::new("timezone", Shape::Text, "zone of the date parts of object keys").deprecated(INSTEAD);

/// What a step looks at.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    /// In the order that data passes them.
    pub(crate) hops: Vec<Hop>,
    lives: BTreeMap<StepName, Life>,
}

impl Watched {
    /// The hops of the step's run, narrowed by its parameters.
    ///
    /// # Errors
    /// When the run has no hops, or a parameter names what it does not have.
    pub(crate) fn of(context: &Context, p: &Parameters<'_>) -> Result<Self, StepError> {
        let (all, lives) =
            context.spec.hops.iter().map(|(hop, life)| (hop.clone(), (hop.step.clone(), *life))).unzip();
        let hops: Vec<Hop> = narrowed(all, &context.spec.step.with)
            .map_err(|unmatched| p.wrong(unmatched.parameter, format!("{unmatched}; {INSTEAD}")))?;
        if hops.is_empty() {
            let why = "no step of this run collects data or stores it, so there is nothing to look at; add such a step, or remove this one";
            return Err(StepError::Failed(why.to_owned()));
        }
        Ok(Self { hops, lives })
    }

    /// How the step that fills a hop has lived; one of which nothing is known has lived as long as the run's
    /// window.
    pub(crate) fn life(&self, context: &Context, hop: &Hop) -> Life {
        let known = self.lives.get(&hop.step).copied();
        known.unwrap_or(Life { began: context.spec.window.open_at, before: None, up: None })
    }

    /// The spools, by their collecting steps.
    pub(crate) fn spools(&self, context: &Context) -> Vec<(&Hop, PathBuf)> {
        let folder =
            |hop: &Hop| spool_tail::folder(&context.data, context.spec.id.run.dag(), hop.step.as_str());
        self.hops.iter().filter(|hop| hop.is_spool()).map(|hop| (hop, folder(hop))).collect()
    }
}
