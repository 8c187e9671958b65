//! Splits into training and test samples, by subject or by class. A function of labels and seed alone.

use std::collections::BTreeMap;

use crate::rng::{below, shuffle};
use crate::{Error, Result, stream_rng};

/// Places of the training samples, and of the test samples, both ascending.
pub type Split = (Vec<usize>, Vec<usize>);

/// `k` folds in which no identity is on both sides: fold `f` tests on its own identities and trains on all
/// others; every identity is tested exactly once.
///
/// Folds are balanced by samples: identities, shuffled, go from the largest to the smallest into the fold
/// that has the fewest samples so far.
///
/// # Errors
/// When `k` is below 2, or there are fewer than `k` identities.
///
/// ```
/// # fn main() -> phiz_data::Result<()> {
/// let identity = [0, 0, 1, 1, 2, 2, 3, 3];
/// for (train, test) in phiz_data::identity_folds(&identity, 4, 1)? {
///     assert_eq!((train.len(), test.len()), (6, 2));
///     assert!(test.iter().all(|t| train.iter().all(|r| identity[*r] != identity[*t])));
/// }
/// # Ok(()) }
/// ```
pub fn identity_folds(identity: &[u32], k: usize, seed: u64) -> Result<Vec<Split>> {
    let mut groups = shuffled_groups(identity, seed);
    check_folds(k, groups.len(), "identities")?;
    // Stable: equally large identities stay shuffled.
    groups.sort_by_key(|(_, members)| std::cmp::Reverse(members.len()));
    let mut fold_of: BTreeMap<u32, usize> = BTreeMap::new();
    let mut sizes = vec![(0usize, 0usize); k];
    for (code, members) in &groups {
        // Fewest samples, then fewest identities (empty identities cannot occur), then the first.
        let lightest = (0..k).min_by_key(|&f| (sizes[f], f)).unwrap_or(0);
        sizes[lightest].0 += members.len();
        sizes[lightest].1 += 1;
        fold_of.insert(*code, lightest);
    }
    let folds = from_assignment(
        &identity
            .iter()
            .map(|code| fold_of[code])
            .collect::<Vec<_>>(),
        k,
    );
    for (train, test) in &folds {
        assert_disjoint(identity, train, test)?;
    }
    Ok(folds)
}

/// One split in which no identity is on both sides; `test_fraction` of the identities, rounded and at least
/// one, are for testing.
///
/// # Errors
/// When the fraction is not between 0 and 1, or fewer than two identities are there.
pub fn split_by_identity(identity: &[u32], test_fraction: f64, seed: u64) -> Result<Split> {
    if !(test_fraction > 0.0 && test_fraction < 1.0) {
        return Err(Error::config(format!(
            "test fraction must lie between 0 and 1, not {test_fraction}"
        )));
    }
    let groups = shuffled_groups(identity, seed);
    if groups.len() < 2 {
        return Err(Error::config(format!(
            "a subject-independent split needs at least 2 identities, found {}",
            groups.len()
        )));
    }
    let tests = ((groups.len() as f64 * test_fraction).round() as usize).clamp(1, groups.len() - 1);
    let mut test: Vec<usize> = groups[..tests]
        .iter()
        .flat_map(|(_, members)| members.iter().copied())
        .collect();
    let mut train: Vec<usize> = groups[tests..]
        .iter()
        .flat_map(|(_, members)| members.iter().copied())
        .collect();
    test.sort_unstable();
    train.sort_unstable();
    assert_disjoint(identity, &train, &test)?;
    Ok((train, test))
}

/// `k` folds with about the same share of every class in each; people may be on both sides.
///
/// # Errors
/// When `k` is below 2 or above the number of samples.
pub fn stratified_folds(labels: &[u32], k: usize, seed: u64) -> Result<Vec<Split>> {
    check_folds(k, labels.len(), "samples")?;
    let mut fold = vec![0usize; labels.len()];
    // Dealt on from class to class, so that remainders do not pile up in the first folds.
    let mut next = 0;
    for (_, members) in shuffled_groups(labels, seed) {
        for member in members {
            fold[member] = next % k;
            next += 1;
        }
    }
    Ok(from_assignment(&fold, k))
}

/// One split with about `test_fraction` of every class for testing. A class of at least two samples
/// has at least one on either side; a single sample is for training.
///
/// # Errors
/// When the fraction is not between 0 and 1, or no sample is left for one side.
pub fn stratified_split(labels: &[u32], test_fraction: f64, seed: u64) -> Result<Split> {
    if !(test_fraction > 0.0 && test_fraction < 1.0) {
        return Err(Error::config(format!(
            "test fraction must lie between 0 and 1, not {test_fraction}"
        )));
    }
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (_, members) in shuffled_groups(labels, seed) {
        let most = members.len() - 1;
        let tests =
            ((members.len() as f64 * test_fraction).round() as usize).clamp(most.min(1), most);
        test.extend(&members[..tests]);
        train.extend(&members[tests..]);
    }
    if train.is_empty() || test.is_empty() {
        return Err(Error::config("no class has two samples: nothing to split"));
    }
    train.sort_unstable();
    test.sort_unstable();
    Ok((train, test))
}

