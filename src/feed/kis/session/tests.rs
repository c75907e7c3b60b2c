use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::kis::request::Type;
use crate::kis::{Message, encode, parse};

const SECOND: Duration = Duration::from_secs(1);

/// Plays server and clock.
pub(super) struct Bench {
    pub(super) session: Session,
    pub(super) now: Timestamp,
    pub(super) out: Vec<Output>,
}

pub(super) fn symbol(n: usize) -> String {
    format!("{n:06}")
}

pub(super) fn settings(symbols: usize) -> Settings {
    let mut settings = Settings::new(vec!["H0STCNT0".into()], (0..symbols).map(symbol).collect());
    settings.backoff.jitter = false;
    settings
}

impl Bench {
    pub(super) fn new(settings: Settings) -> Self {
        let now: Timestamp = "2026-11-20T08:50:00+09:00".parse().expect("a timestamp");
        Self { session: Session::new(settings, 7, now), now, out: Vec::new() }
    }

    /// A bench whose connection has just been opened.
    fn open(settings: Settings) -> Self {
        let mut bench = Self::new(settings);
        assert_eq!(bench.input(Input::Wake), [Output::AskKey]);
        assert_eq!(bench.input(Input::Key(Ok("key".into()))), [Output::Open]);
        bench.input(Input::Opened);
        bench
    }

    /// A bench with every symbol active.
    fn up(settings: Settings) -> Self {
        let mut bench = Self::open(settings);
        bench.settle();
        assert!(bench.session.is_up(), "{:?}", bench.out);
        bench
    }

    /// Takes all requests and acknowledges each.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let asked: Vec<_> = self.requests();
            for request in asked {
                self.reply(
                    &request.tr_key,
                    "0",
                    if request.kind == Type::Subscribe { "OPSP0000" } else { "OPSP0001" },
                );
            }
            if self.session.is_up() {
                return;
            }
            self.pass(Duration::from_millis(100));
        }
    }

    pub(super) fn input(&mut self, input: Input<'_>) -> Vec<Output> {
        let out = self.session.handle(input, self.now);
        self.out.extend(out.iter().cloned());
        out
    }

    pub(super) fn reply(&mut self, tr_key: &str, rt_cd: &str, code: &str) -> Vec<Output> {
        let text = format!(
            r#"{{"header":{{"tr_id":"H0STCNT0","tr_key":"{tr_key}","encrypt":"N"}},"body":{{"rt_cd":"{rt_cd}","msg_cd":"{code}","msg1":"text"}}}}"#
        );
        let Ok(Message::Control(control)) = parse(text.as_bytes()) else { panic!("a control message") };
        self.input(Input::Control(control))
    }

    pub(super) fn tick(&mut self, tr_key: &str) {
        let mut fields = vec![String::new(); 47];
        fields[0] = tr_key.to_owned();
        let text = encode("H0STCNT0", &[fields]);
        let Ok(Message::Data(frame)) = parse(text.as_bytes()) else { panic!("a data frame") };
        self.input(Input::Data(&frame));
    }

    /// Lets time pass, waking the machine whenever it asks for it, without any message.
    fn pass(&mut self, wait: Duration) {
        let until = self.now + wait;
        for _ in 0..100_000 {
            match self.session.wake_at() {
                Some(at) if at <= until => {
                    self.now = self.now.max(at);
                    self.input(Input::Wake);
                }
                _ => {
                    self.now = until;
                    return;
                }
            }
        }
        panic!("the machine spins");
    }

    /// The same with a sign of life each second.
    fn live(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(SECOND);
            self.input(Input::Traffic);
        }
    }

    /// The requests among what came out since the last call; the rest is dropped.
    fn requests(&mut self) -> Vec<Request> {
        self.out.drain(..).filter_map(|o| if let Output::Request(r) = o { Some(r) } else { None }).collect()
    }

    fn fatal(&self) -> Option<(&str, &str)> {
        self.out.iter().find_map(|o| {
            if let Output::Fatal { reason, remedy } = o {
                Some((reason.as_str(), remedy.as_str()))
            } else {
                None
            }
        })
    }

    fn closes(&self) -> usize {
        self.out.iter().filter(|o| matches!(o, Output::Close(_))).count()
    }
}

