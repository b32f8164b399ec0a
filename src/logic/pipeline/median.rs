//! The median of the last good values: a single wild one never shows.

use std::collections::VecDeque;

use crate::limits::MEDIAN_MAX;
use crate::model::Value;

/// The last good values of one kind.
#[derive(Debug)]
pub(super) struct Median {
    size: usize,
    window: VecDeque<Value>,
}

impl Median {
    /// Over so many values; `None` passes each as it is.
    pub(super) fn new(size: Option<usize>) -> Self {
        Self { size: size.unwrap_or(1).clamp(1, MEDIAN_MAX), window: VecDeque::new() }
    }

    /// Takes a value in. Until the window is full, the median of what is there; of an even number the lower middle one, which was measured,
    /// where a mean of two was not.
    pub(super) fn push(&mut self, value: Value) -> Value {
        if self.size == 1 {
            return value;
        }
        if self.window.len() == self.size {
            self.window.pop_front();
        }
        self.window.push_back(value.clone());
        let mut sorted: Vec<(f64, &Value)> =
            self.window.iter().filter_map(|value| value.as_f64().map(|number| (number, value))).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        sorted.get(sorted.len().saturating_sub(1) / 2).map_or(value, |(_, middle)| (*middle).clone())
    }

    /// Forgets all values.
    pub(super) fn clear(&mut self) {
        self.window.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(median: &mut Median, values: &[i64]) -> Vec<Value> {
        values.iter().map(|value| median.push(Value::Integer(*value))).collect()
    }

    fn integers(values: &[i64]) -> Vec<Value> {
        values.iter().copied().map(Value::Integer).collect()
    }

    #[test]
    fn a_wild_value_does_not_show() {
        let mut median = Median::new(Some(3));
        assert_eq!(push(&mut median, &[20, 21, 85, 22, 22]), integers(&[20, 20, 21, 22, 22]));
    }

    #[test]
    fn it_begins_anew_after_it_was_cleared() {
        let mut median = Median::new(Some(3));
        push(&mut median, &[1, 1, 1]);
        median.clear();
        assert_eq!(push(&mut median, &[9]), integers(&[9]));
    }

    #[test]
    fn without_one_values_pass() {
        assert_eq!(push(&mut Median::new(None), &[5, 85, 5]), integers(&[5, 85, 5]));
    }
}
