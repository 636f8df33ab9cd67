//! Files of web servers: what is read of them, and what is said where a server or the setting refuses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use millstream_catalog::fault::{Code, Fault};
use millstream_process::PlainHttp;

use crate::files::{batch, write_parquet};
use crate::harness::Node;

/// A web server of some files. It ends with the test.
struct Web {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Web {
    /// Serves files by their paths, in parts if `parts` says so.
    fn serve(files: BTreeMap<String, Vec<u8>>, parts: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                answer(&connection.unwrap(), &files, parts, &log);
            }
        });
        Self { address, asked }
    }
}

fn answer(connection: &TcpStream, files: &BTreeMap<String, Vec<u8>>, parts: bool, log: &Mutex<Vec<String>>) {
    let lines: Vec<String> =
        BufReader::new(connection).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some(request) = lines.first() else { return };
    log.lock().unwrap().push(request.clone());
    let (method, target) = request.split_once(' ').unwrap();
    let path = target.split(['?', ' ']).next().unwrap();
    let range = lines.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let range = range.filter(|_| parts);
    let (status, body, place) = match files.get(path) {
        None if path.starts_with("/secret") => ("403 Forbidden", &[][..], String::new()),
        None => ("404 Not Found", &[][..], String::new()),
        Some(whole) => match range.map(|range| part(&range, whole.len())) {
            None => ("200 OK", whole.as_slice(), String::new()),
            Some((start, end)) => {
                let place = format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, whole.len());
                ("206 Partial Content", &whole[start..end], place)
            }
        },
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{place}Last-Modified: Sun, 22 Nov 2026 00:00:00 GMT\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    let body = if method == "GET" { body } else { &[] };
    // A client that has what it wants may be gone.
    let _ = (&mut (&*connection)).write_all(&[head.as_bytes(), body].concat());
}

/// The part that `first-last`, `first-` or `-length` names.
fn part(range: &str, length: usize) -> (usize, usize) {
    let (first, last) = range.split_once('-').unwrap();
    match first.parse::<usize>() {
        Ok(first) => (first, last.parse::<usize>().map_or(length, |last| (last + 1).min(length))),
        Err(_) => (length - last.parse::<usize>().unwrap().min(length), length),
    }
}

fn files() -> BTreeMap<String, Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    write_parquet(&dir.path().join("a.parquet"), &batch(0, 5000));
    BTreeMap::from([
        ("/d/a.csv".to_owned(), b"id,name\n1,x\n2,y\n".to_vec()),
        ("/d/a b.ndjson".replace(' ', "%20"), b"{\"id\": 7}\n".to_vec()),
        ("/d/a.parquet".to_owned(), std::fs::read(dir.path().join("a.parquet")).unwrap()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_a_web_server_are_read_and_loaded() {
    let node = Node::with_plain_http(PlainHttp::Loopback).await;
    let web = Web::serve(files(), true);
    let at = &web.address;
    assert_eq!(node.number(&format!("SELECT sum(id) FROM '{at}/d/a.csv'")).await, 3);
    assert_eq!(node.number(&format!("SELECT id FROM read_json('{at}/d/a%20b.ndjson')")).await, 7);
    assert_eq!(node.number(&format!("SELECT count(*) FROM '{at}/d/a.parquet' WHERE id >= 4990")).await, 10);
    node.ask(&format!("CREATE TABLE t FROM SAMPLE '{at}/d/a.parquet'")).await.unwrap();
    let copy = format!("COPY t FROM ['{at}/d/a.parquet'] WITH (once = true)");
    assert_eq!(node.ask(&copy).await.unwrap(), "COPY 5000");
    assert_eq!(node.ask(&copy).await.unwrap(), "COPY 0");
    // What stands behind the path goes with each request, and makes no other file of it.
    let signed = "FORMAT parquet, once = true";
    for signature in ["one", "two"] {
        let copy = format!("COPY t FROM '{at}/d/a.parquet?signature={signature}' WITH ({signed})");
        assert_eq!(node.ask(&copy).await.unwrap(), "COPY 0");
        let sum = format!("SELECT sum(id) FROM read_parquet('{at}/d/a.parquet?signature={signature}')");
        assert_eq!(node.number(&sum).await, 12_497_500);
        let asked = web.asked.lock().unwrap().clone();
        assert!(
            asked.iter().any(|r| r.starts_with("GET") && r.contains(&format!("?signature={signature} "))),
            "{asked:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_web_server_does_not_give_is_told_with_the_fix() {
    let node = Node::with_plain_http(PlainHttp::Loopback).await;
    let web = Web::serve(files(), false);
    let at = &web.address;
    assert_eq!(node.number(&format!("SELECT count(*) FROM '{at}/d/a.csv'")).await, 2);
    for (place, code, parts) in [
        ("d/none.csv", Code::UndefinedFile, &["there is no file", "d/none.csv"][..]),
        ("d/*.csv", Code::UndefinedFile, &["d/*.csv", "name each of them"]),
        ("d/a.parquet", Code::IoError, &["d/a.parquet", "whole files alone", "copy it to another place"]),
        ("secret.csv", Code::Denied, &["secret.csv", "may not be read"]),
    ] {
        let error = node.ask(&format!("SELECT * FROM '{at}/{place}'")).await.unwrap_err();
        assert_eq!(error.code(), code, "{place}: {error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{place}: {error} does not say {part}");
        }
    }
    let error = node.ask(&format!("COPY (SELECT 1 AS a) TO '{at}/out.csv'")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unsupported, "{error}");
    let closed = Node::start().await;
    let error = closed.ask(&format!("SELECT * FROM '{at}/d/a.csv'")).await.unwrap_err();
    assert_eq!(error.code(), Code::Denied, "{error}");
    assert!(error.to_string().contains("files.http"), "{error}");
    let error = node.ask("SELECT * FROM 'http://192.0.2.1/a.csv'").await.unwrap_err();
    assert_eq!(error.code(), Code::Denied, "{error}");
    assert!(!web.asked.lock().unwrap().is_empty());
}
