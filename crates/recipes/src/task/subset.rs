//! Few-shot subsets: nested parts of the training images by a named rule.

use std::collections::BTreeMap;

use phiz_data::{Labels, epoch_order};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How a share of the training images is drawn. Smaller shares of one seed lie within larger ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Any images: landmarks and 3D.
    Uniform,
    /// The share of each expression, at least one image each.
    Stratified,
    /// The share of each person's images, at least one each: sets of video.
    WithinSubject,
    /// All images of the share of the people, at least one person.
    Subjects,
}

impl Rule {
    /// The rule in words, for the record of a run.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Uniform => "the first round(fraction n) images of a shuffled order, at least one",
            Self::Stratified => {
                "of each expression the first round(fraction n) images of a shuffled order, at least one"
            }
            Self::WithinSubject => {
                "of each person the first round(fraction n) images of a shuffled order, at least one"
            }
            Self::Subjects => {
                "all images of the first round(fraction n) people of a shuffled order, at least one"
            }
        }
    }
}

/// The members of `pool` (indices into the data set that `labels` are of) that make up `fraction` of it, ascending.
///
/// # Errors
/// When the rule needs a label that is not there, or the fraction is not above 0 and at most 1.
pub fn nested_subset(
    labels: &Labels,
    pool: &[usize],
    rule: Rule,
    fraction: f64,
    seed: u64,
) -> Result<Vec<usize>> {
    if !(fraction > 0. && fraction <= 1.) {
        return Err(Error::config(format!(
            "a fraction must be above 0 and at most 1, found {fraction}"
        )));
    }
    let share = |n: usize| ((fraction * n as f64).round() as usize).clamp(1, n.max(1));
    // The order of a group depends on the seed and the group's own members alone.
    let first = |members: &[usize], stream: u64| -> Vec<usize> {
        let order = epoch_order(members.len(), seed, stream);
        let kept = order.into_iter().take(share(members.len()));
        kept.filter_map(|at| members.get(at).copied()).collect()
    };
    let groups = |label: &str| -> Result<BTreeMap<u32, Vec<usize>>> {
        let codes = labels.codes(label)?;
        let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for &index in pool {
            let code = codes.get(index).copied().unwrap_or_default();
            groups.entry(code).or_default().push(index);
        }
        Ok(groups)
    };
    let within = |label: &str| -> Result<Vec<usize>> {
        let parts = groups(label)?;
        let parts = parts.iter().map(|(code, m)| first(m, u64::from(*code) + 1));
        Ok(parts.flatten().collect())
    };
    let mut chosen = match rule {
        Rule::Uniform => first(pool, 0),
        Rule::Stratified => within("expression")?,
        Rule::WithinSubject => within("identity")?,
        Rule::Subjects => {
            let people: Vec<Vec<usize>> = groups("identity")?.into_values().collect();
            let numbers: Vec<usize> = (0..people.len()).collect();
            let kept = first(&numbers, 0).into_iter();
            kept.filter_map(|at| people.get(at))
                .flatten()
                .copied()
                .collect()
        }
    };
    chosen.sort_unstable();
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use phiz_data::Column;

    fn labels() -> Labels {
        let mut labels = Labels::new(600);
        let people: Vec<String> = (0..600).map(|i| format!("p{}", i / 30)).collect();
        let moods: Vec<String> = (0..600).map(|i| format!("e{}", i % 7 % 4)).collect();
        labels
            .insert("identity", Column::from_names(&people))
            .unwrap();
        labels
            .insert("expression", Column::from_names(&moods))
            .unwrap();
        labels
    }

    #[test]
    fn subsets_are_nested_and_follow_their_rule() {
        let labels = labels();
        let pool: Vec<usize> = (0..600).filter(|i| i % 5 != 0).collect();
        for rule in [
            Rule::Uniform,
            Rule::Stratified,
            Rule::WithinSubject,
            Rule::Subjects,
        ] {
            for seed in 0..3 {
                let part = |f| nested_subset(&labels, &pool, rule, f, seed).unwrap();
                assert_eq!(part(1.), pool, "{rule:?}");
                let (ten, two, one) = (part(0.1), part(0.02), part(0.01));
                for (small, large) in [(&ten, &pool), (&two, &ten), (&one, &two)] {
                    assert!(small.iter().all(|i| large.contains(i)), "{rule:?}");
                }
                // Two of twenty people may be the same two by chance.
                let other = |seed| nested_subset(&labels, &pool, rule, 0.1, seed).unwrap();
                assert!((seed + 9..seed + 12).any(|seed| other(seed) != ten));
            }
        }
        let count = |label: &str, part: &[usize]| {
            let codes = labels.codes(label).unwrap();
            let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
            for &i in part {
                *counts.entry(codes[i]).or_default() += 1;
            }
            counts
        };
        let part = |rule, f| nested_subset(&labels, &pool, rule, f, 1).unwrap();
        let each = count("identity", &part(Rule::WithinSubject, 0.1));
        assert!(
            each.len() == 20 && each.values().all(|n| *n == 2),
            "{each:?}"
        );
        let least = count("identity", &part(Rule::WithinSubject, 0.01));
        assert!(least.len() == 20 && least.values().all(|n| *n == 1));
        let people = count("identity", &part(Rule::Subjects, 0.1));
        assert!(people.len() == 2 && people.values().all(|n| *n == 24));
        assert_eq!(part(Rule::Uniform, 0.02).len(), 10);
        let whole = count("expression", &pool);
        for (class, n) in count("expression", &part(Rule::Stratified, 0.1)) {
            assert_eq!(n, (0.1 * whole[&class] as f64).round() as usize);
        }
        assert!(nested_subset(&labels, &pool, Rule::Uniform, 0., 1).is_err());
        assert!(nested_subset(&Labels::new(600), &pool, Rule::Subjects, 0.5, 1).is_err());
    }
}
