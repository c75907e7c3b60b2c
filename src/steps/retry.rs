//! Asking a store again: one lost answer is no outage.

use std::time::Duration;

use backends::{BackendError, Result};

/// Asks until an answer comes, or a failure that asking again does not mend; at most once more after each of
/// the pauses, which are real time, as a server's troubles are. The call is given its number, from 0;
/// `failed` hears of every failure that another try follows.
///
/// # Errors
/// What the last try failed with.
pub async fn retry<T, F: Future<Output = Result<T>>>(
    pauses: &[Duration],
    mut failed: impl FnMut(&BackendError),
    call: impl Fn(usize) -> F,
) -> Result<T> {
    let mut number = 0;
    loop {
        match call(number).await {
            Err(error) if error.is_transient() && number < pauses.len() => {
                failed(&error);
                tokio::time::sleep(pauses[number]).await;
                number += 1;
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {

    use parking_lot::Mutex;

    use super::*;
    use backends::ErrorKind;

    const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(2)];

    /// Answers of the tries in turn; gives the result, the numbers of the tries, and how many failures were
    /// heard of.
    async fn asked(answers: &[Result<u8>]) -> (Result<u8>, Vec<usize>, usize) {
        let (tries, mut heard) = (Mutex::new(Vec::new()), 0);
        let call = |number: usize| {
            tries.lock().push(number);
            std::future::ready(answers[number].clone())
        };
        let result = retry(&PAUSES, |_| heard += 1, call).await;
        (result, tries.into_inner(), heard)
    }

    fn failure(kind: ErrorKind) -> Result<u8> {
        Err(BackendError::new(kind, "store", "a failure"))
    }

    #[tokio::test]
    async fn a_transient_failure_is_asked_again_and_no_other() {
        let down = || failure(ErrorKind::Unavailable);
        assert_eq!(asked(&[Ok(1)]).await, (Ok(1), vec![0], 0));
        assert_eq!(asked(&[down(), Ok(2)]).await, (Ok(2), vec![0, 1], 1));
        assert_eq!(asked(&[down(), down(), down(), Ok(3)]).await, (down(), vec![0, 1, 2], 2));
        let wrong = || failure(ErrorKind::Rejected);
        assert_eq!(asked(&[wrong(), Ok(4)]).await, (wrong(), vec![0], 0));
        assert_eq!(asked(&[down(), wrong(), Ok(5)]).await, (wrong(), vec![0, 1], 1));
    }
}
