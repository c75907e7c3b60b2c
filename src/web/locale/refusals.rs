//! Refusals that people meet on pages, in their language. A refusal is words in English, which programs read too; those of the site itself that are
//! known here are told again as texts, others (the daemon's, a parser's) as they were said.

use super::{Text, say};

/// The middle of what was said, between two fixed parts.
fn between<'a>(said: &'a str, before: &str, after: &str) -> Option<&'a str> {
    said.strip_prefix(before)?.strip_suffix(after)
}

/// Why a request was not carried out; `None` for words of somebody else.
pub(crate) fn error(said: &str) -> Option<Text> {
    Some(match said {
        "the form carries no valid token" => say!("The form carries no valid token."),
        "the request comes from a page of another site" => say!("The request comes from a page of another site."),
        "the session has ended, and nothing was done" => say!("The session has ended, and nothing was done."),
        "the replay was not confirmed" => say!("The replay was not confirmed."),
        "the daemon did not answer in 30 s" => say!("The daemon did not answer in 30 s."),
        "there are no pages in this language" => say!("There are no pages in this language."),
        "only users have a password" => say!("Only users have a password."),
        "the password could not be changed" => say!("The password could not be changed."),
        _ => {
            if let Some(path) = between(said, "there is nothing at ", "") {
                return Some(match path.split_once(": this site is below ") {
                    Some((path, base)) => say!("There is nothing at {}: this site is below {}.", path, base),
                    None => say!("There is nothing at {}.", path),
                });
            }
            if let Some(name) = between(said, "there is no DAG ", "") {
                return Some(say!("There is no DAG {}.", name));
            }
            if let Some(id) = between(said, "there is no run ", "").filter(|id| !id.contains(' ')) {
                return Some(say!("There is no run {}.", id));
            }
            if let Some(name) = between(said, "there is no topic \"", "\"") {
                return Some(say!("There is no topic \"{}\".", name));
            }
            if let Some(whose) = between(said, "", " has no output") {
                let attempt = whose.strip_prefix("attempt ").and_then(|rest| rest.split_once(" of "));
                let parts = attempt.and_then(|(number, rest)| Some((number, rest.split_once(" in ")?)));
                return Some(match parts {
                    Some((number, (step, run))) => say!("Attempt {} of {} in {} has no output.", number, step, run),
                    None => say!("{} has no output.", whose),
                });
            }
            let who = between(said, "viewer ", " may look at everything, but not act")?;
            say!("Viewer {} may look at everything, but not act.", who)
        }
    })
}

/// What to do instead; `None` for words of somebody else.
pub(crate) fn remedy(said: &str) -> Option<Text> {
    Some(match said {
        "start from the first page" => say!("Start from the first page."),
        "the DAGs page lists those there are, and files that do not work" => {
            say!("The DAGs page lists those there are, and files that do not work.")
        }
        "the pages of the DAGs list the runs that are kept" => say!("The pages of the DAGs list the runs that are kept."),
        "the topics page lists those there are" => say!("The topics page lists those there are."),
        "it has not started, or its output was removed" => say!("It has not started, or its output was removed."),
        "it has not started, there is no such step, or its output was removed" => {
            say!("It has not started, there is no such step, or its output was removed.")
        }
        "send the form of the page" => say!("Send the form of the page."),
        "go back, reload the page and try again; the daemon may have been started anew, or somebody logged in, since" => {
            say!("Go back, reload the page and try again; the daemon may have been started anew, or somebody logged in, since.")
        }
        "use the forms of this site, or its API without a browser" => {
            say!("Use the forms of this site, or its API without a browser.")
        }
        "go back, log in and do it again" => say!("Go back, log in and do it again."),
        "go back and tick the box beside the button" => say!("Go back and tick the box beside the button."),
        "look at the run; the command may still be carried out" => {
            say!("Look at the run; the command may still be carried out.")
        }
        "ask somebody who is an operator, or for the role (`openbell user role NAME operator`; a token is made with --role)" => {
            say!(
                "Ask somebody who is an operator, or for the role (`openbell user role NAME operator`; a token is made with --role)."
            )
        }
        "look at the daemon's log" => say!("Look at the daemon's log."),
        _ => {
            let path = between(said, "ask for ", "; a proxy has to pass the path on whole, or base_path has to be left out")?;
            say!("Ask for {}; a proxy has to pass the path on whole, or base_path has to be left out.", path)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_english_they_are_the_sentences_they_were() {
        for said in [
            "there is nothing at /nowhere",
            "there is nothing at /dags: this site is below /openbell/",
            "there is no topic \"a b\"",
            "attempt 3 of collector in day@2026-11-20 has no output",
            "viewer kim may look at everything, but not act",
            "the form carries no valid token",
        ] {
            let (first, rest) = said.split_at(1);
            assert_eq!(error(said).map(|t| t.to_string()), Some(format!("{}{rest}.", first.to_uppercase())));
        }
        assert_eq!((error("there is no run a@b among the newest 100"), error("kafka says no"), remedy("")), (None, None, None));
    }
}
