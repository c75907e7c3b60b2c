//! Faults of the client library as faults of a store.

use parking_lot::{Mutex, MutexGuard};
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::{BackendError, ErrorKind};

/// Keeps what the library last said was wrong, which is often the cause behind a call that merely ran out of
/// time.
#[derive(Default)]
pub(super) struct LastError(Mutex<Option<(Option<Code>, String)>>);

impl LastError {
    pub(super) fn record(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
        let refuses = |code: Option<Code>| code.is_some_and(|c| kind(c) == ErrorKind::Forbidden);
        let code = error.rdkafka_error_code();
        let mut last_error = self.lock();
        // A broker that refuses us is then called "down": the refusal is what matters.
        if refuses(code) || !last_error.as_ref().is_some_and(|(known, _)| refuses(*known)) {
            *last_error = Some((code, reason.to_owned()));
        }
    }

    /// The cluster answers: what went wrong before is over.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Option<Code>, String)>> {
        self.0.lock()
    }

    /// The error of a call.
    pub(super) fn explain(&self, place: &str, error: &KafkaError) -> BackendError {
        let code = error.rdkafka_error_code();
        let mut kind = code.map_or(ErrorKind::Unavailable, kind);
        let mut message = lower(&code.map_or_else(|| error.to_string(), |c| c.to_string()));
        if kind == ErrorKind::Unavailable
            && let Some((cause, reason)) = &*self.lock()
        {
            if cause.is_some_and(|c| self::kind(c) == ErrorKind::Forbidden) {
                kind = ErrorKind::Forbidden;
            }
            message = format!("{message}: {}", reason.trim());
        }
        BackendError::new(kind, place, message).remedy(remedy(kind, code))
    }
}

impl ClientContext for LastError {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.record(&error, reason);
    }
}

impl ConsumerContext for LastError {}

/// The library warns of every lost connection; callers say what matters of it.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    if (level as i32) <= RDKafkaLogLevel::Critical as i32 {
        tracing::error!(facility, "kafka: {message}");
    } else {
        tracing::debug!(facility, "kafka: {message}");
    }
}

/// What a caller can do about a code.
pub(super) fn kind(code: Code) -> ErrorKind {
    match code {
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId => ErrorKind::NotFound,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::SSL
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => ErrorKind::Forbidden,
        Code::QueueFull | Code::ThrottlingQuotaExceeded => ErrorKind::Busy,
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidRecord
        | Code::InvalidTimestamp
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidConfig
        | Code::InvalidRequest
        | Code::InvalidArgument
        | Code::InvalidGroupId
        | Code::PolicyViolation
        | Code::TopicDeletionDisabled
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::InconsistentGroupProtocol
        | Code::OffsetMetadataTooLarge
        | Code::OffsetOutOfRange => ErrorKind::Rejected,
        Code::InvalidMessage | Code::BadMessage | Code::BadCompression | Code::InvalidMessageSize => {
            ErrorKind::Corrupt
        }
        Code::UnknownMemberId
        | Code::IllegalGeneration
        | Code::RebalanceInProgress
        | Code::FencedMemberEpoch
        | Code::StaleMemberEpoch
        | Code::UnreleasedInstanceId
        | Code::AssignmentLost => ErrorKind::Fenced,
        Code::FencedInstanceId => ErrorKind::Replaced,
        _ => ErrorKind::Unavailable,
    }
}

/// Faults that the library itself gets over, as long as somebody goes on polling.
pub(super) fn passing(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::UnknownTopicOrPartition
            | Code::UnknownTopic
            | Code::UnknownTopicId
            | Code::UnknownPartition
            | Code::NetworkException
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::WaitingForCoordinator
            | Code::PollExceeded
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::DestroyBroker
    )
}

fn remedy(kind: ErrorKind, code: Option<Code>) -> &'static str {
    match (kind, code) {
        (_, Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge)) => {
            "raise max.message.bytes of the topic, or send smaller records"
        }
        (_, Some(Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend)) => {
            "bring the missing brokers back, or lower min.insync.replicas of the topic"
        }
        (_, Some(Code::InvalidReplicationFactor)) => {
            "write replication=N with no more than there are brokers into the address"
        }
        (_, Some(Code::InconsistentGroupProtocol)) => {
            "members of another program are in this group: give the step a group of its own"
        }
        (ErrorKind::Forbidden, _) => {
            "check user, password, security and mechanism of the address, and the user's rights"
        }
        (ErrorKind::NotFound, _) => "create the topic with a topics step",
        (ErrorKind::Unavailable, _) => "see whether the brokers run and can be reached from here",
        _ => "",
    }
}

fn lower(text: &str) -> String {
    // "MessageTimedOut (Local: Message timed out)": what is in the brackets is for people.
    let text = text.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(text);
    let text = text.strip_prefix("Local: ").or_else(|| text.strip_prefix("Broker: ")).unwrap_or(text);
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_heard_before_explains_a_call_that_ran_out_of_time() {
        let last_error = LastError::default();
        let late = KafkaError::MetadataFetch(Code::OperationTimedOut);
        let error = last_error.explain("kafka a:1", &late);
        assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Unavailable, "timed out"));
        last_error.record(&KafkaError::Global(Code::Authentication), "a:1: SASL authentication error");
        let error = last_error.explain("kafka a:1", &late);
        assert_eq!(error.kind, ErrorKind::Forbidden);
        assert!(error.message.contains("SASL") && error.remedy.contains("password"), "{error}");
        last_error.record(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
        assert_eq!(last_error.explain("kafka a:1", &late).kind, ErrorKind::Forbidden);
        last_error.forget();
        assert_eq!(last_error.explain("kafka a:1", &late).kind, ErrorKind::Unavailable);
        // Another fault keeps its own kind.
        let missing = last_error.explain("kafka a:1", &KafkaError::MessageProduction(Code::UnknownTopic));
        assert_eq!(missing.kind, ErrorKind::NotFound);
    }
}
