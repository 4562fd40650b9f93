//! Every PostgreSQL type through a flat file and through a lake, against the server's own text of each value.

mod nested;
mod numeric;
mod text;

use std::path::Path;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use hitherto::Config;
use hitherto_export::{Dataset, ExportErrorKind, NumericAs, Options, export_file, export_lake};
use tokio_postgres::Client;

use crate::export::{live_files, read};
use crate::harness;
use text::show;

/// What psql and COPY show of a value, where casting it to text gives something else.
const PRINTED: &str = "CASE WHEN v IS NOT NULL THEN concat(v) END";

/// A type of a test, and how its values are compared.
struct Case<'a> {
    /// Its name in SQL.
    type_: &'a str,
    /// What makes it, if it has to be made.
    setup: &'a str,
    /// What the value `v` is compared by, on the server's side.
    expected: &'a str,
    numeric: Option<NumericAs>,
    /// Whether there are arrays of it too; PostgreSQL has no arrays of arrays.
    arrays: bool,
    /// Values that a lake takes and a flat file does not.
    lake_only: &'a [&'a str],
}

impl<'a> Case<'a> {
    fn new(type_: &'a str) -> Self {
        Self { type_, setup: "", expected: "v::text", numeric: None, arrays: true, lake_only: &[] }
    }

    /// Writes NULL and these literals, exports them and compares what is read with what the server says.
    async fn holds(self, literals: &[&str]) {
        let config = harness::empty_database().await;
        let mut client = connect(&config).await;
        let array = if self.arrays { format!(", a {}[]", self.type_) } else { String::new() };
        client
            .batch_execute(&format!("{}; CREATE TABLE t (n serial, v {}{array}); INSERT INTO t (v) VALUES (NULL)", self.setup, self.type_))
            .await
            .unwrap();
        for literal in literals {
            client.batch_execute(&format!("INSERT INTO t (v) VALUES ({literal})")).await.unwrap_or_else(|e| panic!("{literal}: {e:?}"));
        }
        self.compare(&mut client, false).await;
        for literal in self.lake_only {
            client.batch_execute(&format!("INSERT INTO t (v) VALUES ({literal})")).await.unwrap_or_else(|e| panic!("{literal}: {e:?}"));
        }
        self.compare(&mut client, true).await;
    }

    async fn compare(&self, client: &mut Client, in_lake: bool) {
        if self.arrays {
            client.batch_execute("UPDATE t SET a = ARRAY[v, NULL, v] WHERE n > 1").await.unwrap();
        }
        let expected = format!("SELECT {} FROM t ORDER BY n", self.expected);
        let expected: Vec<Option<String>> = client.query(&expected, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let columns = if self.arrays { "n, v, a" } else { "n, v" };
        let mut dataset = dataset(&format!("SELECT {columns} FROM t"));
        dataset.sort = vec!["n".to_owned()];
        dataset.numeric = self
            .numeric
            .iter()
            .flat_map(|numeric| ["v", "a"].map(|c| (c.to_owned(), *numeric)))
            .filter(|(c, _)| columns.contains(c))
            .collect();
        let batch = if in_lake { through_lake(client, dataset).await } else { through_file(client, dataset).await };
        assert_eq!(batch.num_rows(), expected.len());
        let values = batch.column_by_name("v").unwrap();
        for (row, expected) in expected.iter().enumerate() {
            let name = format!("{} in a {}", self.type_, if in_lake { "lake" } else { "file" });
            assert_eq!(show(values, row), *expected, "row {row} of {name}");
            if let (true, Some(_)) = (self.arrays, expected) {
                let list = batch.column_by_name("a").unwrap().as_list::<i32>().value(row);
                assert_eq!(list.len(), 3, "{name}[]");
                assert_eq!([0, 1, 2].map(|at| show(&list, at)), [expected.clone(), None, expected.clone()], "row {row} of {name}[]");
            }
        }
        assert!(values.is_null(0));
    }
}

async fn connect(config: &Config) -> Client {
    let client = config.connect().await.unwrap();
    client
        .batch_execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'")
        .await
        .unwrap();
    client
}

fn dataset(query: &str) -> Dataset {
    Dataset { name: "thing".to_owned(), query: query.to_owned(), ..Dataset::default() }
}

async fn through_file(client: &mut Client, dataset: Dataset) -> RecordBatch {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f");
    export_file(client, &dataset, &file, &Options::default(), &mut |_| ()).await.unwrap();
    read(&file)
}

async fn through_lake(client: &mut Client, dataset: Dataset) -> RecordBatch {
    let folder = tempfile::tempdir().unwrap();
    export_lake(client, folder.path().to_str().unwrap(), &[dataset], &Options::default(), &mut |_| ()).await.unwrap();
    let table = folder.path().join("thing");
    let [file] = live_files(&table).try_into().unwrap();
    read(&table.join(file))
}

/// What the newest schema in a table's log says of a column.
fn delta_type(table: &Path, column: &str) -> serde_json::Value {
    let log = std::fs::read_to_string(table.join("_delta_log/00000000000000000000.json")).unwrap();
    let actions = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let schema = actions.filter_map(|action| action["metaData"]["schemaString"].as_str().map(str::to_owned)).next_back().unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    schema["fields"].as_array().unwrap().iter().find(|f| f["name"] == column).unwrap()["type"].clone()
}

/// Exports a query of which something is refused; gives the error.
async fn refused(client: &mut Client, dataset: &Dataset) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = export_file(client, dataset, &folder.path().join("f"), &Options::default(), &mut |_| ()).await.unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{error}: something was left behind");
    assert!(matches!(error.kind(), ExportErrorKind::Unsupported | ExportErrorKind::Config), "{error}");
    error.to_string()
}

