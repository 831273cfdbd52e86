//! Which table it is, whatever other tables have had its name.

use crate::{error::Error, table::Table};

/// The table's ARN and its id; if DynamoDB gives no id, the time of its creation.
pub(crate) async fn identity(table: &Table) -> Result<String, Error> {
    let operation = table.request("look at", table.name());
    let describe = table.client().describe_table().table_name(table.name());
    let name = table.name();
    let output = describe.send().await.map_err(|error| operation.failed(error))?;
    let table = output.table();
    let arn = table.and_then(|table| table.table_arn()).unwrap_or(name);
    let id = table.and_then(|table| {
        let created = || table.creation_date_time().map(ToString::to_string);
        table.table_id().map(str::to_owned).or_else(created)
    });
    Ok(format!("{arn} ({})", id.unwrap_or_default()))
}
