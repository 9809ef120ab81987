//! Lookups by the beginning of texts and by the order of numbers.

use std::cmp::Ordering;

/// Texts, of which those are looked up that a given text begins with.
#[derive(Debug)]
pub(super) struct Prefixes<T> {
    /// Sorted; each with the place of the longest other one that it begins with.
    texts: Vec<(Box<[u8]>, Option<u32>, T)>,
}

impl<T> Prefixes<T> {
    /// Each text must be there once.
    pub(super) fn of(texts: impl IntoIterator<Item = (Box<[u8]>, T)>) -> Self {
        let mut texts: Vec<_> = texts.into_iter().map(|(text, target)| (text, None, target)).collect();
        texts.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        // Those that the one before begins with, itself included; of a sorted list the next one's are on top.
        let mut open: Vec<u32> = Vec::new();
        for at in 0..texts.len() {
            while let Some(top) = open.last() {
                if texts[at].0.starts_with(&texts[*top as usize].0) {
                    break;
                }
                open.pop();
            }
            texts[at].1 = open.last().copied();
            open.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        Self { texts }
    }

    /// Calls with what belongs to each text that the given one begins with.
    pub(super) fn find<'t>(&'t self, given: &[u8], call: impl FnMut(&'t T)) {
        self.find_by(|text| text.cmp(given), |text| given.starts_with(text), call);
    }

    /// The same for a text that is given from its end.
    pub(super) fn find_reversed<'t>(&'t self, given: &[u8], call: impl FnMut(&'t T)) {
        let ends =
            |text: &[u8]| text.len() <= given.len() && text.iter().eq(given.iter().rev().take(text.len()));
        self.find_by(|text| text.iter().cmp(given.iter().rev()), ends, call);
    }

    fn find_by<'t>(
        &'t self,
        order: impl Fn(&[u8]) -> Ordering,
        begins: impl Fn(&[u8]) -> bool,
        mut call: impl FnMut(&'t T),
    ) {
        let after = self.texts.partition_point(|(text, ..)| order(text).is_le());
        let mut next = after.checked_sub(1);
        while let Some(at) = next {
            let (text, shorter, target) = &self.texts[at];
            if begins(text) {
                call(target);
            }
            next = shorter.map(|shorter| shorter as usize);
        }
    }
}

/// Bounds, of which those are looked up that a number reaches.
#[derive(Debug)]
pub(super) struct Bounds<T> {
    /// In the order in which numbers reach them.
    bounds: Vec<(f64, T)>,
    /// Smaller numbers reach more of them.
    upper: bool,
}

impl<T> Bounds<T> {
    pub(super) fn lower(mut bounds: Vec<(f64, T)>) -> Self {
        bounds.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        Self { bounds, upper: false }
    }

    pub(super) fn upper(mut bounds: Vec<(f64, T)>) -> Self {
        bounds.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        Self { bounds, upper: true }
    }

    /// Those that the number reaches.
    pub(super) fn find(&self, number: f64) -> &[(f64, T)] {
        let upper = self.upper;
        let end =
            self.bounds.partition_point(|(bound, _)| if upper { *bound >= number } else { *bound <= number });
        &self.bounds[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn prefixes_are_those_that_it_begins_with(
            texts in prop::collection::btree_set("[ab]{1,5}", 0..20),
            given in "[abc]{0,7}",
        ) {
            let table = Prefixes::of(texts.iter().map(|text| (text.as_bytes().into(), text.clone())));
            let (mut found, mut found_reversed) = (Vec::new(), Vec::new());
            table.find(given.as_bytes(), |text| found.push(text.clone()));
            let reversed: Vec<u8> = given.bytes().rev().collect();
            table.find_reversed(&reversed, |text| found_reversed.push(text.clone()));
            prop_assert_eq!(&found, &found_reversed);
            found.sort();
            let expected: Vec<_> = texts.into_iter().filter(|text| given.starts_with(text)).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn bounds_are_those_that_it_reaches(bounds in prop::collection::vec(-4..5_i32, 0..9), number in -5..6_i32) {
            let given = || bounds.iter().map(|bound| (f64::from(*bound), *bound)).collect::<Vec<_>>();
            let count = |table: &Bounds<i32>| table.find(f64::from(number)).len();
            let expected = |holds: fn(&i32, &i32) -> bool| bounds.iter().filter(|b| holds(b, &number)).count();
            prop_assert_eq!(count(&Bounds::lower(given())), expected(|bound, number| bound <= number));
            prop_assert_eq!(count(&Bounds::upper(given())), expected(|bound, number| bound >= number));
        }
    }
}
