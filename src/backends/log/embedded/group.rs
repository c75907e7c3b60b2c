//! A consumer group as a state machine: who has which partition. Time is an argument.
//!
//! A partition moves in three steps, so that two members never have it at once: its owner is told
//! (`Revoked`), the owner's next turn gives it up, the new owner's next turn gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::offsets::CommittedOffsets;
use crate::log::Partition;

/// A member of a group, never the same twice in a process.
pub(super) type MemberId = u64;

#[derive(Debug)]
struct Member {
    topics: Vec<String>,
    /// End of its last call.
    seen: Instant,
    /// Calls going on; a member at work is alive.
    calls: u32,
    /// Revocations it was told of; its next turn gives them up.
    told: BTreeSet<Partition>,
    /// Partitions that went away without asking it.
    lost: Vec<Partition>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Group {
    members: BTreeMap<MemberId, Member>,
    owners: BTreeMap<Partition, MemberId>,
    /// Who joined last under a name; also after it was put out, until it leaves.
    names: BTreeMap<String, MemberId>,
    /// Whose place another one has taken, until they leave.
    replaced: BTreeSet<MemberId>,
    pub(super) committed: CommittedOffsets,
}

/// What a member's turn brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was put out, for example because it did not poll for too long.
    PutOut,
    /// Another one joined under its name.
    Replaced,
    /// Tell it that these go.
    Revoked(Vec<Partition>),
    /// These are its own now.
    Assigned(Vec<Partition>),
    /// Nothing of the group's; look again at this time at the latest, when another member's time may be up.
    Read { look_again: Option<Instant> },
}

impl Group {
    pub(super) fn new(committed: CommittedOffsets) -> Self {
        Self {
            members: BTreeMap::new(),
            owners: BTreeMap::new(),
            names: BTreeMap::new(),
            replaced: BTreeSet::new(),
            committed,
        }
    }

    /// A new member; under a name it takes the place of whoever had it.
    pub(super) fn join(&mut self, id: MemberId, topics: &[String], name: Option<&str>, now: Instant) {
        if let Some(before) = name.and_then(|name| self.names.insert(name.to_owned(), id)) {
            self.remove(before);
            self.replaced.insert(before);
        }
        let member =
            Member { topics: topics.to_vec(), seen: now, calls: 0, told: BTreeSet::new(), lost: Vec::new() };
        self.members.insert(id, member);
    }

    pub(super) fn leave(&mut self, id: MemberId) {
        self.remove(id);
        self.names.retain(|_, holder| *holder != id);
        self.replaced.remove(&id);
    }

    fn remove(&mut self, id: MemberId) {
        self.members.remove(&id);
        self.owners.retain(|_, owner| *owner != id);
    }

    /// Whether another one has taken this member's place.
    pub(super) fn is_replaced(&self, id: MemberId) -> bool {
        self.replaced.contains(&id)
    }

    pub(super) fn owns(&self, id: MemberId, partition: &Partition) -> bool {
        self.owners.get(partition) == Some(&id)
    }

    /// A partition that was assigned, but is not there any more.
    pub(super) fn release(&mut self, id: MemberId, partition: &Partition) {
        if self.owns(id, partition) {
            self.owners.remove(partition);
        }
    }

