//! Changelogs of views: who follows a view, and views above it, go on where they were after stops, deaths and failures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use millstream_catalog::ObjectName;
use millstream_process::{ChangeId, FaultPoint, ViewEvent, ViewStart};
use tempfile::TempDir;

use crate::harness::Node;

const TENS: &str = "SELECT id / 10 AS tens, count(*) AS n FROM s GROUP BY id / 10";
const SIZES: &str = "SELECT n AS size, count(*) AS groups, max(tens) AS last FROM tens GROUP BY n";
const EDGES: &str = "SELECT max(size) AS largest, sum(size * groups) AS total FROM sizes";

/// Three views, each over the one before. Gives the folders of their state.
async fn create_views(node: &Node, options: &str) -> BTreeMap<&'static str, PathBuf> {
    let mut folders: BTreeMap<&'static str, PathBuf> = BTreeMap::new();
    for (name, query) in [("tens", TENS), ("sizes", SIZES), ("edges", EDGES)] {
        node.ask(&format!("CREATE MATERIALIZED VIEW {name} {options} AS {query}")).await.unwrap();
        let entries = std::fs::read_dir(node.dir.path().join("views")).unwrap();
        let mut new = entries.map(|e| e.unwrap().path()).filter(|path| !folders.values().any(|known| known == path));
        folders.insert(name, new.next().unwrap());
    }
    folders
}

/// Compares each view with its query; the answers below are right when it comes to those above.
async fn assert_right(node: &Node, when: &str) {
    node.ask("FLUSH").await.unwrap();
    for (name, query) in [("tens", TENS), ("sizes", SIZES), ("edges", EDGES)] {
        let kept = node.ask(&format!("SELECT * FROM {name} ORDER BY 1, 2")).await.unwrap();
        let asked = node.ask(&format!("SELECT * FROM ({query}) q ORDER BY 1, 2")).await.unwrap();
        assert_eq!(kept, asked, "{name}, {when}");
    }
}

async fn rows_in(node: &Node, view: &str) -> i64 {
    node.number(&format!("SELECT rows_in FROM system.views WHERE name = '{view}'")).await
}

/// Waits until no view fails.
async fn settled(node: &Node) {
    while node.number("SELECT count(*) FROM system.views WHERE status <> 'running'").await > 0 {
        tokio::task::yield_now().await;
    }
}

/// What somebody has who follows the view `tens`.
#[derive(Default)]
struct Follower {
    rows: BTreeMap<i64, i64>,
    resets: usize,
    last: Option<ChangeId>,
}

impl Follower {
    /// Goes on behind what it took last until it has the rows that the view has.
    async fn take_all(&mut self, node: &Node) {
        node.ask("FLUSH").await.unwrap();
        let wanted = node.number("SELECT coalesce(sum(n), 0) FROM tens").await;
        let start = self.last.map_or(ViewStart::Snapshot, ViewStart::After);
        let mut changes = node.engine.follow_view(&ObjectName::public("tens").unwrap(), start).unwrap();
        let mut ready = self.last.is_some();
        while !ready || self.rows.values().sum::<i64>() != wanted {
            match changes.next().await.unwrap() {
                ViewEvent::Reset => {
                    (self.resets, ready) = (self.resets + 1, false);
                    self.rows.clear();
                }
                ViewEvent::Ready(id) => (self.last, ready) = (Some(id), true),
                ViewEvent::Rows(rows) => {
                    let (tens, n) = (rows.batch.column(0), rows.batch.column(1));
                    let pairs =
                        tens.as_primitive::<Int64Type>().values().iter().zip(n.as_primitive::<Int64Type>().values());
                    for (row, (tens, n)) in pairs.enumerate() {
                        match rows.come {
                            true => assert_eq!(self.rows.insert(*tens, *n), None, "{tens} comes twice"),
                            false => assert_eq!(self.rows.remove(tens), Some(*n), "{tens} goes and was not there"),
                        }
                        self.last = Some(rows.id(row));
                    }
                }
            }
        }
    }
}

/// A folder of files, and a copy of it.
type Copied = (PathBuf, TempDir);

fn copied(folder: &Path) -> Copied {
    let copy = TempDir::new().unwrap();
    for file in std::fs::read_dir(folder).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    (folder.to_owned(), copy)
}

