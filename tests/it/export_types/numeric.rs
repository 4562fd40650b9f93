//! Numerics, with and without a scale.

use super::*;

#[tokio::test]
async fn numerics_with_a_scale() {
    let nines = "9".repeat(20);
    let largest = format!("{nines}.{}", "9".repeat(18));
    Case::new("numeric(38,18)").holds(&[&largest, &format!("-{largest}"), "0.000000000000000001", "0", "-1.5"]).await;
    Case::new("numeric(38)").holds(&[&"9".repeat(38), "0", "10000"]).await;
    Case::new("numeric(5,2)").holds(&["999.99", "-0.01"]).await;
    Case::new("numeric(5,-2)").holds(&["9999900", "-100", "149"]).await;
    Case::new("numeric(3,5)").holds(&["0.00999", "-0.00001", "0"]).await;
    Case::new("numeric(38,38)").holds(&[&format!("0.{}", "9".repeat(38))]).await;
}

#[tokio::test]
async fn numerics_without_a_scale_are_settled_by_the_one_who_exports() {
    let decimal = |precision, scale| Some(NumericAs::Decimal { precision, scale });
    let case = || Case { numeric: Some(NumericAs::Text), ..Case::new("numeric") };
    let largest = "9".repeat(131_072);
    let smallest = format!("-0.{}1", "0".repeat(16_382));
    case().holds(&["1.50", "-0.000", "'NaN'", "'Infinity'", "'-Infinity'", "1e20", "12345678.00012", &largest, &smallest]).await;
    Case { numeric: decimal(38, 18), expected: "v::numeric(38,18)::text", ..Case::new("numeric") }.holds(&["1.5", "-7", "1e19"]).await;
    // What the database says gives way to what is asked for.
    Case { numeric: decimal(20, 4), expected: "v::numeric(20,4)::text", ..Case::new("numeric(10,2)") }.holds(&["1.25"]).await;
    Case { numeric: Some(NumericAs::Text), ..Case::new("numeric(50,2)") }.holds(&[&format!("{}.25", "1".repeat(40))]).await;

    let config = harness::empty_database().await;
    let mut client = connect(&config).await;
    let mut things = dataset("SELECT g AS n, CASE g WHEN 3 THEN 1.125 ELSE 1.5 END::numeric AS price FROM generate_series(1, 5) AS g");
    let error = refused(&mut client, &things).await;
    assert!(error.starts_with("thing.price: numeric without precision and scale"), "{error}");
    assert!(error.contains("--numeric price=38,18") && error.contains("--numeric price=text"), "{error}");
    things.numeric = vec![("price".to_owned(), NumericAs::Decimal { precision: 10, scale: 2 })];
    let error = refused(&mut client, &things).await;
    assert!(error.starts_with("thing.price, row 3: 1.125 does not fit decimal(10,2)"), "{error}");
    things.numeric = vec![("prize".to_owned(), NumericAs::Text)];
    let error = refused(&mut client, &things).await;
    assert!(error.contains("no column prize") && error.contains("n, price"), "{error}");
    things.numeric = vec![("price".to_owned(), NumericAs::Text), ("n".to_owned(), NumericAs::Text)];
    let error = refused(&mut client, &things).await;
    assert!(error.starts_with("thing.n is a int4, and no numeric"), "{error}");
    things.numeric = vec![("price".to_owned(), NumericAs::Decimal { precision: 5, scale: 6 })];
    let error = refused(&mut client, &things).await;
    assert!(error.contains("thing.price as numeric 5,6"), "{error}");
    let error = refused(&mut client, &dataset("SELECT 'NaN'::numeric(5,2) AS n")).await;
    assert!(error.starts_with("thing.n, row 1: NaN has no place among decimals"), "{error}");
    let error = refused(&mut client, &dataset("SELECT 1::numeric(39,2) AS n")).await;
    assert!(error.starts_with("thing.n: numeric(39,2) does not fit the 38 digits"), "{error}");
    let error = refused(&mut client, &dataset("SELECT numrange(1, 2) AS r")).await;
    assert!(error.starts_with("thing.r: numeric without precision"), "{error}");
}
