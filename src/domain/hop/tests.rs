use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::dag::{Program as Runs, StepKind, fixtures};
use crate::program::testing::PROGRAMS;

fn step(name: &str, program: &str, with: Value) -> Step {
    let mut step = fixtures::step(name, StepKind::Service, &[]);
    step.program = Runs::Uses(program.to_owned());
    step.with = with.as_object().cloned().expect("parameters are a table");
    step
}

fn hops(steps: &[(&str, &str, Value)]) -> Vec<Hop> {
    let steps = steps.iter().map(|(name, program, with)| step(name, program, with.clone())).collect();
    of(&fixtures::dag("day", steps), PROGRAMS)
}

fn names(hops: &[Hop]) -> Vec<&str> {
    hops.iter().map(|h| h.name.as_str()).collect()
}

#[test]
fn the_shipped_day_has_five_hops_whatever_its_steps_are_called() {
    for [collector, index, objects, vwap] in [
        ["collector", "sink-index", "sink-objects", "vwap"],
        ["krx", "archive", "search", "vwap-index"],
        ["index", "raw", "spool", "objects"],
    ] {
        let found = hops(&[
            (collector, "collect/kis", json!({})),
            (index, "sink/index", json!({})),
            (objects, "sink/objects", json!({})),
            (vwap, "vwap", json!({})),
            ("freshness", "freshness", json!({})),
        ]);
        assert_eq!(names(&found), ["spool", "log", "raw", "index", "objects"]);
        assert_eq!(
            found.iter().map(Hop::checked_as).collect::<Vec<_>>(),
            ["feed", "log", "raw", "index", "objects"]
        );
        assert_eq!(
            found.iter().map(|h| h.place.as_str()).collect::<Vec<_>>(),
            ["", "kis.trades", "kis.trades", "kis-trades", "kis.trades"]
        );
        let groups: Vec<_> = found.iter().map(|h| h.group.clone()).collect();
        assert_eq!(groups, [None, None, None, Some(format!("day.{index}")), Some(format!("day.{objects}"))]);
        assert_eq!((&found[0].feed, &found[3].feed), (&Some("kis".to_owned()), &None));
    }
}

#[test]
fn none_and_several_of_a_kind() {
    let collector = ("collector", "collect/kis", json!({}));
    assert_eq!(names(&hops(std::slice::from_ref(&collector))), ["spool", "log", "raw"]);
    let found = hops(&[
        collector,
        ("search", "sink/index", json!({"group": "g", "index": "days"})),
        ("objects", "sink/index", json!({"index": "years"})),
        ("archive", "sink/objects", json!({"prefix": "/trades/", "timezone": "UTC"})),
        ("second", "sink/raw", json!({"collection": "copies"})),
    ]);
    assert_eq!(
        names(&found),
        ["spool", "log", "raw", "search", "objects.index", "objects", "second"],
        "a step may be called as a store is"
    );
    let at = |name: &str| found.iter().find(|h| h.name == name).expect("a hop");
    assert_eq!((at("search").group.as_deref(), at("search").place.as_str()), (Some("g"), "days"));
    assert_eq!((at("objects").place.as_str(), at("objects").timezone.as_deref()), ("trades", Some("UTC")));
    assert_eq!((at("second").place.as_str(), at("raw").place.as_str()), ("copies", "kis.trades"));
}

