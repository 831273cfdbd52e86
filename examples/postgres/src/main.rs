//! A read model in PostgreSQL: fills it from the table, and prints what a customer has ordered.
//!
//! `STREAMBOX_TABLE=events DATABASE_URL=postgresql://postgres@localhost/postgres cargo run -p postgres-projection -- customer-7`

mod projection;
#[cfg(test)]
mod tests;

use std::error::Error;

use streambox::{EventStore, client_from_env};
use streambox_consumer::Rebuild;

use crate::projection::Orders;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let setting = |name: &str| std::env::var(name).map_err(|_| format!("set the variable {name}"));
    let customer = std::env::args().nth(1).ok_or("name a customer")?;
    let store = EventStore::new(client_from_env().await, setting("STREAMBOX_TABLE")?);
    let orders = Orders::open(&setting("DATABASE_URL")?).await?;

    let report = Rebuild::new(&store, &orders).category("order").run().await?;
    println!("{} events applied, {} were applied already", report.applied, report.already_applied);
    for problem in &report.problems {
        eprintln!("{problem}");
    }
    let (count, cents) = orders.of_customer(&customer).await?;
    println!("{customer} has placed {count} orders of {cents} cents");
    Ok(())
}
