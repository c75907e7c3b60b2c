use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const SPOOL: usize = 0;
const RAW: usize = 1;
const INDEX: usize = 2;

#[test]
fn finds_the_missing_the_doubled_and_the_foreign() {
    let mut counts = IdCounts::new(3);
    let id = |n: u32| format!("kis:2026-11-20:00593{}:{n}", n % 2);
    for n in 0..10 {
        assert!(counts.see(SPOOL, &id(n)));
        if n != 3 && n != 4 {
            counts.see(INDEX, &id(n));
        }
    }
    counts.see(SPOOL, &id(7));
    assert!(!counts.see(INDEX, &id(7)));
    counts.see(INDEX, "kis:2026-11-20:000660:1");
    counts.mark_refused(INDEX, &id(4));
    let account = counts.account(INDEX, &[SPOOL], 100);
    assert_eq!((account.unique, account.duplicates, account.missing, account.extra), (9, 1, 1, 1));
    assert_eq!(account.missing_ids, BTreeMap::from([("005931".to_owned(), vec![id(3)])]));
    let spool = counts.account(SPOOL, &[SPOOL], 100);
    assert_eq!((spool.unique, spool.duplicates, spool.missing), (10, 1, 0));
    let raw = counts.account(RAW, &[SPOOL], 2);
    assert_eq!(raw.missing_ids.values().flatten().count(), 2, "the list is bounded, the count is not");
    assert_eq!(raw.missing, 10);
}

proptest! {
    /// Whatever is seen in whichever of any number of hops: the accounts are those of plain sets.
    #[test]
    fn accounts_are_those_of_sets(
        hops in 1usize..9,
        seen in prop::collection::vec((0usize..9, 0u8..12), 0..200),
        refused in prop::collection::vec((0usize..9, 0u8..12), 0..20),
        spools in prop::collection::btree_set(0usize..9, 0..4),
    ) {
        let spools: Vec<usize> = spools.into_iter().filter(|s| *s < hops).collect();
        let mut ids = IdCounts::new(hops);
        let mut counts: BTreeMap<(usize, u8), u64> = BTreeMap::new();
        for (hop, id) in seen.into_iter().filter(|(hop, _)| *hop < hops) {
            let count = counts.entry((hop, id)).or_default();
            prop_assert_eq!(ids.see(hop, &id.to_string()), *count == 0);
            *count += 1;
        }
        let refused: BTreeSet<(usize, u8)> = refused.into_iter().filter(|(hop, _)| *hop < hops).collect();
        refused.iter().for_each(|(hop, id)| ids.mark_refused(*hop, &id.to_string()));
        for hop in 0..hops {
            let here: BTreeSet<u8> = counts.keys().filter(|(h, _)| *h == hop).map(|(_, id)| *id).collect();
            let wanted: BTreeSet<u8> = counts.keys().filter(|(h, _)| spools.contains(h)).map(|(_, id)| *id).collect();
            let total: u64 = counts.iter().filter(|((h, _), _)| *h == hop).map(|(_, n)| n).sum();
            let missing = wanted.difference(&here).filter(|id| !refused.contains(&(hop, **id))).count();
            let account = ids.account(hop, &spools, usize::MAX);
            prop_assert_eq!(account.unique, here.len() as u64);
            prop_assert_eq!(account.duplicates, total - here.len() as u64);
            prop_assert_eq!(account.extra, here.difference(&wanted).count() as u64);
            prop_assert_eq!(account.missing, missing as u64);
            prop_assert_eq!(account.missing_ids.values().flatten().count(), missing);
            here.iter().for_each(|id| assert!(ids.has(hop, &id.to_string())));
        }
    }
}
