//! What groups have committed. Blocking.

use std::collections::HashMap;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::Cluster;
use super::detached::Detached;
use super::errors::LastError;
use super::link::{GroupNoted, Noted};
use super::settings::PATIENCE;
use crate::Result;
use crate::log::{Committed, Partition};

/// What is written beside a committed offset begins with this; the topic's id follows. An offset of a deleted
/// topic must not count for its successor of the same name, not even one that a late member commits after the
/// recreation.
const NOTE: &str = "openbell:";

/// What to write beside an offset of a topic with this id.
pub(super) fn note(id: &str) -> String {
    if id.is_empty() { String::new() } else { format!("{NOTE}{id}") }
}

/// Whether an offset with this note belongs to a topic with this id. Offsets of other programs do.
pub(super) fn belongs(note: &str, id: &str) -> bool {
    note.strip_prefix(NOTE).is_none_or(|noted| id.is_empty() || noted == id)
}

impl Cluster {
    /// See [`Log::groups`](crate::log::Log::groups).
    pub(super) fn groups(&self) -> Result<Vec<(String, Vec<Committed>)>> {
        let found = match self.links.as_ref().map(super::link::Links::groups) {
            Some(found) => found?,
            None => None,
        };
        let found = match found {
            Some(found) => found,
            None => self.groups_one_by_one()?,
        };
        let noted = found.iter().any(|(_, offsets)| offsets.iter().any(|(_, note)| !note.is_empty()));
        let ids = if noted { self.ids(None)? } else { HashMap::new() };
        let mut groups: Vec<_> = found
            .into_iter()
            .map(|(group, offsets)| {
                let valid =
                    |(c, note): &Noted| belongs(note, ids.get(&c.partition.topic).map_or("", String::as_str));
                let mut offsets: Vec<_> =
                    offsets.into_iter().filter(valid).map(|(committed, _)| committed).collect();
                offsets.sort_by(|a, b| a.partition.cmp(&b.partition));
                (group, offsets)
            })
            .collect();
        groups.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(groups)
    }

    /// With the client library alone, which takes a client a group.
    pub(super) fn groups_one_by_one(&self) -> Result<Vec<GroupNoted>> {
        let (names, partitions) = self.group_names()?;
        names
            .into_iter()
            .map(|group| self.committed(&group, &partitions).map(|offsets| (group, offsets)))
            .collect()
    }

    fn committed(&self, group: &str, partitions: &[(String, u32)]) -> Result<Vec<Noted>> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let place = format!("{} group {group}", self.settings.place);
        let client =
            BaseConsumer::from_config_and_context(&self.settings.joining(group, None)?, LastError::default());
        let client = Detached::new(client.map_err(|e| LastError::default().explain(&place, &e))?);
        let mut list = TopicPartitionList::new();
        for (topic, count) in partitions {
            list.add_partition_range(topic, 0, *count as i32 - 1);
        }
        let found =
            client.committed_offsets(list, PATIENCE).map_err(|e| client.context().explain(&place, &e))?;
        Ok(noted(&found))
    }
}

/// The offsets of a list that has some, with their notes.
pub(super) fn noted(list: &TopicPartitionList) -> Vec<Noted> {
    let elements = list.elements();
    let committed = elements.iter().filter_map(|element| {
        let Offset::Offset(next) = element.offset() else { return None };
        let partition =
            Partition { topic: element.topic().to_owned(), number: u32::try_from(element.partition()).ok()? };
        Some((Committed { partition, next: u64::try_from(next).ok()? }, element.metadata().to_owned()))
    });
    committed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_ties_an_offset_to_its_topic() {
        assert!(belongs(&note("ab"), "ab") && !belongs(&note("ab"), "cd"));
        assert!(belongs("", "ab") && belongs("another program's", "ab") && belongs(&note("ab"), ""));
        assert_eq!(note(""), "");
    }
}
