//! A browser, driven by the W3C WebDriver protocol through Debian's chromedriver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::PATIENCE;

/// What a window looks like.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Width in CSS pixels.
    pub width: u32,
    /// `light` or `dark`.
    pub scheme: &'static str,
}

/// Desktop and phone, light and dark.
pub const LOOKS: [Look; 4] = [
    Look { width: 1280, scheme: "light" },
    Look { width: 1280, scheme: "dark" },
    Look { width: 390, scheme: "light" },
    Look { width: 390, scheme: "dark" },
];

/// A browser of one test, with a profile of its own; ended with it.
pub struct Browser {
    driver: Child,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts one. `None`, with a line that says why, where there is no driver and none is required
    /// (`OPENBELL_BROWSER`).
    pub fn start(test: &str) -> Option<Self> {
        let Some(program) = std::env::var_os("OPENBELL_CHROMEDRIVER") else {
            let required = std::env::var("OPENBELL_BROWSER").is_ok();
            assert!(
                !required,
                "{test}: OPENBELL_CHROMEDRIVER is not set; scripts/browser up and eval its env"
            );
            println!("skipped: {test} (OPENBELL_CHROMEDRIVER is not set; scripts/browser up)");
            return None;
        };
        let mut driver = Command::new(program);
        let mut driver = driver
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a driver");
        let port = port_of(&mut driver);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let profile = tempfile::tempdir().expect("a folder");
        let mut browser = Self {
            driver,
            runtime,
            client: reqwest::Client::new(),
            session: String::new(),
            _profile: profile,
        };
        browser.session = format!("http://127.0.0.1:{port}");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", browser._profile.path().display()));
        let limit = u64::try_from(PATIENCE.as_millis()).expect("fits");
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "timeouts": { "script": limit, "pageLoad": limit },
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let made = browser.call("POST", "/session", &capabilities);
        browser.session =
            format!("{}/session/{}", browser.session, made["sessionId"].as_str().expect("a session"));
        Some(browser)
    }

