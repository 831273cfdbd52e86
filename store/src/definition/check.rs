//! Compares a live table with what the library expects.

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata as _,
    types::{
        BillingMode, GlobalSecondaryIndexDescription, IndexStatus, KeySchemaElement, KeyType,
        PointInTimeRecoveryStatus, ProjectionType, TableDescription, TableStatus, TimeToLiveStatus,
    },
};

use crate::{
    error::Error,
    failure::{Operation, RequestContext},
    schema::OUTBOX_INDEX,
    table::Table,
    table_definition::{IndexDefinition, TableDefinition},
};

/// What was found of a table. See [`check_table`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableCheck {
    /// Where the table is other than the library expects. None: it can be used.
    pub differences: Vec<TableDifference>,
    /// What is the operator's choice and worth knowing.
    pub notes: Vec<TableNote>,
}

/// Where a table is other than the library expects; as a text, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableDifference {
    /// The table or the index does not take requests.
    #[error("{subject} is {status}, not ACTIVE: wait until it is, or see in the console what holds it up")]
    NotActive {
        /// The table or the index.
        subject: &'static str,
        /// What DynamoDB says instead.
        status: String,
    },
    /// A key of the table or of the index is another attribute.
    #[error(
        "the {role} of {subject} is {}, not `{expected}`: {}",
        found_name(.found.as_deref()),
        remedy(subject)
    )]
    Key {
        /// The table or the index.
        subject: &'static str,
        /// Partition key or sort key.
        role: &'static str,
        /// The attribute that it should be.
        expected: &'static str,
        /// The attribute that it is.
        found: Option<String>,
    },
    /// A key attribute has another type.
    #[error("the type of `{attribute}` is {found}, not {expected}: {}", remedy(subject))]
    KeyType {
        /// The table or the index.
        subject: &'static str,
        /// The attribute.
        attribute: &'static str,
        /// The type that it should have.
        expected: &'static str,
        /// The type that it has.
        found: String,
    },
    /// The index is missing.
    #[error(
        "{} is missing, and without it {}: add it (partition key `{}` S, sort key `{}` N, KEYS_ONLY)",
        .index.title, .index.without, .index.keys[0], .index.keys[1]
    )]
    IndexMissing {
        /// What it has to be.
        index: IndexDefinition,
    },
    /// DynamoDB deletes items by an attribute that streambox writes.
    #[error("time to live is on for `{attribute}`, which streambox writes: DynamoDB may delete items. Switch it off")]
    TimeToLive {
        /// The attribute.
        attribute: String,
    },
    /// The index copies more than keys.
    #[error(
        "{index} copies {found}, not KEYS_ONLY: each write of an item in it costs more. Delete it and add it again: DynamoDB \
         fills it, and nothing is lost meanwhile"
    )]
    Projection {
        /// The index.
        index: &'static str,
        /// What it copies.
        found: String,
    },
    /// The table is a global table. It replicates item by item and the last writer wins, so that a condition holds in one Region
    /// only: two Regions store different events as the same version, for example, and one of them is overwritten.
    #[error(
        "the table has replicas ({}): streambox does not support global tables, since two Regions can store different items under the \
         same key, and one of them is lost. Remove the replicas; for another Region use backups",
        .regions.join(", ")
    )]
    Replicated {
        /// The Regions of the replicas.
        regions: Vec<String>,
    },
}

const TABLE: &str = "the table";

fn found_name(found: Option<&str>) -> String {
    found.map_or("missing".to_owned(), |name| format!("`{name}`"))
}

fn remedy(subject: &str) -> &'static str {
    if subject == TABLE {
        "it can't be changed, create another table"
    } else {
        "delete the index and add it again: DynamoDB fills it, and nothing is lost meanwhile"
    }
}

