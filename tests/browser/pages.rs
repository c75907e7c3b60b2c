//! Every page: it fits, axe finds nothing, nobody else is asked, the console is silent. A picture of each is
//! kept.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;

use crate::day::{Day, RUN};
use crate::driver::{Browser, LOOKS, Look};
use crate::support::{Daemon, openbell};

/// The pages of a day that is played, besides a dead letter's. `RUN` is the day's run.
const PAGES: [(&str, &str); 14] = [
    ("today", "/"),
    ("dags", "/dags"),
    ("run", "/runs/RUN"),
    ("output", "/runs/RUN/steps/collector/output"),
    ("dag", "/dags/kis-trading-day"),
    ("find", "/runs/RUN/steps/collector/output?find=session"),
    ("alerts", "/alerts"),
    ("audit", "/audit"),
    ("topics", "/topics"),
    ("topic", "/topics/kis.trades"),
    ("dead-letters", "/dead-letters"),
    ("letters", "/dead-letters/kis.trades"),
    ("market", "/market"),
    ("symbol", "/market/005930"),
];

/// The same after its end, for somebody who is logged in.
const ENDED: [(&str, &str); 6] = [
    ("today-ended", "/"),
    ("run-ended", "/runs/RUN"),
    ("account", "/account"),
    ("alerts-ended", "/alerts"),
    ("audit-ended", "/audit"),
    ("missing", "/runs/no-such-run"),
];

const PASSWORD: &str = "correct horse battery";

/// Where pictures go, to be looked at.
fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser/pictures");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Looks at pages, and notes what is wrong with them.
struct Examination<'a> {
    browser: &'a Browser,
    url: &'a str,
    axe: String,
    faults: Vec<String>,
}

impl<'a> Examination<'a> {
    fn new(browser: &'a Browser, url: &'a str) -> Self {
        let axe = std::fs::read_to_string(std::env::var("OPENBELL_AXE").expect("scripts/browser env"))
            .expect("axe");
        Self { browser, url, axe, faults: Vec::new() }
    }

    fn open(&mut self, look: Look, name: &str, path: &str) {
        self.browser.open(&format!("{}{}", self.url, path.replace("RUN", RUN)));
        self.judge(look, name);
    }

    /// The page that is open now.
    fn judge(&mut self, look: Look, name: &str) {
        let place = format!("{name} {} {}", look.width, look.scheme);
        let wide = self
            .browser
            .run("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
        if wide.as_i64() != Some(0) {
            self.faults.push(format!("{place}: {wide} pixels wider than the window"));
        }
        self.browser.run(&self.axe);
        let found = self.browser.run_async(
            "const done = arguments[0]; axe.run(document).then(r => done(r.violations.flatMap(v => \
             v.nodes.map(n => v.id + ': ' + n.target.join(' ') + ': ' + n.failureSummary))))",
        );
        let found = found.as_array().cloned().unwrap_or_default();
        self.faults.extend(found.iter().map(|f| format!("{place}: {}", f.as_str().unwrap_or_default())));
        let file = pictures().join(format!("{name}-{}-{}.webp", look.width, look.scheme));
        std::fs::write(file, self.browser.picture()).expect("written");
    }

    /// What was wrong, with what the console said and who else was asked. A refusal that is looked at on
    /// purpose is told by the console.
    fn end(mut self, wanted: &str) {
        let said = self
            .browser
            .complaints()
            .into_iter()
            .filter(|words| wanted.is_empty() || !words.contains(wanted));
        self.faults.extend(said);
        let elsewhere = self.browser.requests().into_iter().filter(|url| {
            !url.starts_with(self.url)
                && !["data:", "chrome:", "about:"].iter().any(|own| url.starts_with(own))
        });
        self.faults.extend(elsewhere.map(|url| format!("a request left the host: {url}")));
        assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
    }
}

#[test]
fn every_page_fits_and_is_accessible_and_asks_nobody_else() {
    let Some(browser) = Browser::start("every_page_fits_and_is_accessible") else { return };
    let day = Day::start();
    let letter = day.letter().expect("a dead letter");
    let mut examination = Examination::new(&browser, &day.url);
    for look in LOOKS {
        browser.look(look);
        for (name, path) in PAGES {
            examination.open(look, name, path);
        }
        examination.open(look, "letter", &letter);
    }
    // However long that took: the day waited, and its pages know that they are live.
    browser.open(&day.url);
    browser.until_it_says("virtual clock, held");
    browser.until_a_beat();
    // The same in Korean, whose words have other widths.
    browser.press("한국어");
    browser.until("Korean", || browser.run("return document.documentElement.lang") == json!("ko"));
    for look in LOOKS.into_iter().filter(|look| look.scheme == "light") {
        browser.look(look);
        for (name, path) in PAGES {
            examination.open(look, &format!("{name}-ko"), path);
        }
        examination.open(look, "letter-ko", &letter);
    }
    browser.press("English");
    browser.until("English", || browser.run("return document.documentElement.lang") == json!("en"));
    examination.end("");
    let root = day.end();
    the_day_after(&browser, &root.path().join("data"), &letter);
}

/// The day has ended, and the page asks who it is.
fn the_day_after(browser: &Browser, data: &Path, letter: &str) {
    let dags = tempfile::tempdir().expect("a folder");
    let config = data.join("openbell.yaml");
    std::fs::write(&config, "auth: { users: file:users.json }\n").expect("written");
    add_user(data, "kim");
    let daemon = Daemon::start(data, dags.path(), &["--config", config.to_str().expect("a plain path")]);
    let mut examination = Examination::new(browser, &daemon.url);
    for look in LOOKS {
        browser.look(look);
        examination.open(look, "login", "/audit");
        log_in(browser, "wrong horse battery");
        browser.until("the refusal", || {
            browser.run("return document.querySelector('[role=alert]') !== null") == json!(true)
        });
        examination.judge(look, "login-refused");
        log_in(browser, PASSWORD);
        browser.until("the page that was asked for", || browser.url().ends_with("/audit"));
        for (name, path) in ENDED {
            examination.open(look, name, path);
        }
        if look.width == LOOKS[0].width && look.scheme == LOOKS[0].scheme {
            browser.open(&format!("{}{letter}", daemon.url));
            browser.press("An edited copy");
            browser.run("const text = document.getElementById('edited'); text.value = text.value.replace('N/A', '71900')");
            browser.click("form:has([value=edited]) [name=sure]");
            browser.press("Send the copy");
            browser.until("the answer", || browser.url().ends_with("/replay"));
            browser.until_it_says("1 dead letter was sent again");
            examination.judge(look, "replayed");
            browser.open(&format!("{}{letter}", daemon.url));
            browser.until_it_says("sent again");
        }
        browser.press("Log out");
        browser.until("the login form", || browser.url().contains("/login"));
        browser.open(&format!("{}/audit", daemon.url));
        assert!(browser.url().contains("/login"), "the session has ended: {}", browser.url());
    }
    examination.end("the server responded with a status of 4");
}

fn add_user(data: &Path, name: &str) {
    use std::io::Write;
    let mut command = openbell();
    command.args(["user", "add", name, "--role", "operator", "--data"]).arg(data);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary starts");
    writeln!(child.stdin.take().expect("a pipe"), "{PASSWORD}").expect("read");
    assert!(child.wait().expect("it ends").success());
}

fn log_in(browser: &Browser, password: &str) {
    browser.fill("input[name=name]", "kim");
    browser.fill("input[name=password]", password);
    browser.click("button.main");
}
