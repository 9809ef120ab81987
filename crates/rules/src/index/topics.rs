//! Which topic patterns cover a topic.

use model::topic::{OWN_PREFIX, Topic, TopicPattern};
use rustc_hash::FxHashMap;

/// Patterns by number, found without looking at each.
#[derive(Debug)]
pub(super) struct Topics {
    exact: FxHashMap<Box<str>, u32>,
    /// The patterns with wildcards, token by token; the first is the beginning.
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    named: FxHashMap<Box<str>, u32>,
    /// What follows a `*`.
    any: Option<u32>,
    /// The pattern that ends here.
    end: Option<u32>,
    /// The pattern that ends here with `>`.
    rest: Option<u32>,
}

impl Topics {
    /// No patterns.
    pub(super) fn new() -> Self {
        Self { exact: FxHashMap::default(), nodes: vec![Node::default()] }
    }

    /// The pattern's number; `next` if it is new.
    pub(super) fn number(&mut self, pattern: &TopicPattern, next: u32) -> u32 {
        if pattern.is_exact() {
            return *self.exact.entry(pattern.as_str().into()).or_insert(next);
        }
        let mut at = 0;
        for token in pattern.as_str().split('.') {
            if token == ">" {
                return *self.nodes[at].rest.get_or_insert(next);
            }
            let new = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
            let node = &mut self.nodes[at];
            let below = match token {
                "*" => *node.any.get_or_insert(new),
                named => *node.named.entry(named.into()).or_insert(new),
            };
            if below == new {
                self.nodes.push(Node::default());
            }
            at = below as usize;
        }
        *self.nodes[at].end.get_or_insert(next)
    }

    /// The numbers of all patterns that cover the topic.
    pub(super) fn covering(&self, topic: &Topic) -> Vec<u32> {
        let mut found: Vec<u32> = self.exact.get(topic.as_str()).copied().into_iter().collect();
        let beginning = &self.nodes[0];
        if !topic.is_own() {
            self.walk(beginning, Some(topic.as_str()), &mut found);
        } else if let Some(own) = beginning.named.get(OWN_PREFIX) {
            // Our own topics are covered only by patterns that name them.
            let rest = topic.as_str().split_once('.').map(|(_, rest)| rest);
            self.walk(&self.nodes[*own as usize], rest, &mut found);
        }
        found
    }

    fn walk(&self, node: &Node, tokens: Option<&str>, found: &mut Vec<u32>) {
        let Some(tokens) = tokens else {
            found.extend(node.end);
            return;
        };
        found.extend(node.rest);
        let (token, rest) = match tokens.split_once('.') {
            Some((token, rest)) => (token, Some(rest)),
            None => (tokens, None),
        };
        for below in node.named.get(token).into_iter().chain(&node.any) {
            self.walk(&self.nodes[*below as usize], rest, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(token: &'static str, max: usize) -> impl Strategy<Value = String> {
        prop::collection::vec(token, 1..=max).prop_map(|tokens| tokens.join("."))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn found_are_those_that_match(
            patterns in prop::collection::vec(tokens("(taskbot|a|b|\\*|>)", 4), 1..8),
            topic in tokens("(taskbot|a|b)", 5),
        ) {
            let patterns: Vec<_> = patterns.iter().filter_map(|text| TopicPattern::parse(text).ok()).collect();
            let mut topics = Topics::new();
            let mut numbered: Vec<&TopicPattern> = Vec::new();
            for pattern in &patterns {
                let next = u32::try_from(numbered.len()).unwrap();
                if topics.number(pattern, next) == next {
                    numbered.push(pattern);
                }
            }
            let topic = Topic::new(topic);
            let mut found: Vec<_> =
                topics.covering(&topic).into_iter().map(|at| numbered[at as usize].as_str()).collect();
            found.sort_unstable();
            let mut expected: Vec<_> =
                patterns.iter().filter(|pattern| pattern.matches(&topic)).map(TopicPattern::as_str).collect();
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(found, expected);
        }
    }
}