/// What is the operator's choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableNote {
    /// Capacity is bought beforehand; beyond it requests are throttled.
    #[error(
        "capacity is provisioned ({read_units} read and {write_units} write units a second); on-demand needs no planning"
    )]
    Provisioned {
        /// Read units a second.
        read_units: i64,
        /// Write units a second.
        write_units: i64,
    },
    /// The table can't be restored to a point in time.
    #[error("point-in-time recovery is off: switch it on if what it holds matters")]
    NoPointInTimeRecovery,
    /// Whether the table can be restored to a point in time is not known.
    #[error("whether point-in-time recovery is on is not known: {why}")]
    UnknownPointInTimeRecovery {
        /// What DynamoDB said.
        why: String,
    },
    /// One request can delete the table.
    #[error("deletion protection is off: switch it on if what it holds matters")]
    NoDeletionProtection,
    /// DynamoDB deletes items that carry an attribute.
    #[error(
        "time to live is on: DynamoDB deletes items that have the attribute `{attribute}`. No item of streambox has it; unless \
         the table has items of your own that need it, switch it off"
    )]
    TimeToLive {
        /// The attribute.
        attribute: String,
    },
    /// An index that the library does not use.
    #[error("the index `{name}` is not one of streambox: it is paid for with each write that it takes part in")]
    OtherIndex {
        /// Its name.
        name: String,
    },
}

/// Compares a table with what the library expects: keys and their types, the index, whether both are active, replicas in other
/// Regions. Reads only;
/// needs the permission `dynamodb:DescribeTable`. Point-in-time recovery and time to live are checked if
/// `dynamodb:DescribeContinuousBackups` and `dynamodb:DescribeTimeToLive` are granted.
///
/// # Errors
/// [`Error::Configuration`] if the table is missing or a permission is, [`Error::Unavailable`] if DynamoDB does not answer.
pub async fn check_table(client: &Client, table: &str) -> Result<TableCheck, Error> {
    check(&TableDefinition::EVENTS, client, table).await
}

async fn check(definition: &TableDefinition, client: &Client, table: &str) -> Result<TableCheck, Error> {
    let operation = Operation::one(RequestContext::of(client, table, definition), "check", table);
    let output = client.describe_table().table_name(table).send().await.map_err(|error| operation.failed(error))?;
    let description = output.table.unwrap_or_else(|| TableDescription::builder().build());
    let mut notes = notes(definition, &description);
    notes.extend(point_in_time_recovery(client, table).await);
    let mut differences = differences(definition, &description);
    match time_to_live(client, table).await {
        Some(attribute) if definition.times.contains(&attribute.as_str()) => {
            differences.push(TableDifference::TimeToLive { attribute });
        }
        Some(attribute) => notes.push(TableNote::TimeToLive { attribute }),
        None => {}
    }
    Ok(TableCheck { differences, notes })
}

/// Whether the table, or its index, is being made at this moment: it will be there by itself. Needs the permission
/// `dynamodb:DescribeTable`; without it, and of a table that is not there, the answer is no.
pub(crate) async fn is_being_built(table: &Table) -> bool {
    let answer = table.client().describe_table().table_name(table.name()).send().await;
    let description = answer.ok().and_then(|output| output.table);
    description.is_some_and(|table| {
        let index = table.global_secondary_indexes().iter().find(|index| index.index_name() == Some(OUTBOX_INDEX));
        table.table_status() == Some(&TableStatus::Creating)
            || index.is_some_and(|index| index.index_status() == Some(&IndexStatus::Creating))
    })
}

fn differences(definition: &TableDefinition, table: &TableDescription) -> Vec<TableDifference> {
    let mut all = Vec::new();
    // A table that is being updated takes requests.
    let status = table.table_status();
    if !matches!(status, Some(TableStatus::Active | TableStatus::Updating)) {
        let status = status.map_or("without a status", TableStatus::as_str).to_owned();
        all.push(TableDifference::NotActive { subject: TABLE, status });
    }
    let [partition, sort] = definition.keys;
    all.extend(keys(table, TABLE, table.key_schema(), [(partition, "S"), (sort, "S")], &[]));
    let expected = definition.index;
    let index = table.global_secondary_indexes().iter().find(|index| index.index_name() == Some(expected.name));
    match index {
        None => all.push(TableDifference::IndexMissing { index: expected }),
        Some(index) => all.extend(index_differences(definition, table, index)),
    }
    // Of a table that is not global DynamoDB names none.
    let regions: Vec<_> = table.replicas().iter().map(|one| one.region_name().unwrap_or("?").to_owned()).collect();
    if !regions.is_empty() {
        all.push(TableDifference::Replicated { regions });
    }
    all
}