    /// A call of this member begins.
    pub(super) fn begin(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.calls += 1;
        }
    }

    /// A call of this member ended.
    pub(super) fn end(&mut self, id: MemberId, now: Instant) {
        if let Some(member) = self.members.get_mut(&id) {
            member.calls = member.calls.saturating_sub(1);
            member.seen = now;
        }
    }

    /// A deleted topic's partitions belong to nobody, and its offsets are void.
    pub(super) fn forget_topic(&mut self, topic: &str) {
        self.owners.retain(|partition, owner| {
            let gone = partition.topic == topic;
            if gone && let Some(member) = self.members.get_mut(owner) {
                member.told.remove(partition);
                member.lost.push(partition.clone());
            }
            !gone
        });
        self.committed.retain(|p, _| p.topic != topic);
    }

    /// A member polls. `partitions` says how many each topic has. The flag tells whether others should have
    /// their turn too.
    pub(super) fn turn(
        &mut self,
        id: MemberId,
        partitions: &BTreeMap<String, u32>,
        now: Instant,
        timeout: Duration,
    ) -> (Turn, bool) {
        if self.is_replaced(id) {
            return (Turn::Replaced, false);
        }
        let mut changed = self.put_out_silent(id, now, timeout);
        let Some(member) = self.members.get_mut(&id) else { return (Turn::PutOut, changed) };
        member.seen = now;
        for partition in std::mem::take(&mut member.told) {
            self.owners.remove(&partition);
            changed = true;
        }
        if !member.lost.is_empty() {
            return (Turn::Revoked(std::mem::take(&mut member.lost)), changed);
        }
        let target = self.target(partitions);
        let going: Vec<_> = self
            .owners
            .iter()
            .filter(|(p, owner)| **owner == id && target.get(p) != Some(&id))
            .map(|(p, _)| p.clone())
            .collect();
        if !going.is_empty() {
            if let Some(member) = self.members.get_mut(&id) {
                member.told.extend(going.iter().cloned());
            }
            return (Turn::Revoked(going), changed);
        }
        let coming: Vec<_> = target
            .into_iter()
            .filter(|(p, to)| *to == id && !self.owners.contains_key(p))
            .map(|(p, _)| p)
            .collect();
        if !coming.is_empty() {
            self.owners.extend(coming.iter().map(|p| (p.clone(), id)));
            return (Turn::Assigned(coming), changed);
        }
        let idle = self.members.iter().filter(|(other, m)| **other != id && m.calls == 0);
        (Turn::Read { look_again: idle.map(|(_, m)| m.seen + timeout).min() }, changed)
    }

    /// Puts out members, other than the one whose turn it is, that have been silent for too long.
    fn put_out_silent(&mut self, id: MemberId, now: Instant, timeout: Duration) -> bool {
        let silent: Vec<_> = self
            .members
            .iter()
            .filter(|(m, member)| **m != id && member.calls == 0 && now >= member.seen + timeout)
            .map(|(m, _)| *m)
            .collect();
        for member in &silent {
            self.remove(*member);
        }
        !silent.is_empty()
    }

    /// Who should have what: per topic evenly among those who want it, moving as little as possible.
    fn target(&self, partitions: &BTreeMap<String, u32>) -> BTreeMap<Partition, MemberId> {
        let mut target = BTreeMap::new();
        let mut totals: BTreeMap<MemberId, usize> = self.members.keys().map(|m| (*m, 0)).collect();
        for (topic, count) in partitions {
            let wanting: Vec<_> =
                self.members.iter().filter(|(_, m)| m.topics.contains(topic)).map(|(id, _)| *id).collect();
            if wanting.is_empty() {
                continue;
            }
            let least = *count as usize / wanting.len();
            let mut with_one_more = *count as usize % wanting.len();
            let mut shares: BTreeMap<MemberId, usize> = wanting.iter().map(|m| (*m, 0)).collect();
            let mut free = Vec::new();
            for number in 0..*count {
                let partition = Partition { topic: topic.clone(), number };
                let kept = self.owners.get(&partition).filter(|owner| match shares.get_mut(owner) {
                    Some(share) if *share < least => true,
                    Some(share) if *share == least && with_one_more > 0 => {
                        with_one_more -= 1;
                        true
                    }
                    _ => false,
                });
                match kept {
                    Some(owner) => {
                        *shares.entry(*owner).or_default() += 1;
                        *totals.entry(*owner).or_default() += 1;
                        target.insert(partition, *owner);
                    }
                    None => free.push(partition),
                }
            }
            for partition in free {
                let Some(to) = wanting.iter().copied().min_by_key(|m| (shares[m], totals[m], *m)) else {
                    continue;
                };
                *shares.entry(to).or_default() += 1;
                *totals.entry(to).or_default() += 1;
                target.insert(partition, to);
            }
        }
        target
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[derive(Debug, Clone)]
    enum Step {
        Join(u64),
        JoinUnderTheName(u64),
        Leave(u64),
        Turn(u64),
        Wait(u64),
        Delete,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            2 => (0u64..4).prop_map(Step::Join),
            2 => (4u64..7).prop_map(Step::JoinUnderTheName),
            1 => (0u64..7).prop_map(Step::Leave),
            12 => (0u64..7).prop_map(Step::Turn),
            1 => (1u64..12).prop_map(Step::Wait),
            1 => Just(Step::Delete),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// However members come, go and fall silent: a partition is never with two who both believe in it,
        /// and once they all poll, everything is with somebody, evenly.
        #[test]
        fn partitions_are_never_shared_and_always_end_up_somewhere(steps in steps(), count in 1u32..7) {
            let topics = BTreeMap::from([("t".to_owned(), count)]);
            let wanted = ["t".to_owned()];
            let mut now = Instant::now();
            let mut group = Group::new(BTreeMap::new());
            let mut believed: BTreeMap<u64, BTreeSet<Partition>> = BTreeMap::new();
            let turn = |group: &mut Group, believed: &mut BTreeMap<u64, BTreeSet<Partition>>, id: u64, now: Instant| {
                // What it was told of in its last turn is given up by this one.
                let told = group.members.get(&id).map(|m| m.told.clone()).unwrap_or_default();
                let (turn, _) = group.turn(id, &topics, now, TIMEOUT);
                let mine = believed.entry(id).or_default();
                mine.retain(|p| !told.contains(p));
                match &turn {
                    Turn::PutOut | Turn::Replaced => mine.clear(),
                    Turn::Assigned(new) => mine.extend(new.iter().cloned()),
                    Turn::Revoked(_) | Turn::Read { .. } => {}
                }
                turn
            };
            for step in steps {
                match step {
                    Step::Join(id) => if !group.members.contains_key(&id) {
                        believed.remove(&id);
                        group.join(id, &wanted, None, now);
                    },
                    Step::JoinUnderTheName(id) => if !group.members.contains_key(&id) {
                        group.leave(id);
                        believed.remove(&id);
                        group.join(id, &wanted, Some("n"), now);
                    },
                    Step::Leave(id) => { group.leave(id); believed.remove(&id); }
                    Step::Turn(id) => { turn(&mut group, &mut believed, id, now); }
                    Step::Wait(seconds) => now += Duration::from_secs(seconds),
                    Step::Delete => group.forget_topic("t"),
                }
                let named: Vec<_> = group.members.keys().filter(|id| **id >= 4).collect();
                prop_assert!(named.len() <= 1, "{named:?} are under one name");
                // A member that owns a partition is the only one; others may believe, but they are fenced.
                for (partition, owner) in &group.owners {
                    prop_assert!(group.members.contains_key(owner), "{partition} is with nobody");
                    prop_assert!(believed.get(owner).is_some_and(|b| b.contains(partition)), "{partition} was never assigned to {owner}");
                }
            }
            let members: Vec<_> = group.members.keys().copied().collect();
            for _ in 0..6 {
                for id in &members {
                    turn(&mut group, &mut believed, *id, now);
                }
            }
            if !members.is_empty() {
                // Silent ones may have been put out on the way; those left share everything.
                let left = group.members.len();
                prop_assert_eq!(group.owners.len(), count as usize);
                for id in group.members.keys() {
                    let share = group.owners.values().filter(|o| *o == id).count();
                    prop_assert!(share >= count as usize / left && share <= (count as usize).div_ceil(left), "{} has {}", id, share);
                    let (settled, _) = group.clone_turn(*id, &topics, now);
                    prop_assert!(matches!(settled, Turn::Read { .. }), "{:?}", settled);
                }
            }
        }
    }

    impl Group {
        fn clone_turn(&self, id: MemberId, topics: &BTreeMap<String, u32>, now: Instant) -> (Turn, bool) {
            let members = self.members.iter().map(|(id, m)| {
                (
                    *id,
                    Member {
                        topics: m.topics.clone(),
                        seen: m.seen,
                        calls: m.calls,
                        told: m.told.clone(),
                        lost: m.lost.clone(),
                    },
                )
            });
            let mut copy = Group {
                members: members.collect(),
                owners: self.owners.clone(),
                names: self.names.clone(),
                replaced: self.replaced.clone(),
                committed: self.committed.clone(),
            };
            copy.turn(id, topics, now, TIMEOUT)
        }
    }

    #[test]
    fn a_member_in_a_call_is_never_put_out() {
        let topics = BTreeMap::from([("t".to_owned(), 2)]);
        let start = Instant::now();
        let mut group = Group::new(BTreeMap::new());
        group.join(1, &["t".to_owned()], None, start);
        group.turn(1, &topics, start, TIMEOUT);
        group.begin(1);
        group.join(2, &["t".to_owned()], None, start);
        let late = start + 3 * TIMEOUT;
        assert_eq!(group.turn(2, &topics, late, TIMEOUT).0, Turn::Read { look_again: None });
        group.end(1, late);
        assert_eq!(group.turn(2, &topics, late, TIMEOUT).0, Turn::Read { look_again: Some(late + TIMEOUT) });
        let (turn, changed) = group.turn(2, &topics, late + TIMEOUT, TIMEOUT);
        assert!(matches!(turn, Turn::Assigned(all) if all.len() == 2) && changed);
        assert_eq!(group.turn(1, &topics, late, TIMEOUT).0, Turn::PutOut);
    }

    #[test]
    fn a_name_has_one_member_whatever_became_of_the_one_before() {
        let topics = BTreeMap::from([("t".to_owned(), 2)]);
        let wanted = ["t".to_owned()];
        let start = Instant::now();
        let mut group = Group::new(BTreeMap::new());
        let all = |turn: &Turn| matches!(turn, Turn::Assigned(all) if all.len() == 2);
        group.join(1, &wanted, Some("n"), start);
        assert!(all(&group.turn(1, &topics, start, TIMEOUT).0));
        // In the middle of a call, and of a hand-over.
        group.begin(1);
        group.join(2, &wanted, Some("n"), start);
        assert!(all(&group.turn(2, &topics, start, TIMEOUT).0));
        assert_eq!(group.turn(1, &topics, start, TIMEOUT).0, Turn::Replaced);
        group.leave(1);
        assert!(
            group.owns(2, &Partition { topic: "t".into(), number: 0 }),
            "one that was replaced has nothing to leave"
        );
        // Put out before: it must not come back into the place of its successor.
        let late = start + TIMEOUT;
        group.join(3, &wanted, None, late);
        assert!(all(&group.turn(3, &topics, late, TIMEOUT).0));
        group.join(4, &wanted, Some("n"), late);
        assert_eq!(group.turn(2, &topics, late, TIMEOUT).0, Turn::Replaced);
        group.leave(4);
        group.leave(2);
        assert!(group.names.is_empty() && group.replaced.is_empty());
    }
}