#[test]
fn subscribes_are_paced_and_the_session_is_up_when_all_are_acknowledged() {
    let mut bench = Bench::open(settings(41));
    let start = bench.now;
    let mut sent = 0;
    while sent < 41 {
        for request in bench.requests() {
            assert_eq!((request.kind, request.tr_key.as_str()), (Type::Subscribe, symbol(sent).as_str()));
            let text = bench.session.text(&request).expect("a key");
            assert!(text.contains(r#""approval_key":"key""#) && text.contains(r#""tr_type":"1""#), "{text}");
            sent += 1;
            assert!(bench.now >= start + Duration::from_millis(100) * (sent as u32 - 1));
            bench.reply(&request.tr_key, "0", "OPSP0000");
        }
        bench.pass(Duration::from_millis(100));
    }
    assert!(bench.session.is_up());
    assert_eq!((bench.session.active(), bench.session.degraded()), (41, None));
    assert!(bench.out.iter().filter(|o| matches!(o, Output::Up { number: 1, active: 41 })).count() <= 1);
    bench.live(600);
    assert_eq!(bench.requests(), []);
}

#[test]
fn a_request_without_reply_is_sent_once_more_and_already_means_active() {
    let mut bench = Bench::open(settings(1));
    assert_eq!(bench.requests().len(), 1);
    bench.live(4);
    assert_eq!(bench.requests(), []);
    bench.live(1);
    assert_eq!(bench.requests().len(), 1);
    bench.reply(&symbol(0), "1", "OPSP0002");
    assert!(bench.session.is_up());
    bench.live(299);
    assert_eq!(bench.requests(), []);
}

#[test]
fn a_registration_without_any_reply_does_not_keep_the_others_from_being_up() {
    let mut bench = Bench::open(settings(2));
    bench.live(1);
    bench.reply(&symbol(0), "0", "OPSP0000");
    bench.live(12);
    assert_eq!(bench.requests().iter().filter(|r| r.tr_key == symbol(1)).count(), 2);
    assert!(bench.session.is_up());
    assert!(bench.session.degraded().is_some_and(|d| d.contains(&symbol(1))));
    // Its data is proof enough.
    bench.tick(&symbol(1));
    assert_eq!(bench.session.degraded(), None);
}

#[test]
fn the_limit_is_learned_and_the_symbols_left_out_are_named() {
    let mut bench = Bench::open(settings(6));
    let mut accepted = 0;
    for _ in 0..100 {
        for request in bench.requests() {
            if accepted < 3 {
                accepted += 1;
                bench.reply(&request.tr_key, "0", "OPSP0000");
            } else {
                bench.reply(&request.tr_key, "1", "OPSP0008");
            }
        }
        bench.live(1);
    }
    assert!(bench.session.is_up());
    assert_eq!((bench.session.active(), bench.session.limit()), (3, 3));
    let degraded = bench.session.degraded().expect("degraded");
    assert!(degraded.contains("allows 3") && degraded.contains("000003, 000004, 000005"), "{degraded}");
}

#[test]
fn the_configured_limit_is_never_exceeded() {
    let mut settings = settings(5);
    settings.limit = 2;
    let mut bench = Bench::open(settings);
    bench.settle();
    bench.live(60);
    assert!(bench.session.is_up());
    assert_eq!(bench.session.active(), 2);
    assert!(bench.session.degraded().is_some_and(|d| d.contains("000002, 000003, 000004")));
}

#[test]
fn a_refused_approval_key_is_renewed_once() {
    let mut bench = Bench::open(settings(2));
    let out = bench.reply(&symbol(0), "1", "OPSP0011");
    assert!(out.iter().any(|o| matches!(o, Output::Close(_))));
    bench.out.clear();
    bench.pass(SECOND * 2);
    assert_eq!(bench.out, [Output::AskKey]);
    bench.input(Input::Key(Ok("second".into())));
    bench.input(Input::Opened);
    bench.reply(&symbol(0), "1", "OPSP0011");
    let (reason, remedy) = bench.fatal().expect("fatal");
    assert!(reason.contains("OPSP0011") && remedy.contains("app_secret"), "{reason} {remedy}");
    assert!(bench.session.has_ended() && bench.session.wake_at().is_none());

    // A registration that works in between makes it a new story.
    let mut bench = Bench::up(settings(2));
    for round in 0..3 {
        bench.reply(&symbol(0), "1", "OPSP0011");
        bench.pass(SECOND * 2);
        bench.input(Input::Key(Ok(format!("key {round}"))));
        bench.input(Input::Opened);
        bench.settle();
        assert!(bench.session.is_up());
    }
}

#[test]
fn a_taken_slot_is_waited_for() {
    for seed in 0..50 {
        let mut bench = Bench::open(settings(1));
        bench.session.spread = mix(seed);
        let text = r#"{"header":{"tr_id":"(null)","tr_key":""},"body":{"rt_cd":"9","msg_cd":"OPSP8996","msg1":"ALREADY IN USE appkey"}}"#;
        let Ok(Message::Control(control)) = parse(text.as_bytes()) else { panic!("a control message") };
        bench.input(Input::Control(control));
        assert_eq!(bench.closes(), 1);
        assert!(bench.session.degraded().is_some_and(|d| d.contains("another session")));
        let wait = bench.session.wake_at().expect("waiting").duration_since(bench.now).unsigned_abs();
        assert!(wait >= SECOND * 60 && wait <= SECOND * 120, "{wait:?}");
        let (until, said) = bench.session.waits().expect("it says so");
        assert!(
            Some(until) == bench.session.wake_at() && said.contains("ALREADY IN USE appkey"),
            "{until} {said}"
        );
        bench.out.clear();
        bench.pass(SECOND * 120);
        assert_eq!(bench.out, [Output::Open], "the key is used again");
        assert_eq!(bench.session.waits(), None, "the wait is over");
        bench.input(Input::NotOpened("refused".into()));
        assert_eq!(bench.session.waits(), None, "this wait is not for the slot");
    }
}

#[test]
fn wrong_credentials_end_it_with_a_remedy() {
    for code in ["OPSP0010", "OPSP9994", "OPSP9996", "OPSP8994", "OPSP8995"] {
        let mut bench = Bench::open(settings(1));
        bench.reply(&symbol(0), "1", code);
        assert!(
            bench.fatal().is_some_and(|(reason, remedy)| reason.contains(code) && remedy.contains("app_key")),
            "{code}"
        );
    }
    let mut bench = Bench::new(settings(1));
    bench.input(Input::Wake);
    bench.input(Input::Key(Err(Refusal::Credentials("EGW00103".into()))));
    assert!(bench.fatal().is_some_and(|(reason, _)| reason.contains("EGW00103")));
}

#[test]
fn a_bad_symbol_is_left_out_and_only_bad_symbols_are_fatal() {
    let mut bench = Bench::open(settings(2));
    bench.reply(&symbol(0), "1", "OPSP8992");
    bench.pass(SECOND);
    bench.reply(&symbol(1), "0", "OPSP0000");
    assert!(bench.session.is_up());
    assert!(bench.session.degraded().is_some_and(|d| d.contains("OPSP8992") && d.contains("000000")));
    let mut bench = Bench::open(settings(1));
    bench.reply(&symbol(0), "1", "OPSP8992");
    assert!(bench.fatal().is_some());
}

#[test]
fn a_transient_refusal_is_tried_again_later() {
    let mut bench = Bench::open(settings(1));
    bench.requests();
    bench.reply(&symbol(0), "1", "OPSP0007");
    assert!(bench.session.degraded().is_some());
    bench.live(29);
    assert_eq!(bench.requests(), []);
    bench.live(1);
    assert_eq!(bench.requests().len(), 1);
}

#[test]
fn an_approval_call_is_repeated_no_sooner_than_a_second() {
    let mut bench = Bench::new(settings(1));
    bench.session.settings.backoff.initial = Duration::from_millis(1);
    for _ in 0..5 {
        bench.out.clear();
        let asked = bench.now;
        assert_eq!(bench.input(Input::Wake), [Output::AskKey]);
        bench.input(Input::Key(Err(Refusal::TooOften("EGW00133".into()))));
        bench.out.clear();
        while bench.out.is_empty() {
            let at = bench.session.wake_at().expect("a wake");
            bench.now = bench.now.max(at);
            bench.input(Input::Wake);
        }
        assert_eq!(bench.out, [Output::AskKey]);
        assert!(bench.now >= asked + SECOND);
        bench.session.phase = Phase::Idle { until: bench.now };
        bench.now += SECOND;
    }
}

#[test]
fn reconnects_back_off_up_to_two_minutes_and_start_anew_after_stable_minutes() {
    let mut bench = Bench::up(settings(1));
    let mut waits = Vec::new();
    for _ in 0..10 {
        bench.input(Input::Closed("no close frame".into()));
        waits.push(bench.session.wake_at().expect("a wake").duration_since(bench.now).as_secs());
        bench.pass(SECOND * 120);
        bench.input(Input::Opened);
        bench.settle();
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 120, 120, 120]);
    bench.live(200);
    bench.input(Input::Closed("no close frame".into()));
    assert_eq!(bench.session.wake_at().expect("a wake").duration_since(bench.now).as_secs(), 1);
    assert_eq!(bench.session.reconnects(), 11);
}

#[test]
fn silence_of_any_kind_for_90_seconds_ends_a_connection() {
    let mut bench = Bench::up(settings(1));
    bench.live(300);
    let last = bench.now;
    bench.out.clear();
    bench.pass(SECOND * 89);
    assert_eq!(bench.closes(), 0);
    bench.pass(SECOND);
    assert!(
        bench.out.iter().any(
            |o| matches!(o, Output::Down { number: 1, last_message_at, .. } if *last_message_at == last)
        )
    );
    assert_eq!(bench.closes(), 1);
}

#[test]
fn pingpong_is_echoed_unchanged() {
    let mut bench = Bench::up(settings(1));
    let text = r#"{"header":{"tr_id":"PINGPONG","datetime":"20261121090012"}}"#;
    let Ok(Message::Control(control)) = parse(text.as_bytes()) else { panic!("a control message") };
    assert_eq!(bench.input(Input::Control(control)), [Output::Echo(text.into())]);
}

#[test]
fn liquid_symbols_that_stay_silent_after_a_reconnect_are_registered_anew() {
    let mut bench = Bench::up(settings(4));
    for n in 0..30 {
        // 0 and 1 and 3 are busy, 2 trades now and then.
        bench.live(2);
        bench.tick(&symbol(0));
        bench.tick(&symbol(1));
        bench.tick(&symbol(3));
        if n % 12 == 0 {
            bench.tick(&symbol(2));
        }
    }
    bench.input(Input::Closed("gone".into()));
    bench.pass(SECOND);
    bench.input(Input::Opened);
    // The fourth is a duplicate to the server: it is left alone.
    for _ in 0..10 {
        for request in bench.requests() {
            let code = if request.tr_key == symbol(3) { ("1", "OPSP0002") } else { ("0", "OPSP0000") };
            bench.reply(&request.tr_key, code.0, code.1);
        }
        bench.live(1);
    }
    bench.tick(&symbol(1));
    bench.live(49);
    assert_eq!(bench.requests(), []);
    bench.live(2);
    let requests = bench.requests();
    assert_eq!(requests, [Request { kind: Type::Unsubscribe, tr_id: "H0STCNT0".into(), tr_key: symbol(0) }]);
    assert!(bench.session.is_up());
    bench.reply(&symbol(0), "0", "OPSP0001");
    bench.live(1);
    assert_eq!(
        bench.requests(),
        [Request { kind: Type::Subscribe, tr_id: "H0STCNT0".into(), tr_key: symbol(0) }]
    );
    bench.reply(&symbol(0), "0", "OPSP0000");
    bench.live(300);
    assert_eq!(bench.requests(), [], "once is enough");
}

#[test]
fn a_key_is_used_for_23_hours() {
    let mut bench = Bench::up(settings(1));
    bench.live(10);
    bench.input(Input::Closed("gone".into()));
    bench.out.clear();
    bench.pass(SECOND);
    assert_eq!(bench.out, [Output::Open]);
    bench.input(Input::Opened);
    bench.settle();
    for _ in 0..(23 * 60) {
        bench.pass(SECOND * 60);
        bench.input(Input::Traffic);
    }
    bench.input(Input::Closed("gone".into()));
    bench.out.clear();
    bench.pass(SECOND * 2);
    assert_eq!(bench.out, [Output::AskKey]);
}

#[test]
fn stop_closes_and_ends() {
    let mut bench = Bench::up(settings(1));
    let out = bench.input(Input::Stop);
    assert!(
        matches!(out[0], Output::Down { number: 1, .. }) && matches!(out[1], Output::Close(_)),
        "{out:?}"
    );
    assert!(bench.session.has_ended());
    assert_eq!(bench.input(Input::Opened), []);
    let mut waiting = Bench::new(settings(1));
    assert_eq!(waiting.input(Input::Stop), []);
    assert!(waiting.session.has_ended());
}