fn index_differences(
    definition: &TableDefinition,
    table: &TableDescription,
    index: &GlobalSecondaryIndexDescription,
) -> Vec<TableDifference> {
    let (mut all, title) = (Vec::new(), definition.index.title);
    let status = index.index_status();
    if !matches!(status, None | Some(IndexStatus::Active | IndexStatus::Updating)) {
        let status = status.map_or("", IndexStatus::as_str).to_owned();
        all.push(TableDifference::NotActive { subject: title, status });
    }
    let [partition, sort] = definition.index.keys;
    all.extend(keys(table, title, index.key_schema(), [(partition, "S"), (sort, "N")], &definition.keys));
    let projection = index.projection().and_then(|projection| projection.projection_type());
    if projection != Some(&ProjectionType::KeysOnly) {
        let found = projection.map_or("nothing that is known", ProjectionType::as_str).to_owned();
        all.push(TableDifference::Projection { index: title, found });
    }
    all
}

/// A key's name and the type that it must have.
type Expected = (&'static str, &'static str);

/// `seen`: attributes whose types have been compared.
fn keys(
    table: &TableDescription,
    subject: &'static str,
    schema: &[KeySchemaElement],
    [partition, sort]: [Expected; 2],
    seen: &[&str],
) -> Vec<TableDifference> {
    let mut all = Vec::new();
    for (role, kind, (expected, expected_type)) in
        [("partition key", KeyType::Hash, partition), ("sort key", KeyType::Range, sort)]
    {
        let found = schema.iter().find(|key| *key.key_type() == kind).map(|key| key.attribute_name().to_owned());
        if found.as_deref() != Some(expected) {
            all.push(TableDifference::Key { subject, role, expected, found });
            continue;
        }
        let definition = table.attribute_definitions().iter().find(|attribute| attribute.attribute_name() == expected);
        let found = definition.map_or("not defined", |attribute| attribute.attribute_type().as_str());
        // The table's own keys stand in the index, too: once is enough.
        if found != expected_type && !seen.contains(&expected) {
            let found = found.to_owned();
            all.push(TableDifference::KeyType { subject, attribute: expected, expected: expected_type, found });
        }
    }
    all
}

fn notes(definition: &TableDefinition, table: &TableDescription) -> Vec<TableNote> {
    let mut all = Vec::new();
    let mode = table.billing_mode_summary().and_then(|billing| billing.billing_mode());
    let provisioned = table.provisioned_throughput().map(|units| {
        (units.read_capacity_units().unwrap_or_default(), units.write_capacity_units().unwrap_or_default())
    });
    if let Some((read_units, write_units)) = provisioned
        && mode != Some(&BillingMode::PayPerRequest)
        && (read_units, write_units) != (0, 0)
    {
        all.push(TableNote::Provisioned { read_units, write_units });
    }
    if table.deletion_protection_enabled() != Some(true) {
        all.push(TableNote::NoDeletionProtection);
    }
    let global = table.global_secondary_indexes().iter().filter_map(|index| index.index_name());
    let local = table.local_secondary_indexes().iter().filter_map(|index| index.index_name());
    let others = global.chain(local).filter(|name| *name != definition.index.name);
    all.extend(others.map(|name| TableNote::OtherIndex { name: name.to_owned() }));
    all
}

async fn point_in_time_recovery(client: &Client, table: &str) -> Option<TableNote> {
    let answer = client.describe_continuous_backups().table_name(table).send().await;
    let status = match &answer {
        Ok(output) => output
            .continuous_backups_description()
            .and_then(|backups| backups.point_in_time_recovery_description())
            .and_then(|recovery| recovery.point_in_time_recovery_status()),
        Err(error) => {
            let why = error.code().unwrap_or("DynamoDB did not answer").to_owned();
            return Some(TableNote::UnknownPointInTimeRecovery { why });
        }
    };
    (status != Some(&PointInTimeRecoveryStatus::Enabled)).then_some(TableNote::NoPointInTimeRecovery)
}

/// The attribute by which DynamoDB deletes items, if it does.
async fn time_to_live(client: &Client, table: &str) -> Option<String> {
    let output = client.describe_time_to_live().table_name(table).send().await.ok()?;
    let description = output.time_to_live_description()?;
    let is_on =
        matches!(description.time_to_live_status(), Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling));
    is_on.then(|| description.attribute_name().unwrap_or_default().to_owned())
}

impl TableDefinition {
    /// Compares a table with this definition. Reads only.
    ///
    /// # Errors
    /// As [`check_table`].
    pub async fn check(&self, client: &Client, table: &str) -> Result<TableCheck, Error> {
        check(self, client, table).await
    }
}
