use super::*;

#[test]
fn a_wrong_configuration_is_a_finding() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.yaml");
    let (_, missing) = configuration(Some(&file));
    assert_eq!(missing.expect("a finding").level, Level::Fail);
    std::fs::write(&file, "lsten: 127.0.0.1:1\n").expect("written");
    let finding = configuration(Some(&file)).1.expect("a finding");
    assert!(finding.level == Level::Fail && finding.message.contains("lsten"), "{finding:?}");
    std::fs::write(&file, "listen: 127.0.0.1:1\n").expect("written");
    let (config, fine) = configuration(Some(&file));
    assert_eq!((config.listen.as_str(), fine.expect("a finding").level), ("127.0.0.1:1", Level::Ok));
    assert!(configuration(None).1.is_none());
}

#[tokio::test]
async fn every_part_is_looked_at() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.yaml");
    // Feeds on this machine where nobody listens, so that no test reaches out.
    let url =
        |scheme: &str| if scheme.starts_with("ws") { "ws://127.0.0.1:1/x" } else { "http://127.0.0.1:1" };
    let of = |feed: &&dyn feed::Feed| {
        let keys = feed
            .addresses()
            .iter()
            .map(|a| (a.key, url(a.default)))
            .collect::<std::collections::BTreeMap<_, _>>();
        (feed.name(), keys)
    };
    let feeds: std::collections::BTreeMap<_, _> = feed::FEEDS.iter().map(of).collect();
    std::fs::write(&file, serde_json::json!({ "feeds": feeds }).to_string()).expect("written");
    let arguments = Arguments {
        config: Some(file),
        data: folder.path().join("data").into(),
        dags: folder.path().join("none"),
        json: true,
    };
    let findings = examine(&arguments, &Clock::system()).await;
    for check in [
        "configuration",
        "daemon",
        "data folder",
        "free space",
        "log",
        "raw store",
        "index",
        "objects",
        "mail",
        "port",
        "DAG files",
        "clock",
        "kis rest",
        "kis websocket",
        "Docker",
    ] {
        assert!(findings.iter().any(|f| f.check == check), "{check} is missing in {findings:?}");
    }
    assert!(findings.iter().filter(|f| f.level == Level::Fail).all(|f| !f.remedy.is_empty()), "{findings:?}");
}

#[test]
fn the_report_is_printed_and_counts() {
    let findings = [Finding::ok("a", "fine"), Finding::fail("b", "broken\nhere", "mend it")];
    report(&findings, false).expect("printed");
    report(&findings, true).expect("printed");
    assert_eq!(findings.iter().map(|f| f.level).max(), Some(Level::Fail));
}