#[tokio::test]
async fn boolean() {
    Case::new("boolean").holds(&["true", "false"]).await;
}

#[tokio::test]
async fn whole_numbers() {
    Case::new("smallint").holds(&["32767", "-32768", "0"]).await;
    Case::new("integer").holds(&["2147483647", "-2147483648", "0"]).await;
    Case::new("bigint").holds(&["9223372036854775807", "-9223372036854775808", "0"]).await;
    Case::new("oid").holds(&["4294967295", "0"]).await;
    Case::new("xid8").holds(&["'9223372036854775807'", "'0'"]).await;
}

#[tokio::test]
async fn floats() {
    let literals = ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1", "1e-37", "-3.4028235e38"];
    Case { expected: "encode(float4send(v), 'hex')", ..Case::new("real") }.holds(&literals).await;
    let literals = ["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1", "5e-324", "1.7976931348623157e308"];
    Case { expected: "encode(float8send(v), 'hex')", ..Case::new("double precision") }.holds(&literals).await;
}

#[tokio::test]
async fn texts() {
    let literals = ["''", r"E'\u00fc\n\t\\'", "'🦀'", "'x'"];
    Case::new("text").holds(&[&literals[..], &["repeat('long', 100000)"]].concat()).await;
    Case::new("varchar(9)").holds(&literals).await;
    // Trailing blanks are what the server sends: casting to text strips them.
    Case { expected: PRINTED, ..Case::new("bpchar(5)") }.holds(&["'ab'", "'ab   '", "''", "'abcde'"]).await;
    Case { expected: PRINTED, ..Case::new("bpchar") }.holds(&["'ab  '"]).await;
    Case::new("name").holds(&["'x'", "repeat('n', 63)"]).await;
    Case::new("\"char\"").holds(&["'a'", "''", "'~'", r"'\203'", r"'\377'"]).await;
}

#[tokio::test]
async fn bytea() {
    Case::new("bytea").holds(&[r"'\x'", r"'\x00ff80'", r"decode(repeat('00', 70000), 'hex')"]).await;
}

#[tokio::test]
async fn date() {
    let literals = [
        "'4713-01-01 BC'",
        "'5874897-12-31'",
        "'0001-12-31 BC'",
        "'0001-01-01'",
        "'1970-01-01'",
        "'1969-12-31'",
        "'2000-02-29'",
        "'1582-10-10'",
    ];
    Case::new("date").holds(&literals).await;
}

#[tokio::test]
async fn timestamps() {
    let literals = [
        "'4713-01-01 00:00:00 BC'",
        "'294246-12-31 23:59:59.999999'",
        "'0044-03-15 12:00:00.5 BC'",
        "'0001-01-01'",
        "'1969-12-31 23:59:59.999999'",
        "'2026-03-01 12:34:56.000001'",
        "'1999-12-31 23:59:59'",
    ];
    Case::new("timestamp").holds(&literals).await;
    Case::new("timestamptz").holds(&literals).await;
    Case { type_: "timestamptz(0)", ..Case::new("") }.holds(&["'2026-03-29 02:30:00.6+02'"]).await;
}

#[tokio::test]
async fn times_of_day() {
    let literals = ["'00:00'", "'23:59:59.999999'", "'12:34:56.7'", "'00:00:00.000001'"];
    Case { lake_only: &["'24:00:00'"], ..Case::new("time") }.holds(&literals).await;
    let literals = [
        "'00:00:00+15:59:59'",
        "'24:00:00-15:59:59'",
        "'12:34:56.7+05:30'",
        "'23:59:59.999999-08'",
        "'01:02:03+00'",
        "'01:02:03-00:00:07'",
    ];
    Case::new("timetz").holds(&literals).await;
}

