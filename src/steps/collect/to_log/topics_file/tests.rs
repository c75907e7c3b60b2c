use super::*;

#[test]
fn a_note_is_read_back_and_a_strange_one_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    assert_eq!(TopicsFile::load(folder.path()).expect("nothing yet"), TopicsFile::default());
    let mut file = TopicsFile::default();
    file.topics.insert("kis.trades".into(), FilledTopic { incarnation: "a".into(), refill_before: 7 });
    file.store(folder.path()).expect("written");
    assert_eq!(TopicsFile::load(folder.path()).expect("read"), file);
    for strange in ["", "{}", r#"{"version":2,"topics":{}}"#] {
        std::fs::write(path(folder.path()), strange).expect("written");
        let error = TopicsFile::load(folder.path()).expect_err("strange");
        assert!(
            error.kind == ErrorKind::Corrupt && error.to_string().contains("move the file away"),
            "{error}"
        );
    }
}