    /// One command; panics with the driver's words when it fails.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_call(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let url = format!("{}{path}", self.session);
        let request = match method {
            "GET" => self.client.get(url),
            "DELETE" => self.client.delete(url),
            _ => self.client.post(url).json(body),
        };
        let answer: Value = self.runtime.block_on(async {
            let answer = request.timeout(2 * PATIENCE).send().await.map_err(|e| e.to_string())?;
            answer.json().await.map_err(|e| e.to_string())
        })?;
        match answer["value"]["error"].as_str() {
            Some(error) => {
                Err(format!("{error}: {}", answer["value"]["message"].as_str().unwrap_or_default()))
            }
            None => Ok(answer["value"].clone()),
        }
    }

    /// Opens a page.
    pub fn open(&self, url: &str) {
        // The browser gives up what it loads when a network interface comes or goes, as those of containers
        // do, and shows a page of its own.
        self.until(url, || match self.try_call("POST", "/url", &json!({ "url": url })) {
            Ok(_) => self.run("return location.protocol !== 'chrome-error:'") == json!(true),
            Err(error) if error.contains("ERR_NETWORK_CHANGED") => false,
            Err(error) => panic!("{url}: {error}"),
        });
    }

    /// Where it is now.
    pub fn url(&self) -> String {
        self.call("GET", "/url", &Value::Null).as_str().expect("a URL").to_owned()
    }

    /// Gives the window a look.
    pub fn look(&self, look: Look) {
        let metrics =
            json!({ "width": look.width, "height": 900, "deviceScaleFactor": 1, "mobile": look.width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({ "features": [
            { "name": "prefers-color-scheme", "value": look.scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ] });
        self.devtools("Emulation.setEmulatedMedia", &features);
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.call("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Runs a script in the page; its `return` is given back.
    pub fn run(&self, script: &str) -> Value {
        self.call("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a script that calls `arguments[0]` when it is done.
    pub fn run_async(&self, script: &str) -> Value {
        self.call("POST", "/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// The text of the whole page, as a reader sees it.
    pub fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Clicks a button or link by its words, once it is there.
    pub fn press(&self, words: &str) {
        let path = format!("//*[self::button or self::a or self::summary][normalize-space()='{words}']");
        self.until(words, || self.try_click("xpath", &path).is_ok());
    }

    fn try_click(&self, using: &str, value: &str) -> Result<(), String> {
        let found = self.try_call("POST", "/element", &json!({ "using": using, "value": value }))?;
        let id =
            found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str).ok_or("no element")?;
        self.try_call("POST", &format!("/element/{id}/click"), &json!({})).map(drop)
    }

    /// Waits for a condition; panics with what the page says instead.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !holds() {
            assert!(
                begin.elapsed() < PATIENCE,
                "waited {PATIENCE:?} for {what} on {}:\n{}",
                self.url(),
                self.text()
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Waits until the site tells a page that it is live, which it does also while nothing changes.
    pub fn until_a_beat(&self) {
        let beat = "const done = arguments[0]; const events = new EventSource('/events?page=dags'); \
                    events.addEventListener('beat', () => { events.close(); done(true); });";
        assert_eq!(self.run_async(beat), json!(true));
    }

    /// Waits until the page says something.
    pub fn until_it_says(&self, words: &str) {
        self.until(words, || self.text().contains(words));
    }

    /// Clicks what a CSS selector finds, once it is there.
    pub fn click(&self, selector: &str) {
        self.until(selector, || self.try_click("css selector", selector).is_ok());
    }

    /// Writes into a field in place of what is there.
    pub fn fill(&self, selector: &str, text: &str) {
        let find = json!({ "using": "css selector", "value": selector });
        let found = self.call("POST", "/element", &find);
        let id =
            found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str).expect("an element");
        self.call("POST", &format!("/element/{id}/clear"), &json!({}));
        self.call("POST", &format!("/element/{id}/value"), &json!({ "text": text }));
    }

    /// A picture of the whole page, as WebP.
    pub fn picture(&self) -> Vec<u8> {
        use base64::Engine;
        let taken = self.devtools(
            "Page.captureScreenshot",
            &json!({ "format": "webp", "quality": 80, "captureBeyondViewport": true }),
        );
        base64::prelude::BASE64_STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("base64")
    }

    /// What the console says since the last time: errors, refused scripts and styles.
    pub fn complaints(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", &json!({ "type": "browser" }));
        let all = log.as_array().cloned().unwrap_or_default();
        all.iter()
            .filter(|e| e["level"] == "SEVERE")
            .map(|e| e["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// The address of every request since the last time.
    pub fn requests(&self) -> Vec<String> {
        let log = self.call("POST", "/se/log", &json!({ "type": "performance" }));
        let messages = log.as_array().cloned().unwrap_or_default();
        let parsed =
            messages.iter().filter_map(|e| serde_json::from_str::<Value>(e["message"].as_str()?).ok());
        let sent = parsed.filter(|m| m["message"]["method"] == "Network.requestWillBeSent");
        sent.filter_map(|m| m["message"]["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }
}

/// The port the driver chose: it prints first which was asked for (0), then that one. Its output is read on,
/// or it would choke on it.
fn port_of(driver: &mut Child) -> u16 {
    let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines().map_while(Result::ok);
    let port = |line: &str| {
        line.rsplit_once(" on port ")?.1.trim_end_matches('.').parse().ok().filter(|port| *port > 0)
    };
    let found = lines.find_map(|line| port(&line)).expect("the driver says its port");
    std::thread::spawn(move || lines.for_each(drop));
    found
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.try_call("DELETE", "", &Value::Null).map(drop).unwrap_or_default();
        self.driver.kill().and_then(|()| self.driver.wait()).map(drop).unwrap_or_default();
    }
}