fn put_back(copies: Vec<Copied>) {
    for (folder, copy) in copies {
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::rename(copy.keep(), folder).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_over_views_go_on_from_their_checkpoints() {
    let node = Node::start().await;
    node.create_s(2).await;
    node.write(0..2_000).await;
    create_views(&node, "").await;
    node.write(2_000..2_505).await;
    assert_right(&node, "before the stop").await;
    let node = node.restart().await;
    assert_right(&node, "behind the stop").await;
    assert_eq!((rows_in(&node, "sizes").await, rows_in(&node, "edges").await), (0, 0), "nothing came");
    node.write(2_505..2_512).await;
    assert_right(&node, "behind new rows").await;
    assert!(rows_in(&node, "sizes").await <= 6, "the answer below was read again");
    assert!(rows_in(&node, "edges").await <= 12, "the answer below was read again");
    let node = node.restart().await.restart().await;
    assert_right(&node, "behind two stops").await;
}

/// Stops and starts when every view has taken in everything; then each has a checkpoint with that.
async fn stopped(node: Node) -> Node {
    node.ask("FLUSH").await.unwrap();
    let node = node.restart().await;
    node.ask("FLUSH").await.unwrap();
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_finds_views_over_views_as_its_checkpoints_left_them() {
    // The state of which views is how old: all of an early time, then some of a later one.
    for later in [&[][..], &["tens"], &["tens", "sizes"], &["sizes", "edges"], &["edges"]] {
        let when = format!("{later:?} later than the others");
        let node = Node::start().await;
        node.create_s(2).await;
        node.write(0..1_000).await;
        let folders = create_views(&node, "").await;
        node.write(1_000..1_111).await;
        let node = stopped(node).await;
        let early = folders.values().map(|folder| copied(folder)).collect();
        node.write(1_111..1_207).await;
        let node = stopped(node).await;
        let late = later.iter().map(|view| copied(&folders[view])).collect();
        node.write(1_207..1_300).await;
        node.tier().await;
        node.write(1_300..1_333).await;
        node.ask("FLUSH").await.unwrap();
        let node = node
            .restart_after(|_| {
                put_back(early);
                put_back(late);
            })
            .await;
        assert_right(&node, &when).await;
        node.write(1_333..1_405).await;
        assert_right(&node, &format!("{when}, behind new rows")).await;
        // What the view below has from behind its checkpoint, a view goes on from; else it begins anew.
        let anew = later.contains(&"sizes") && !later.contains(&"tens");
        assert_eq!(rows_in(&node, "sizes").await > 130, anew, "{when}: {} rows", rows_in(&node, "sizes").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_above_one_that_fails_and_begins_again_are_right() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..100).await;
    let inverse = "SELECT id / 10 AS tens, count(*) AS n, sum(1000 / (id - 150)) AS parts FROM s GROUP BY id / 10";
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {inverse}")).await.unwrap();
    node.ask(&format!("CREATE MATERIALIZED VIEW sizes AS {SIZES}")).await.unwrap();
    node.ask(&format!("CREATE MATERIALIZED VIEW edges AS {EDGES}")).await.unwrap();
    node.write(100..145).await;
    node.ask("FLUSH").await.unwrap();
    // The row that is refused asks for a checkpoint, which fails when the rows beside it have been seen.
    node.engine.faults().fail_at(Some(FaultPoint::OutboxGathered));
    for round in 0..3 {
        node.write(145 + round * 10..155 + round * 10).await;
        while node.number("SELECT count(*) FROM system.views WHERE name = 'tens' AND status = 'failed'").await == 0 {
            tokio::task::yield_now().await;
        }
    }
    node.engine.faults().fail_at(None);
    settled(&node).await;
    node.ask("FLUSH").await.unwrap();
    for (name, query) in [("sizes", SIZES), ("edges", EDGES)] {
        let kept = node.ask(&format!("SELECT * FROM {name} ORDER BY 1")).await.unwrap();
        assert_eq!(kept, node.ask(&format!("SELECT * FROM ({query}) q ORDER BY 1")).await.unwrap(), "{name}");
    }
    assert_eq!(node.number("SELECT total FROM edges").await, 174, "all rows but the one that is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn views_however_far_above_a_replaced_one_follow_the_new_one() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..100).await;
    create_views(&node, "").await;
    node.ask("CREATE REPLACEMENT MATERIALIZED VIEW next FOR tens AS SELECT id / 20 AS tens, count(*) AS n FROM s GROUP BY id / 20")
        .await
        .unwrap();
    node.ask("ALTER MATERIALIZED VIEW tens APPLY REPLACEMENT next").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT largest FROM edges").await, 20);
    node.write(100..110).await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT total FROM edges").await, 110);
    let node = node.restart().await;
    node.write(110..120).await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(
        (node.number("SELECT largest FROM edges").await, node.number("SELECT total FROM edges").await),
        (20, 120)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_a_view_goes_on_after_a_stop() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..50).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens WITH (retention = '1 day') AS {TENS}")).await.unwrap();
    let (mut quick, mut slow) = (Follower::default(), Follower::default());
    slow.take_all(&node).await;
    for round in 0..4 {
        node.write(50 + round * 7..57 + round * 7).await;
        quick.take_all(&node).await;
    }
    let node = node.restart().await;
    node.write(78..90).await;
    quick.take_all(&node).await;
    let node = node.restart().await;
    quick.take_all(&node).await;
    node.write(90..95).await;
    quick.take_all(&node).await;
    slow.take_all(&node).await;
    assert_eq!((quick.resets, slow.resets), (0, 0));
    assert_eq!(quick.rows, slow.rows);
    // Behind the retention there is nothing to go on from.
    let mut late = Follower { last: slow.last, rows: slow.rows.clone(), resets: 0 };
    node.write(95..96).await;
    node.ask("FLUSH").await.unwrap();
    node.clock.advance_ms(90_000_000);
    node.write(96..97).await;
    node.ask("FLUSH").await.unwrap();
    node.write(97..98).await;
    let node = node.restart().await;
    late.take_all(&node).await;
    assert_eq!((late.resets, late.rows.values().sum::<i64>()), (1, 98));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_retention_who_had_everything_goes_on_after_a_stop() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..50).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {TENS}")).await.unwrap();
    let (mut quick, mut slow) = (Follower::default(), Follower::default());
    slow.take_all(&node).await;
    node.write(50..60).await;
    quick.take_all(&node).await;
    let node = node.restart().await;
    node.write(60..65).await;
    quick.take_all(&node).await;
    slow.take_all(&node).await;
    assert_eq!((quick.resets, slow.resets), (0, 1));
    assert_eq!(quick.rows, slow.rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_saw_what_came_behind_the_last_checkpoint_begins_anew_after_a_death() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..50).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens WITH (retention_size = '1 MB') AS {TENS}")).await.unwrap();
    let folder = std::fs::read_dir(node.dir.path().join("views")).unwrap().next().unwrap().unwrap().path();
    let (mut before, mut behind) = (Follower::default(), Follower::default());
    node.write(50..60).await;
    before.take_all(&node).await;
    let node = node.restart().await;
    let saved = copied(&folder);
    node.write(60..65).await;
    behind.take_all(&node).await;
    let node = node.restart_after(|_| put_back(vec![saved])).await;
    node.write(65..70).await;
    before.take_all(&node).await;
    behind.take_all(&node).await;
    assert_eq!((before.resets, behind.resets), (0, 1));
    assert_eq!(before.rows, behind.rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_view_over_a_view_stays_as_it_is_through_a_stop() {
    // With the second the view below does not have what came meanwhile.
    for options in ["", "WITH (retention_size = '1 B')"] {
        let node = Node::start().await;
        node.create_s(1).await;
        node.write(0..90).await;
        create_views(&node, options).await;
        node.write(90..100).await;
        node.ask("FLUSH").await.unwrap();
        node.ask("ALTER MATERIALIZED VIEW sizes SUSPEND").await.unwrap();
        for round in 0..3 {
            node.write(100 + round..101 + round).await;
            node.ask("FLUSH").await.unwrap();
        }
        let node = node.restart().await;
        node.write(103..120).await;
        node.ask("FLUSH").await.unwrap();
        assert_eq!(node.number("SELECT sum(size * groups) FROM sizes").await, 100, "{options}");
        assert_eq!(node.number("SELECT total FROM edges").await, 100, "{options}");
        node.ask("ALTER MATERIALIZED VIEW sizes RESUME").await.unwrap();
        settled(&node).await;
        assert_right(&node, &format!("{options}, resumed")).await;
        assert_eq!(node.number("SELECT total FROM edges").await, 120, "{options}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_follows_a_dropped_view_ends_with_the_reason() {
    use futures::TryStreamExt;
    let node = Node::start().await;
    node.create_s(1).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {TENS}")).await.unwrap();
    let query = "SELECT max(n) AS n FROM tens EMIT CHANGES";
    let millstream_process::Outcome::Rows { rows, .. } = node.engine.session().execute(query).await.unwrap() else {
        panic!("{query} gives no rows")
    };
    let told = tokio::spawn(rows.try_collect::<Vec<_>>());
    node.write(0..5).await;
    node.ask("FLUSH").await.unwrap();
    node.ask("DROP MATERIALIZED VIEW tens").await.unwrap();
    let error = told.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("tens") && error.contains("dropped or replaced"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_waits_for_one_below_goes_on_when_that_is_replaced() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..10).await;
    let broken = "SELECT 10 / id AS tens, count(*) AS n FROM s GROUP BY 10 / id";
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {broken} ON ERROR STOP")).await.unwrap_err();
    let above = format!("CREATE MATERIALIZED VIEW sizes AS {SIZES}");
    let replaced = async {
        while node.number("SELECT count(*) FROM system.views WHERE name = 'sizes'").await == 0 {
            tokio::task::yield_now().await;
        }
        node.ask(&format!("CREATE REPLACEMENT MATERIALIZED VIEW next FOR tens AS {TENS}")).await.unwrap();
        node.ask("ALTER MATERIALIZED VIEW tens APPLY REPLACEMENT next").await.unwrap();
    };
    let (made, ()) = tokio::join!(node.ask(&above), replaced);
    made.unwrap();
    node.write(10..15).await;
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT sum(size * groups) FROM sizes").await, 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_view_over_a_replaced_one_stands_on_the_new_one() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..10).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {TENS}")).await.unwrap();
    node.ask("CREATE VIEW twice AS SELECT tens, 2 * n AS n FROM tens").await.unwrap();
    node.ask(&format!("CREATE REPLACEMENT MATERIALIZED VIEW next FOR tens AS {TENS}")).await.unwrap();
    node.ask("ALTER MATERIALIZED VIEW tens APPLY REPLACEMENT next").await.unwrap();
    assert_eq!(node.number("SELECT sum(n) FROM twice").await, 20);
    node.ask("COMMENT ON VIEW twice IS 'two of each'").await.unwrap();
    node.ask("DROP MATERIALIZED VIEW tens CASCADE").await.unwrap();
    assert!(node.ask("SELECT * FROM twice").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn flush_waits_for_a_stream_whose_query_has_a_suspended_view_in_it() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.ask("CREATE MATERIALIZED VIEW odd AS SELECT id FROM s WHERE id % 2 = 1").await.unwrap();
    node.ask("CREATE STREAM of_odd AS SELECT id * 10 AS id FROM odd").await.unwrap();
    node.ask("ALTER MATERIALIZED VIEW odd SUSPEND").await.unwrap();
    for round in 0..5 {
        node.write(round * 100..round * 100 + 100).await;
        node.ask("FLUSH").await.unwrap();
        assert_eq!(node.number("SELECT count(*) FROM of_odd").await, 50 * (round + 1));
    }
    assert_eq!(node.number("SELECT count(*) FROM odd").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_over_a_view_that_refuses_rows_at_its_start_is_flushed() {
    let node = Node::start().await;
    node.create_s(1).await;
    node.write(0..50).await;
    node.ask(&format!("CREATE MATERIALIZED VIEW tens AS {TENS}")).await.unwrap();
    node.ask("CREATE MATERIALIZED VIEW sizes AS SELECT tens, 100 / (n - 1) AS part FROM tens").await.unwrap();
    node.write(50..51).await;
    node.ask("FLUSH").await.unwrap();
    // The view below takes in a row that it had not taken in before the stop, and the one above refuses it.
    node.ask("ALTER MATERIALIZED VIEW tens SUSPEND").await.unwrap();
    node.write(60..61).await;
    node.ask("FLUSH").await.unwrap();
    let node = node.restart().await;
    node.ask("ALTER MATERIALIZED VIEW sizes SUSPEND").await.unwrap();
    node.ask("ALTER MATERIALIZED VIEW tens RESUME").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    let node = node.restart().await;
    node.ask("ALTER MATERIALIZED VIEW sizes RESUME").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT count(*) FROM sizes").await, 5);
    node.ask("CREATE MATERIALIZED VIEW again AS SELECT tens, 100 / (n - 1) AS part FROM tens").await.unwrap();
    node.ask("FLUSH").await.unwrap();
    assert_eq!(node.number("SELECT count(*) FROM again").await, 5);
    assert_eq!(node.number("SELECT count(*) FROM system.quarantine").await, 4);
}
