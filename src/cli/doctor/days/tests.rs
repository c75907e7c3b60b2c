use super::super::Level;
use super::*;
use domain::dag::StepKind;
use domain::dag::fixtures::{dag, step};

fn at(day: &str) -> Timestamp {
    format!("{day}T09:00:00+09:00").parse().expect("an instant")
}

#[test]
fn the_shipped_folder_is_clean_and_its_calendar_ends_one_day() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../dags");
    let findings = dags(&shipped, at("2026-06-01"));
    let of = |check: &str| findings.iter().filter(|f| f.check == check).collect::<Vec<_>>();
    assert!(of("DAG files").iter().all(|f| f.level != Level::Fail), "{findings:?}");
    assert!(of("DAG files").iter().any(|f| f.message.contains("kis-trading-day")), "{findings:?}");
    assert_eq!(of("calendar")[0].level, Level::Ok);
    let late = dags(&shipped, at("2080-01-01"));
    assert!(
        late.iter().any(|f| f.check == "calendar" && f.level == Level::Fail && f.remedy.contains("krx.csv")),
        "{late:?}"
    );
}

#[test]
fn a_broken_file_is_shown_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("x.yaml"), "name: x\nshedule: {}\n").expect("written");
    let findings = dags(folder.path(), at("2026-06-01"));
    assert!(
        findings.iter().any(|f| f.level == Level::Fail && f.message.contains("x.yaml:2:1")),
        "{findings:?}"
    );
}

#[test]
fn missing_secrets_are_named_with_who_needs_them_and_never_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key");
    std::fs::write(&file, "very secret").expect("written");
    let mut collector = step("collector", StepKind::Service, &[]);
    collector.secrets.insert("a".into(), SecretRef::File(file.display().to_string()));
    collector.secrets.insert("b".into(), SecretRef::Env("OPENBELL_DOCTOR_SURELY_NOT_SET".into()));
    let dag = dag("day", vec![collector]);
    let findings = secrets(&[&dag]);
    assert_eq!(findings.iter().map(|f| f.level).collect::<Vec<_>>(), [Level::Fail, Level::Ok]);
    assert!(
        findings[0].message.contains("day/collector") && findings[0].remedy.contains("set it"),
        "{findings:?}"
    );
    assert!(!format!("{findings:?}").contains("very secret"));
}
