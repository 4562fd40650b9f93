//! Types that are made of others.

use super::*;

#[tokio::test]
async fn domain() {
    let setup = "CREATE DOMAIN price AS numeric(10,2) CHECK (VALUE > 0); CREATE DOMAIN dear AS price CHECK (VALUE > 100); CREATE DOMAIN words AS text[]";
    Case { setup, ..Case::new("price") }.holds(&["0.01", "99999999.99"]).await;
    // The modifier is that of the domain below.
    Case { setup, ..Case::new("dear") }.holds(&["100.01"]).await;
    Case { setup, arrays: false, ..Case::new("words") }.holds(&["'{a,NULL,b}'", "'{}'"]).await;
}

#[tokio::test]
async fn arrays() {
    let case = |type_| Case { arrays: false, expected: "replace(v::text, '\"', '')", ..Case::new(type_) };
    case("int[]").holds(&["'{}'", "'{1,NULL,-2147483648}'", "'{NULL}'"]).await;
    case("text[]").holds(&["'{}'", "'{a,NULL,b c}'"]).await;
    case("numeric(10,2)[]").holds(&["'{1.5,NULL,99999999.99}'"]).await;

    let config = harness::empty_database().await;
    let mut client = connect(&config).await;
    let error = refused(&mut client, &dataset("SELECT ARRAY[[1, 2], [3, 4]] AS a")).await;
    assert!(error.starts_with("thing.a, row 1: an array of 2 dimensions is no list"), "{error}");
    let error = refused(&mut client, &dataset("SELECT '[0:1]={1,2}'::int[] AS a")).await;
    assert!(error.starts_with("thing.a, row 1: an array that begins at [0]"), "{error}");
    // What the errors advise.
    let batch = through_file(&mut client, dataset("SELECT to_jsonb(ARRAY[[1, 2], [3, 4]]) AS j, ('[0:1]={1,2}'::int[])[:] AS a")).await;
    assert_eq!(show(batch.column(0), 0).unwrap(), "[[1, 2], [3, 4]]");
    assert_eq!(show(batch.column(1), 0).unwrap(), "{1,2}");
}

#[tokio::test]
async fn ranges() {
    let case = |type_| Case { expected: "replace(v::text, '\"', '')", ..Case::new(type_) };
    case("int4range").holds(&["'[1,10)'", "'(,5]'", "'[3,)'", "'(,)'", "'empty'", "'[-2147483648,2147483646]'"]).await;
    case("int8range").holds(&["'[1,10)'"]).await;
    case("daterange").holds(&["'[4713-01-01 BC,2000-01-01)'", "'empty'"]).await;
    case("tsrange").holds(&["'[2000-01-01 12:00,2000-01-02)'", "'(2000-01-01,2000-01-02]'"]).await;
    case("tstzrange").holds(&["'[2000-01-01 12:00+02,2000-01-02+00)'", "'(,2000-01-02+00]'"]).await;
    Case { numeric: Some(NumericAs::Text), ..case("numrange") }.holds(&["'[1.50,10)'", "'(,NaN)'"]).await;
    case("int4multirange").holds(&["'{}'", "'{[1,3),[5,9)}'", "'{(,)}'"]).await;
    let setup = "CREATE DOMAIN price AS numeric(10,2); CREATE TYPE prices AS RANGE (SUBTYPE = price)";
    Case { setup, ..case("prices") }.holds(&["'[1.50,10.00)'"]).await;
}

#[tokio::test]
async fn composites() {
    let setup = "CREATE TYPE colour AS ENUM ('red', 'green'); CREATE DOMAIN positive AS numeric(7,3);
        CREATE TYPE point3 AS (x int, y float8, label varchar(9));
        CREATE TYPE leg AS (a point3, gone int, price numeric(10,2), p positive, c colour, tags text[], more point3[], u interval, at timestamp);
        ALTER TYPE leg DROP ATTRIBUTE gone";
    let case = |type_| Case { setup, expected: "translate(v::text, '\"\\', '')", ..Case::new(type_) };
    case("point3").holds(&["'(1,,abc)'", "'(,,)'", "'(-7,,)'"]).await;
    case("leg")
        .holds(&[
            "'(,1.50,2.125,green,\"{a,NULL}\",\"{}\",,\"2000-01-01 00:00:00\")'",
            "ROW(ROW(1,NULL,'x'), 99999999.99, NULL, 'red', NULL, ARRAY[ROW(2,NULL,'y'),NULL]::point3[], NULL, NULL)::leg",
        ])
        .await;

    let config = harness::empty_database().await;
    let mut client = connect(&config).await;
    client.batch_execute("CREATE TYPE loose AS (a int, n numeric); CREATE TYPE twice AS (a int, \"A\" int); CREATE TABLE r (a int, l loose); INSERT INTO r VALUES (1, '(2,3.5)')").await.unwrap();
    let error = refused(&mut client, &dataset("SELECT l FROM r")).await;
    assert!(error.starts_with("thing.l: its field n: numeric without precision"), "{error}");
    let mut settled = dataset("SELECT l, r AS whole FROM r");
    settled.numeric = ["l", "whole"].map(|c| (c.to_owned(), NumericAs::Text)).into();
    let batch = through_file(&mut client, settled).await;
    assert_eq!(show(batch.column(0), 0).unwrap(), "(2,3.5)");
    assert_eq!(show(batch.column(1), 0).unwrap(), "(1,(2,3.5))");
    let error = refused(&mut client, &dataset("SELECT ROW(1, 2) AS r")).await;
    assert!(error.contains("a row without a type"), "{error}");
    // Delta does not tell names apart by case; a flat file does.
    let twice = dataset("SELECT '(1,2)'::twice AS t");
    assert_eq!(show(through_file(&mut client, twice.clone()).await.column(0), 0).unwrap(), "(1,2)");
    let folder = tempfile::tempdir().unwrap();
    let error = export_lake(&mut client, folder.path().to_str().unwrap(), &[twice], &Options::default(), &mut |_| ()).await.unwrap_err();
    assert_eq!(error.kind(), ExportErrorKind::Unsupported, "{error}");
}