#[tokio::test]
async fn interval() {
    // Months, days and microseconds, as the struct has them.
    let expected = "format('(%s,%s,%s)', (extract(year FROM v) * 12 + extract(month FROM v))::bigint, extract(day FROM v)::bigint,
        ((extract(hour FROM v) * 60 + extract(minute FROM v)) * 60000000 + extract(microseconds FROM v))::bigint)";
    let literals = [
        "'0'",
        "'1 month -1 day 00:00:00.000001'",
        "'178956970 years 7 mons 2147483647 days 2562047788:00:54.775806'",
        "'-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807'",
        "'-1 year 1 month'",
        "'25:00:00'",
    ];
    Case { expected: &format!("CASE WHEN v IS NOT NULL THEN {expected} END"), ..Case::new("interval") }.holds(&literals).await;
}

#[tokio::test]
async fn uuid() {
    Case::new("uuid")
        .holds(&[
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'00000000-0000-0000-0000-000000000000'",
            "'FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF'",
        ])
        .await;
}

#[tokio::test]
async fn json() {
    let literals = [r#"'{"b" : 1e2, "a":[null, "ü"]}'"#, "'0.12345678901234567890123'", r#"'"\u00fc"'"#, "'null'"];
    Case::new("json").holds(&literals).await;
    Case::new("jsonb").holds(&literals).await;
    Case::new("jsonpath").holds(&["'$.a[*] ? (@ > 1)'"]).await;
}

#[tokio::test]
async fn enumeration() {
    Case { setup: "CREATE TYPE mood AS ENUM ('so so', 'grün', 'x')", ..Case::new("mood") }.holds(&["'so so'", "'grün'", "'x'"]).await;
}

#[tokio::test]
async fn addresses() {
    let literals = [
        "'192.168.0.1'",
        "'10.1.2.3/8'",
        "'0.0.0.0/0'",
        "'::'",
        "'::1'",
        "'::1.2.3.4'",
        "'::ffff:1.2.3.4'",
        "'fe80::1/64'",
        "'1:0:0:2:0:0:0:3'",
        "'1:2:3:4:5:6:7::'",
        "'0:0:1::/48'",
        "'::ffff:0:0/96'",
        "'2001:db8::ff00:42:8329'",
        "'1:2:3:4:5:6:7:8'",
        "'::2:0:0:0:0:0'",
        "'0:1:0:1:0:1:0:1'",
        "'::7:8'",
        "'::ffff'",
    ];
    // Casting to text adds /32 and /128.
    Case { expected: PRINTED, ..Case::new("inet") }.holds(&literals).await;
    Case::new("cidr").holds(&["'10.0.0.0/8'", "'192.168.0.1/32'", "'::/0'", "'2001:db8::/32'", "'::1/128'"]).await;
    Case::new("macaddr").holds(&["'08:00:2b:01:02:03'", "'ff-ff-ff-ff-ff-ff'"]).await;
    Case::new("macaddr8").holds(&["'08:00:2b:01:02:03:04:05'"]).await;
}

#[tokio::test]
async fn bits_and_positions() {
    Case::new("bit(3)").holds(&["B'101'", "B'000'"]).await;
    Case::new("varbit").holds(&["B''", "B'1'", "B'110011001'", "repeat('10', 999)::varbit"]).await;
    Case::new("pg_lsn").holds(&["'0/0'", "'FFFFFFFF/FFFFFFFF'", "'16/B374D848'"]).await;
}

#[tokio::test]
async fn what_has_no_exact_place_is_refused_with_what_to_write() {
    let config = harness::empty_database().await;
    let mut client = connect(&config).await;
    for (query, words) in [
        ("SELECT 'infinity'::date AS d", "thing.d, row 1: an infinite date (infinity)"),
        ("SELECT '-infinity'::timestamptz AS t", "thing.t, row 1: an infinite time (-infinity)"),
        (
            "SELECT CASE WHEN g = 70000 THEN 'infinity' ELSE now() END AS t FROM generate_series(1, 100000) AS g",
            "thing.t, row 70000: an infinite time",
        ),
        ("SELECT '294276-12-31'::timestamp AS t", "thing.t, row 1: a time after 294247"),
        ("SELECT '24:00'::time AS t", "thing.t, row 1: 24:00:00"),
        ("SELECT '{infinity}'::date[] AS d", "thing.d, row 1: an infinite date"),
        ("SELECT '[2000-01-01,infinity)'::tsrange AS r", "thing.r, row 1: an infinite time"),
        ("SELECT '18446744073709551615'::xid8 AS x", "thing.x, row 1: 18446744073709551615"),
        ("SELECT 1::money AS m", "thing.m: type money has no exact place in Parquet; in the query, write m::text"),
        ("SELECT 'a b'::tsvector AS v", "write v::text"),
        ("SELECT '(1,2)'::point AS p", "write p::text"),
        ("SELECT ARRAY['(1,2)'::point] AS p", "type point"),
        ("SELECT 'pg_class'::regclass AS c", "write c::text"),
    ] {
        let error = refused(&mut client, &dataset(query)).await;
        assert!(error.contains(words), "{query}: {error}");
    }
    // Of a file with a time column, the rows are counted by the stretch that is read.
    let at = "SELECT '2026-03-01+00'::timestamptz + g * INTERVAL '12 hours' AS at, CASE g WHEN 3 THEN 'infinity' ELSE '2000-01-01' END::date AS d FROM generate_series(0, 5) AS g";
    let days = Dataset { time_column: Some("at".to_owned()), ..dataset(at) };
    let folder = tempfile::tempdir().unwrap();
    let error =
        export_lake(&mut client, folder.path().to_str().unwrap(), &[days], &Options::default(), &mut |_| ()).await.unwrap_err().to_string();
    assert!(
        error.starts_with("thing.d, row 2 of those from 2026-03-02T00:00:00Z on before 2026-03-03T00:00:00Z: an infinite date"),
        "{error}"
    );
    // What the errors advise.
    let query = "SELECT nullif('infinity'::date, 'infinity') AS d, nullif('infinity'::timestamptz, 'infinity') AS t, '24:00'::time::text AS m, 1::money::text AS c";
    let batch = through_file(&mut client, dataset(query)).await;
    assert_eq!(show(batch.column(2), 0).unwrap(), "24:00:00");
    assert!(batch.column(0).is_null(0) && batch.column(1).is_null(0));
}

#[tokio::test]
async fn files_and_lakes_say_which_type_a_column_is() {
    let config = harness::empty_database().await;
    let mut client = connect(&config).await;
    client.batch_execute("CREATE TYPE pair AS (a int, b date)").await.unwrap();
    let query =
        "SELECT '12:00'::time AS time, '2000-01-01'::timestamp AS clock, now() AS instant, '1 day'::interval AS span, '(1,)'::pair AS pair,
        '{1}'::int8[] AS list, 1::numeric(5,-2) AS hundreds, gen_random_uuid() AS id";
    let batch = through_file(&mut client, dataset(query)).await;
    let schema = batch.schema();
    let type_of = |name: &str| schema.field_with_name(name).unwrap().data_type().clone();
    assert_eq!(type_of("time"), DataType::Time64(TimeUnit::Microsecond));
    assert_eq!(type_of("clock"), DataType::Timestamp(TimeUnit::Microsecond, None));
    assert_eq!(type_of("instant"), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(type_of("hundreds"), DataType::Decimal128(7, 0));
    assert_eq!(type_of("id"), DataType::Utf8);

    let folder = tempfile::tempdir().unwrap();
    export_lake(&mut client, folder.path().to_str().unwrap(), &[dataset(query)], &Options::default(), &mut |_| ()).await.unwrap();
    let table = folder.path().join("thing");
    for (column, expected) in
        [("time", "string"), ("clock", "timestamp_ntz"), ("instant", "timestamp"), ("hundreds", "decimal(7,0)"), ("id", "string")]
    {
        assert_eq!(delta_type(&table, column), expected);
    }
    let fields = |column: &str| {
        let fields = delta_type(&table, column)["fields"].as_array().unwrap().clone();
        fields.iter().map(|f| format!("{}: {}", f["name"].as_str().unwrap(), f["type"].as_str().unwrap())).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(fields("span"), "months: integer, days: integer, microseconds: long");
    assert_eq!(fields("pair"), "a: integer, b: date");
    assert_eq!(delta_type(&table, "list")["elementType"], "long");
    let log = std::fs::read_to_string(table.join("_delta_log/00000000000000000000.json")).unwrap();
    assert!(log.contains(r#""readerFeatures":["timestampNtz"]"#), "{log}");
}

#[tokio::test]
async fn words_that_repeat_are_written_once() {
    let config = harness::empty_database().await;
    let mut client = connect(&config).await;
    let mut words = dataset(
        "SELECT 'w' || g % 3 AS w, ('p' || g % 2)::bpchar(3) AS p, CASE g WHEN 5 THEN NULL ELSE 'x' END AS x FROM generate_series(0, 9) AS g",
    );
    words.dictionary = ["w", "p", "x"].map(str::to_owned).into();
    let batch = through_file(&mut client, words).await;
    let values: fn(&ArrayRef) -> usize = |column| column.as_dictionary::<Int32Type>().values().len();
    assert_eq!((values(batch.column(0)), values(batch.column(1))), (3, 2));
    assert_eq!(show(batch.column(1), 1).unwrap(), "p1 ");
    assert_eq!(batch.column(2).null_count(), 1);
}