fn check_folds(k: usize, most: usize, what: &str) -> Result<()> {
    if k < 2 || k > most {
        return Err(Error::config(format!(
            "{k} folds of {most} {what}: expected 2 to {most}"
        )));
    }
    Ok(())
}

/// Members of every class, both in random order.
fn shuffled_groups(codes: &[u32], seed: u64) -> Vec<(u32, Vec<usize>)> {
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (i, &code) in codes.iter().enumerate() {
        groups.entry(code).or_default().push(i);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    let mut rng = stream_rng(seed, "split", 0, 0);
    for i in (1..groups.len()).rev() {
        groups.swap(i, below(&mut rng, i + 1));
    }
    for (_, members) in &mut groups {
        shuffle(&mut rng, members);
    }
    groups
}

fn from_assignment(fold: &[usize], k: usize) -> Vec<Split> {
    (0..k)
        .map(|f| (0..fold.len()).partition(|&i| fold[i] != f))
        .collect()
}

/// Checks what every figure on unseen people rests on.
///
/// # Errors
/// When an identity is on both sides, or an index is out of range.
pub fn assert_disjoint(identity: &[u32], train: &[usize], test: &[usize]) -> Result<()> {
    crate::labels::check_indices(train, identity.len())?;
    crate::labels::check_indices(test, identity.len())?;
    let trained: std::collections::BTreeSet<u32> = train.iter().map(|&i| identity[i]).collect();
    match test
        .iter()
        .map(|&i| identity[i])
        .find(|code| trained.contains(code))
    {
        Some(code) => Err(Error::config(format!(
            "identity {code} is in training and in test"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn folds_are_disjoint_cover_everything_and_balance(
            identity in prop::collection::vec(0u32..12, 20..80), k in 2usize..5, seed in any::<u64>()
        ) {
            let distinct: std::collections::BTreeSet<_> = identity.iter().collect();
            prop_assume!(distinct.len() >= k);
            let folds = identity_folds(&identity, k, seed).unwrap();
            let mut tested: Vec<usize> = Vec::new();
            let largest = distinct.iter().map(|c| identity.iter().filter(|i| i == c).count()).max().unwrap();
            for (train, test) in &folds {
                assert_disjoint(&identity, train, test).unwrap();
                prop_assert_eq!(train.len() + test.len(), identity.len());
                prop_assert!(!test.is_empty());
                prop_assert!(test.len().abs_diff(identity.len() / k) <= largest);
                tested.extend(test);
            }
            tested.sort_unstable();
            prop_assert_eq!(tested, (0..identity.len()).collect::<Vec<_>>());
            prop_assert_eq!(&folds, &identity_folds(&identity, k, seed).unwrap());

            let (train, test) = split_by_identity(&identity, 0.3, seed).unwrap();
            assert_disjoint(&identity, &train, &test).unwrap();
            prop_assert_eq!(train.len() + test.len(), identity.len());
            prop_assert!(!train.is_empty() && !test.is_empty());
        }

        #[test]
        fn strata_keep_their_shares(labels in prop::collection::vec(0u32..4, 30..90), seed in any::<u64>()) {
            for (train, test) in stratified_folds(&labels, 3, seed).unwrap() {
                prop_assert_eq!(train.len() + test.len(), labels.len());
                for class in 0..4 {
                    let all = labels.iter().filter(|l| **l == class).count();
                    let here = test.iter().filter(|i| labels[**i] == class).count();
                    prop_assert!(here >= all / 3 && here <= all / 3 + 1);
                }
            }
            let (train, test) = stratified_split(&labels, 0.25, seed).unwrap();
            prop_assert_eq!(train.len() + test.len(), labels.len());
        }
    }

    #[test]
    fn impossible_splits_are_refused() {
        assert!(identity_folds(&[0, 0, 1], 3, 0).is_err());
        assert!(identity_folds(&[0, 1], 1, 0).is_err());
        assert_eq!(
            split_by_identity(&[5, 5], 0.5, 0).unwrap_err().to_string(),
            "a subject-independent split needs at least 2 identities, found 1"
        );
        assert!(split_by_identity(&[0, 1], 1.0, 0).is_err());
        assert!(stratified_split(&[0, 1, 2], 0.5, 0).is_err());
        assert!(assert_disjoint(&[0, 1, 0], &[0, 1], &[2]).is_err());
        assert_ne!(
            identity_folds(&[0, 1, 2, 3, 4, 5], 2, 0).unwrap(),
            identity_folds(&[0, 1, 2, 3, 4, 5], 2, 2).unwrap()
        );
    }
}
