use super::*;

#[test]
fn names_are_file_safe() {
    assert!("kis-trading-day".parse::<DagName>().is_ok());
    for bad in ["", "-a", "A", "a/b", "a b", "..", "é", &"a".repeat(64)] {
        assert!(bad.parse::<DagName>().is_err(), "{bad}");
    }
}

#[test]
fn run_ids_split() {
    let id: RunId = "kis-trading-day@2026-11-20+manual.1".parse().expect("valid");
    assert_eq!((id.dag(), id.key()), ("kis-trading-day", "2026-11-20+manual.1"));
    assert!("no-key".parse::<RunId>().is_err());
    assert!("dag@../x".parse::<RunId>().is_err());
    assert!(format!("dag@{}", "1".repeat(64)).parse::<RunId>().is_ok());
    assert!(format!("dag@{}", "1".repeat(65)).parse::<RunId>().is_err());
}
