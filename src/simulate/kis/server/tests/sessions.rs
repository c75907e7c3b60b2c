//! Keys, slots, acknowledgements, limits, signs of life.

use std::time::Duration;

use serde_json::json;

use super::client::*;
use crate::kis::{Event, Fault, Script, Simulator, SimulatorOptions, Why};

#[tokio::test]
async fn keys_are_given_over_http_and_wrong_ones_refused() {
    let accounts = vec![("a".to_owned(), "secret".to_owned())];
    let simulator =
        Simulator::start(SimulatorOptions { accounts, ..manual(at(8, 50)) }).await.expect("started");
    assert_eq!(approval(&simulator, "a").await.len(), 36);
    let (status, answer) =
        post(&simulator, "/oauth2/Approval", &json!({"appkey": "b", "secretkey": "secret"})).await;
    assert_eq!((status, &answer["error_code"]), (403, &json!("EGW00103")));
    let (status, answer) =
        post(&simulator, "/oauth2/tokenP", &json!({"appkey": "a", "appsecret": "wrong"})).await;
    assert_eq!((status, &answer["error_code"]), (403, &json!("EGW00105")));
    let (status, answer) =
        post(&simulator, "/oauth2/tokenP", &json!({"appkey": "a", "appsecret": "secret"})).await;
    assert_eq!((status, &answer["token_type"]), (200, &json!("Bearer")));
    let (status, answer) =
        post(&simulator, "/oauth2/tokenP", &json!({"appkey": "a", "appsecret": "secret"})).await;
    assert_eq!((status, &answer["error_code"]), (403, &json!("EGW00133")));
    assert_eq!(post(&simulator, "/somewhere/else", &json!({})).await.0, 404);
    simulator.stop().await;
}

#[tokio::test]
async fn an_unknown_approval_key_is_told_and_dropped_without_a_close_frame() {
    let simulator = Simulator::start(manual(at(8, 50))).await.expect("started");
    let mut client = Client::new(&simulator, "made-up").await;
    client.ask("1", "H0STCNT0", "005930").await;
    let answer = client.answer().await;
    assert_eq!(
        answer["body"],
        json!({"rt_cd": "1", "msg_cd": "OPSP0011", "msg1": "invalid approval : made-up"})
    );
    assert_eq!(client.hear().await, Heard::Abrupt);
    simulator.stop().await;
}

#[tokio::test]
async fn any_path_is_served_and_one_session_an_app_key() {
    let simulator = Simulator::start(manual(at(8, 50))).await.expect("started");
    let key = approval(&simulator, "a").await;
    let mut first = Client::at_path(&simulator, &key, "/").await;
    assert_eq!(first.request("1", "H0STCNT0", "005930").await, "OPSP0000");

    let mut second = Client::at_path(&simulator, &key, "/tryitout/H0STCNT0").await;
    second.ask("1", "H0STCNT0", "005930").await;
    let refusal = second.answer().await;
    assert_eq!(refusal["header"], json!({"tr_id": "(null)", "tr_key": "", "encrypt": "N"}));
    assert_eq!(refusal["body"], json!({"rt_cd": "9", "msg_cd": "OPSP8996", "msg1": "ALREADY IN USE appkey"}));
    assert_eq!(second.hear().await, Heard::Abrupt);

    let other_key = approval(&simulator, "another").await;
    let mut other = Client::new(&simulator, &other_key).await;
    assert_eq!(
        other.request("1", "H0STCNT0", "005930").await,
        "OPSP0000",
        "another app key has its own slot"
    );
    assert_eq!(first.request("1", "H0STCNT0", "000660").await, "OPSP0000", "and the first session lives");

    first.close().await;
    wait_until("the slot is free", || {
        happened(&simulator, &Event::SessionDown { session: 1, why: Why::ClientClosed })
    })
    .await;
    let mut third = Client::new(&simulator, &key).await;
    assert_eq!(
        third.request("1", "H0STCNT0", "005930").await,
        "OPSP0000",
        "a good-bye frees the slot at once"
    );
    simulator.stop().await;
}

#[tokio::test]
async fn a_lost_client_keeps_its_slot_for_a_while() {
    let options = SimulatorOptions { slot_hold: Duration::from_secs(45), ..manual(at(8, 50)) };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let client = Client::registered(&simulator, &krx41()[..1]).await;
    let key = client.key.clone();
    drop(client);
    wait_until("the loss is seen", || {
        happened(&simulator, &Event::SessionDown { session: 1, why: Why::ClientLost })
    })
    .await;

    clock.advance(Duration::from_secs(44));
    let mut early = Client::new(&simulator, &key).await;
    assert_eq!(early.request("1", "H0STCNT0", "005930").await, "OPSP8996");
    clock.advance(Duration::from_secs(1));
    let mut again = Client::new(&simulator, &key).await;
    assert_eq!(again.request("1", "H0STCNT0", "005930").await, "OPSP0000");
    simulator.stop().await;
}

