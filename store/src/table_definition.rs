//! What a table has to be.

/// What a table has to be: two keys, and one sparse index that has keys alone.
///
/// Exhaustive: who defines a table says all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableDefinition {
    /// Partition key and sort key, both S.
    pub keys: [&'static str; 2],
    /// Its index.
    pub index: IndexDefinition,
    /// Attributes that are times, by which DynamoDB must not delete items.
    pub times: &'static [&'static str],
}

/// What the index of a table has to be. It copies nothing but keys.
///
/// Exhaustive: who defines a table says all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexDefinition {
    /// Its name.
    pub name: &'static str,
    /// Its name in a sentence: ``the index `outbox` ``.
    pub title: &'static str,
    /// Its partition key (S) and its sort key (N). One of the table's own keys may be the partition key.
    pub keys: [&'static str; 2],
    /// What does not work without it, as a clause: `nothing is published`.
    pub without: &'static str,
}