#[test]
fn a_sink_is_fed_by_whoever_writes_its_topic() {
    let found = hops(&[
        ("a", "collect/kis", json!({"topic": "one"})),
        ("b", "collect/kis", json!({"topic": "two"})),
        ("c", "collect/kis", json!({"topic": "two"})),
        ("x", "sink/index", json!({"topic": "two"})),
        ("y", "sink/objects", json!({"topic": "three"})),
    ]);
    assert_eq!(
        names(&found),
        [
            "a.spool", "a.log", "a.raw", "b.spool", "b.log", "b.raw", "c.spool", "c.log", "c.raw", "index",
            "objects"
        ]
    );
    assert_eq!(found[3].checked_as(), "b.feed");
    let fed = |at: usize| {
        spools_of(&found, &found[at]).into_iter().map(|s| found[s].name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (fed(0), fed(4), fed(9), fed(10)),
        (vec!["a.spool".into()], vec!["b.spool".into()], vec!["b.spool".into(), "c.spool".into()], vec![])
    );
}

#[test]
fn what_a_run_leaves_out_is_no_hop_of_it() {
    let mut b = step("b", "sink/index", json!({}));
    b.when = Some(crate::dag::Condition { param: "full".into(), equals: "yes".into() });
    let mut c = step("c", "sink/objects", json!({}));
    c.needs = vec![crate::dag::Need { step: b.name.clone(), until: crate::dag::Until::Ready }];
    let steps = vec![step("collector", "collect/kis", json!({})), step("a", "sink/index", json!({})), b, c];
    let dag = fixtures::dag("day", steps);
    let at = jiff::Timestamp::UNIX_EPOCH;
    let mut skipped = crate::run::StepRun::new(at);
    skipped.state = StepState::Skipped;
    let mut run = Run {
        id: crate::ids::RunId::new(&dag.name, "1970-01-01"),
        dag,
        cause: crate::run::Cause::Manual,
        session_date: jiff::civil::date(1970, 1, 1),
        window: crate::schedule::Window { open_at: at, close_at: None },
        params: std::collections::BTreeMap::new(),
        created_at: at,
        state: crate::run::RunState::Running,
        // What the close came before is skipped as well, and is a hop all the same.
        steps: ["a", "b", "c"].map(|name| (name.parse().expect("a name"), skipped.clone())).into(),
        cancelled_by: None,
        finished_at: None,
    };
    assert_eq!(names(&of_run(&run, PROGRAMS)), ["spool", "log", "raw", "index"]);
    run.params.insert("full".into(), "yes".into());
    assert_eq!(names(&of_run(&run, PROGRAMS)), ["spool", "log", "raw", "a", "b", "objects"]);
    assert_eq!(names(&of(&run.dag, PROGRAMS)), ["spool", "log", "raw", "a", "b", "objects"]);
}

#[test]
fn overrides_narrow_the_list() {
    let all = hops(&[
        ("a", "collect/kis", json!({"topic": "one"})),
        ("b", "collect/kis", json!({"topic": "two"})),
        ("x", "sink/index", json!({"topic": "two", "index": "days"})),
        ("y", "sink/index", json!({"topic": "two", "index": "years"})),
    ]);
    let narrow = |with: Value| narrowed(all.clone(), with.as_object().expect("a table"));
    let left =
        |with: Value| narrow(with).expect("matched").iter().map(|h| h.name.clone()).collect::<Vec<_>>();
    assert_eq!(left(json!({})).len(), all.len());
    assert_eq!(left(json!({"collector": "a"})), ["a.spool", "a.log", "a.raw"]);
    assert_eq!(left(json!({"topic": "two", "index": "years"})), ["b.spool", "b.log", "b.raw", "y"]);
    assert_eq!(
        left(json!({"topic": "two", "prefix": "/elsewhere/"})),
        ["b.spool", "b.log", "b.raw", "x", "y", "objects"]
    );
    let added = narrow(json!({"collector": "a", "prefix": "/elsewhere/", "timezone": "UTC"}))
        .expect("matched")
        .pop()
        .expect("a hop");
    assert_eq!(
        (added.place.as_str(), added.group, added.timezone.as_deref()),
        ("elsewhere", None, Some("UTC"))
    );
    let refused = narrow(json!({"collector": "c"})).expect_err("there is none");
    assert_eq!(
        (refused.parameter, refused.to_string().as_str()),
        ("collector", "no collecting step of this run has it; there are a, b")
    );
    let nothing =
        narrowed(Vec::new(), json!({"topic": "t"}).as_object().expect("a table")).expect_err("there is none");
    assert!(nothing.to_string().ends_with("there is none"), "{nothing}");
}

#[test]
fn results_are_listed_in_the_order_of_the_way() {
    let names = ["objects", "raw", "log", "archive", "index", "spool"];
    assert_eq!(in_order(names), ["spool", "log", "raw", "index", "objects", "archive"]);
    let names = ["b.raw", "index", "a.log", "b.spool", "a.spool", "a.raw", "b.log"];
    assert_eq!(in_order(names), ["a.spool", "a.log", "a.raw", "b.spool", "b.log", "b.raw", "index"]);
}

#[test]
fn a_hop_is_read_back_as_it_was_written() {
    for hop in hops(&[("a", "collect/kis", json!({})), ("b", "sink/objects", json!({"timezone": "UTC"}))]) {
        let text = serde_json::to_string(&hop).expect("JSON");
        assert_eq!(serde_json::from_str::<Hop>(&text).expect("reads back"), hop);
    }
    assert!(serde_json::from_str::<Kind>("\"tables\"").is_err());
}

proptest! {
    /// Whatever steps are called, each is a hop where it should be, under a name of its own.
    #[test]
    fn every_hop_has_a_name_of_its_own(
        steps in prop::collection::btree_map("(spool|log|raw|index|objects|feed|[a-c])(\\.(spool|log|raw|index|feed))?", 0..PROGRAMS.len(), 0..12)
    ) {
        let all: Vec<Step> = steps.iter().map(|(name, at)| step(name, PROGRAMS[*at].name, json!({}))).collect();
        let found = of(&fixtures::dag("day", all.clone()), PROGRAMS);
        let named: BTreeSet<&str> = names(&found).into_iter().collect();
        let checked: BTreeSet<String> = found.iter().map(Hop::checked_as).collect();
        prop_assert_eq!((named.len(), checked.len()), (found.len(), found.len()), "{:?}", names(&found));
        for step in &all {
            let expected = match program::of(PROGRAMS, step).expect("a program").role {
                Role::Source(_) => 3,
                Role::Hop(_) => 1,
                _ => 0,
            };
            prop_assert_eq!(found.iter().filter(|h| h.step == step.name).count(), expected);
        }
        prop_assert_eq!(in_order(names(&found)).len(), found.len());
    }
}
