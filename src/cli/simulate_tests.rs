use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

fn kis(arguments: &[&str]) -> Box<Kis> {
    let line = ["openbell", "kis"].iter().chain(arguments);
    let Command::Kis(kis) = Line::try_parse_from(line).expect("a good command line").command;
    kis
}

#[test]
fn a_plain_port_plays_today_in_real_time() {
    let options = kis(&["--port", "0"]).options().expect("options");
    assert!(options.clock.is_system());
    assert_eq!((options.width, options.limit, options.symbols.len()), (47, 41, 41));
    assert!(options.script.incidents().is_empty() && options.accounts.is_empty());
}

#[test]
fn a_day_at_speed_starts_at_ten_to_nine_with_the_faults_asked_for() {
    let options = kis(&[
        "--port",
        "0",
        "--date",
        "2026-11-20",
        "--speed",
        "60",
        "--script",
        "demo",
        "--fault",
        "stall=2m@14:30",
        "--app-key",
        "k",
        "--app-secret",
        "s",
        "--slot-hold",
        "1m",
    ])
    .options()
    .expect("options");
    let started = options.clock.now().duration_since(instant("2026-11-20".parse().expect("a date"), time(8, 50, 0, 0)));
    assert!(started.as_secs() < 600 && options.clock.speed() == 60.0);
    assert_eq!(options.script.incidents().len(), 8);
    assert_eq!((options.accounts.len(), options.slot_hold), (1, Duration::from_secs(60)));
}

#[test]
fn wrong_arguments_are_named() {
    let usage = |arguments: &[&str]| {
        let failure = kis(arguments).options().expect_err("wrong");
        assert_eq!(failure.exit, Exit::Usage);
        failure.message
    };
    assert!(usage(&["--port", "0", "--fault", "flood@10:00"]).contains("flood"));
    assert!(usage(&["--port", "0", "--speed", "0"]).contains("--speed"));
    let missing = kis(&["--port", "0", "--replay", "no/such/file"]).options().expect_err("missing");
    assert!(missing.exit == Exit::Unusable && missing.message.contains("no/such/file"));
    assert!(Line::try_parse_from(["openbell", "kis", "--port", "0", "--width", "45"]).is_err());
}

#[test]
fn symbols_are_read_one_a_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("symbols.txt");
    let path = file.to_str().expect("a name");
    let read = || kis(&["--port", "0", "--symbols", path]).options();
    fs::write(&file, "# two\n005930\n\n000660 # the second\n").expect("written");
    assert_eq!(read().expect("two").symbols, ["005930", "000660"]);
    fs::write(&file, "not a code\n").expect("written");
    assert!(read().expect_err("bad").message.contains("not a code"));
    fs::write(&file, "# nothing\n").expect("written");
    assert!(read().expect_err("empty").message.contains("no symbol"));
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port().to_string();
    let kis = kis(&["--port", &port, "--trades", "100"]);
    let failure = kis.run(kis.options().expect("options")).await.expect_err("taken");
    assert_eq!(failure.exit, Exit::Unusable);
    assert!(failure.message.contains(&port) && failure.message.contains("--port 0"), "{}", failure.message);
}

#[test]
fn the_ledger_is_written_as_json_lines() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("ledger.jsonl");
    let session = simulate::regular_session("2026-11-20".parse().expect("a date"));
    let ledger = simulate::Market::generate(1, &session, &["005930".to_owned()], 50);
    write_ledger(&file, &ledger).expect("written");
    let text = fs::read_to_string(&file).expect("read");
    let first: serde_json::Value = serde_json::from_str(text.lines().next().expect("a line")).expect("json");
    assert_eq!(text.lines().count(), ledger.len());
    assert_eq!((first["id"].as_str(), first["side"].as_str()), (Some(ledger[0].id().as_str()), Some("auction")));
    assert!(first["at"].as_str().is_some_and(|at| at.starts_with("2026-11-20T09:00:") && at.ends_with("+09:00")));
}
