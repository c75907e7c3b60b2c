use proptest::prelude::*;

use super::*;

/// An answer about two brokers and two topics, written by hand after the protocol's description.
fn answered() -> Vec<u8> {
    let mut out = vec![0, 0, 0, 7, 0]; // correlation, tags
    out.extend_from_slice(&[0, 0, 0, 0]); // throttle
    out.push(3); // two brokers
    for (id, host, port) in [(1u8, "b1", 9092i32), (2, "::1", 9093)] {
        out.extend_from_slice(&[0, 0, 0, id]);
        compact(&mut out, host);
        out.extend_from_slice(&port.to_be_bytes());
        out.extend_from_slice(&[0, 0]); // no rack, no tags
    }
    compact(&mut out, "cluster");
    out.extend_from_slice(&[0, 0, 0, 1]); // controller
    out.push(3); // two topics
    for (error, name, id) in [(0i16, "a", 0xab), (3, "b", 0)] {
        out.extend_from_slice(&error.to_be_bytes());
        compact(&mut out, name);
        out.extend_from_slice(&[id; 16]);
        out.push(0);
        out.push(2); // one partition
        out.extend_from_slice(&[0; 2 + 4 + 4 + 4]);
        out.extend_from_slice(&[2, 0, 0, 0, 1, 2, 0, 0, 0, 1, 1, 0]); // replicas, in sync, none offline, tags
        out.extend_from_slice(&[0, 0, 0, 0, 1, 9, 2, 0xff, 0xff]); // authorizations, one unknown tag
    }
    out.extend_from_slice(&[0, 0, 0, 0, 0]);
    out
}

#[test]
fn metadata_is_read() {
    let bytes = answered();
    let (brokers, topics) =
        metadata_answer(answer(METADATA, 7, &bytes).expect("a header")).expect("an answer");
    assert_eq!(brokers.iter().map(|b| b.address.as_str()).collect::<Vec<_>>(), ["b1:9092", "[::1]:9093"]);
    assert_eq!(topics[0], TopicId { error: 0, name: "a".into(), id: "ab".repeat(16) });
    assert_eq!(topics[1], TopicId { error: 3, name: "b".into(), id: String::new() });
    assert!(answer(METADATA, 8, &bytes).is_err());
}

#[test]
fn requests_are_written_as_the_protocol_says() {
    let body = metadata(Some(&["t".into()]));
    let expected = [&[2][..], &[0; 16], &[2, b't', 0], &[0, 0, 0, 0]].concat();
    assert_eq!(body, expected);
    let whole = request(METADATA, 5, &[1]);
    assert_eq!(whole, [&[0, 3, 0, 10, 0, 0, 0, 5, 0, 8][..], b"openbell", &[0, 1]].concat());
    assert_eq!(sasl_plain("u", "p"), [&[0, 0, 0, 4][..], b"\0u\0p"].concat());
    assert_eq!(offset_fetch(&["g".into()]), [2, 2, b'g', 0, 0, 0, 0]);
}

/// Bytes written by hand after the protocol's description: FindCoordinator 3 and LeaveGroup 4.
#[test]
fn a_named_member_is_removed_as_the_protocol_says() {
    let group = [3, b'g', b'1'];
    assert_eq!(find_coordinator("g1"), [&group[..], &[0, 0]].concat());
    assert_eq!(
        leave_group("g1", "day.s"),
        [&group[..], &[2, 1, 6], b"day.s", &[0, 0]].concat(),
        "one member, its id empty, its name, no tags"
    );
    assert_eq!(request(LEAVE_GROUP, 1, &[])[..8], [0, 13, 0, 4, 0, 0, 0, 1]);
    assert_eq!(request(FIND_COORDINATOR, 1, &[])[..8], [0, 10, 0, 3, 0, 0, 0, 1]);
    let found = [&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 3][..], b"b1", &[0, 0, 0x23, 0x84, 0]].concat();
    let broker = Broker { address: "b1:9092".into() };
    assert_eq!(find_coordinator_answer(Reader(&found)), Ok((0, broker)));
    let none = [&[0, 0, 0, 0, 0, 15, 4][..], b"no!", &[0xff, 0xff, 0xff, 0xff, 1, 0xff, 0xff, 0xff, 0xff, 0]]
        .concat();
    assert_eq!(find_coordinator_answer(Reader(&none)).map(|(error, _)| error), Ok(15));
    let left =
        |whole: u8, member: u8| [&[0, 0, 0, 0, 0, whole, 2, 1, 6][..], b"day.s", &[0, member, 0, 0]].concat();
    assert_eq!(
        [(0, 0), (16, 0), (0, 25)].map(|(w, m)| leave_group_answer(Reader(&left(w, m)))),
        [Ok(0), Ok(16), Ok(25)]
    );
}

#[test]
fn offsets_are_read() {
    let mut out = vec![0, 0, 0, 0, 2]; // throttle, one group
    compact(&mut out, "g");
    out.push(2);
    compact(&mut out, "t");
    out.push(3);
    for (partition, next, note) in [(0u8, 7i64, "x"), (1, -1, "")] {
        out.extend_from_slice(&[0, 0, 0, partition]);
        out.extend_from_slice(&next.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        compact(&mut out, note);
        out.extend_from_slice(&[0, 0, 0]);
    }
    out.extend_from_slice(&[0, 0, 0, 0, 0]); // tags of topic, error, tags of group, tags
    let groups = offset_fetch_answer(Reader(&out)).expect("an answer");
    let offset = Offset { topic: "t".into(), partition: 0, next: 7, note: "x".into() };
    assert_eq!(groups, [("g".to_owned(), 0, vec![offset])]);
}

proptest! {
    #[test]
    fn numbers_come_back(value: u32) {
        let mut out = Vec::new();
        unsigned(&mut out, value);
        prop_assert_eq!(Reader(&out).unsigned(), Ok(value));
    }

    /// Whatever a server sends: an answer or an error, never a panic, never more memory than it sent.
    #[test]
    fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = metadata_answer(Reader(&bytes));
        let _ = list_groups_answer(Reader(&bytes));
        let _ = offset_fetch_answer(Reader(&bytes));
        let _ = find_coordinator_answer(Reader(&bytes));
        let _ = leave_group_answer(Reader(&bytes));
        let _ = versions(Reader(&bytes));
        let _ = answer(METADATA, 0, &bytes).map(|r| format!("{r:?}"));
    }

    /// A damaged answer too.
    #[test]
    fn damage_is_an_error(at in 0usize..60, by in 1u8..) {
        let mut bytes = answered();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= by;
        }
        if let Ok(reader) = answer(METADATA, 7, &bytes) {
            let _ = metadata_answer(reader);
        }
    }

    #[test]
    fn a_cut_answer_is_an_error(cut in 5usize..100) {
        let bytes = answered();
        let cut = cut.min(bytes.len() - 6);
        prop_assert!(metadata_answer(answer(METADATA, 7, &bytes[..cut]).expect("a header")).is_err());
    }
}
