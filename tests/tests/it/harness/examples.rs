//! The library's examples do what they say.

use streambox_tests::programs::{Finished, run_example};

async fn example(name: &str) -> String {
    let Finished { status, stdout, stderr } = run_example(name, &[]).await;
    assert!(status.success(), "{name}: {stderr}");
    stdout
}

#[tokio::test]
async fn the_order_service_takes_pays_and_ships_an_order_once() {
    let output = example("order_service").await;
    let expected = [
        "placed: version 1, Placed { total_cents: 4990 }",
        "placed: version 1, Placed { total_cents: 4990 }",
        "not shipped: the order is not paid",
        "paid: version 2",
        r#"1 Placed {"customer":"customer-7","total_cents":4990}"#,
        r#"2 Paid {"method":"card"}"#,
        "3 Shipped null",
    ];
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_email_address_is_registered_once() {
    let output = example("unique_email").await;
    let expected = [
        "customer-1 is registered as ann@example.org",
        "customer-2 is registered as bob@example.org",
        "customer-3 is not registered: Ann@example.org belongs to customer-1",
    ];
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_read_model_in_the_transaction_is_as_new_as_the_events() {
    assert_eq!(example("read_model").await, "customer-7 has 2 open orders of 5790 cents\n");
}

#[tokio::test]
async fn a_read_model_in_a_file_counts_each_order_once_and_is_healed_by_a_rebuild() {
    let output = example("file_projection").await;
    let expected =
        [r#"after deliveries: {"ann": 2, "bob": 1}"#, r#"after a rebuild: {"ann": 2, "bob": 2}, 1 event applied"#];
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn an_order_that_is_not_paid_in_time_is_cancelled_and_repeats_change_nothing() {
    let output = example("order_process").await;
    let streams = [
        "order-1: Placed, Paid",
        "order-2: Placed, Cancelled",
        "order-3: Placed, Cancelled",
        "payment-1: Requested, Received",
        "payment-2: Requested, TimedOut",
        "payment-3: Requested, TimedOut, Received",
    ];
    let expected = [&streams[..], &["after all of it once more:"], &streams].concat();
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}