#[tokio::test]
async fn registrations_are_counted_and_wrong_messages_have_their_codes() {
    let simulator =
        Simulator::start(SimulatorOptions { limit: 3, ..manual(at(8, 50)) }).await.expect("started");
    let mut client = Client::registered(&simulator, &krx41()[..2]).await;
    assert_eq!(client.request("1", "H0STCNT0", "005930").await, "OPSP0002");
    assert_eq!(client.request("1", "H0STASP0", "005930").await, "OPSP0000", "a book counts by itself");
    client.ask("1", "H0STCNT0", "005380").await;
    let refusal = client.answer().await;
    assert_eq!(refusal["header"], json!({"tr_id": "H0STCNT0", "tr_key": "005380", "encrypt": "N"}));
    assert_eq!(refusal["body"], json!({"rt_cd": "1", "msg_cd": "OPSP0008", "msg1": "MAX SUBSCRIBE OVER"}));
    assert_eq!(client.request("2", "H0STCNT0", "005380").await, "OPSP0003");
    assert_eq!(client.request("2", "H0STCNT0", "005930").await, "OPSP0001");
    assert_eq!(client.request("1", "H0STCNT0", "005380").await, "OPSP0000", "there is room again");
    assert_eq!(client.request("1", "H0NOSUCH", "005930").await, "OPSP8991");
    client.say("{\"header\":").await;
    let answer = client.answer().await;
    assert_eq!(
        (&answer["header"]["tr_id"], &answer["body"]["msg_cd"]),
        (&json!("(null)"), &json!("OPSP9999"))
    );
    assert_eq!(client.request("2", "H0STCNT0", "005380").await, "OPSP0001", "the session survived all that");
    assert!(client.protocol_ping().await, "protocol pings are answered");
    simulator.stop().await;
}

#[tokio::test]
async fn acknowledgements_carry_the_secrets_of_the_session() {
    let simulator = Simulator::start(manual(at(8, 50))).await.expect("started");
    let key = approval(&simulator, "a").await;
    let mut client = Client::new(&simulator, &key).await;
    client.ask("1", "H0STCNI0", "htsuser").await;
    let ack = client.answer().await;
    assert_eq!((&ack["header"]["encrypt"], &ack["body"]["rt_cd"]), (&json!("Y"), &json!("0")));
    let length = |name: &str| ack["body"]["output"][name].as_str().map(str::len);
    assert_eq!((length("iv"), length("key")), (Some(16), Some(32)));
    simulator.stop().await;
}

#[tokio::test]
async fn signs_of_life_may_be_echoed_or_ponged_and_silence_ends_the_session() {
    let options = SimulatorOptions {
        pingpong: Duration::from_secs(10),
        patience: Duration::from_millis(300),
        ..manual(at(8, 50))
    };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let mut client = Client::registered(&simulator, &krx41()[..1]).await;
    // Twice the time that silence would be allowed, answered in both ways.
    for round in 0..20 {
        clock.advance(Duration::from_secs(10));
        let Heard::Text(ping) = client.hear().await else { panic!("no PINGPONG") };
        assert!(
            ping.starts_with(r#"{"header":{"#)
                && ping.contains(r#""tr_id":"PINGPONG""#)
                && ping.contains(r#""datetime":"2026112008"#),
            "{ping}"
        );
        if round % 2 == 0 {
            client.say(&ping).await
        } else {
            client.pong(&ping).await
        }
        // What was said before the answer to this was read before it.
        assert_eq!(client.request("2", "H0STCNT0", "005380").await, "OPSP0003");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let down = Event::SessionDown { session: 1, why: Why::Silent };
    assert!(!happened(&simulator, &down));
    let mut pings = 0;
    let end = loop {
        clock.advance(Duration::from_secs(10));
        match client.hear().await {
            Heard::Text(_) => pings += 1,
            end => break end,
        }
        assert!(pings < 10_000, "never dropped");
        tokio::time::sleep(Duration::from_millis(3)).await;
    };
    assert_eq!(end, Heard::Abrupt);
    assert!(pings >= 10, "100 s of silence are allowed, and {pings} PINGPONGs came");
    assert!(happened(&simulator, &down));
    simulator.stop().await;
}

#[tokio::test]
async fn handshakes_can_be_refused_for_a_while() {
    let script = Script::quiet(1, DAY)
        .with(at(9, 0), Fault::HandshakeRefused { status: 503, lasts: Duration::from_secs(60) });
    let options = SimulatorOptions { script, ..manual(at(9, 0)) };
    let clock = options.clock.clone();
    let simulator = Simulator::start(options).await.expect("started");
    let error = tokio_tungstenite::connect_async(simulator.websocket_url()).await.expect_err("refused");
    let tokio_tungstenite::tungstenite::Error::Http(response) = error else { panic!("{error}") };
    assert_eq!(response.status(), 503);
    assert!(happened(&simulator, &Event::HandshakeRefused { status: 503 }));
    clock.advance(Duration::from_secs(60));
    Client::registered(&simulator, &krx41()[..1]).await;
    simulator.stop().await;
}

#[tokio::test]
async fn a_stopped_simulator_is_gone_and_its_sessions_with_it() {
    let simulator = Simulator::start(manual(at(8, 50))).await.expect("started");
    let mut client = Client::registered(&simulator, &krx41()[..1]).await;
    let address = simulator.local_addr();
    simulator.stop().await;
    assert_eq!(client.hear().await, Heard::Abrupt);
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
