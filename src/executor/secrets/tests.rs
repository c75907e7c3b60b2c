use super::*;
use domain::dag::StepKind;
use domain::dag::fixtures::step;

#[test]
fn a_command_gets_all_of_its_secrets_or_is_told_which_is_missing() {
    let mut step = step("fetch", StepKind::Task, &[]);
    step.secrets.insert("API_TOKEN".into(), SecretRef::Env("VENDOR_TOKEN".into()));
    step.secrets.insert("KEY".into(), SecretRef::File("/etc/key".into()));
    step.program = Program::Command { argv: vec!["fetch".into()], image: None };
    let all = of_command(&step, |reference| Ok(format!("value of {reference}"))).expect("all there");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(all, [pair("API_TOKEN", "value of env:VENDOR_TOKEN"), pair("KEY", "value of file:/etc/key")]);

    let one = |reference: &SecretRef| match reference {
        SecretRef::Env(_) => Ok("v4lue".to_owned()),
        SecretRef::File(_) => Ok("v4l\0ue".to_owned()),
    };
    let why = of_command(&step, one).expect_err("no environment carries it");
    assert!(
        why.contains("\"KEY\" (file:/etc/key)") && why.contains("zero byte") && !why.contains("v4l"),
        "{why}"
    );
    let why = of_command(&step, |_| Err(Refused::foreign("it is not set", "set it"))).expect_err("not there");
    assert_eq!(why, "its secret \"API_TOKEN\" (env:VENDOR_TOKEN) cannot be read: it is not set; set it");

    step.program = Program::Uses("collect/kis".into());
    assert_eq!(of_command(&step, |_| Err(Refused::foreign("it reads them itself", ""))), Ok(Vec::new()));
}
