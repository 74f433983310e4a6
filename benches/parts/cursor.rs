//! Parsing and formatting positions: each resume and each poll sends one, and each event has one.

use std::hint::black_box;

use criterion::Criterion;
use tower_events::{Channel, Cursor, Cursors};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cursor");
    let cursor = Cursor { epoch: 0x0123_4567_89ab_cdef, seq: 1_000_000, tag: 0xfeed };
    let text = cursor.to_string();
    group.bench_function("parse", |bencher| bencher.iter(|| black_box(&text).parse::<Cursor>()));
    group.bench_function("write", |bencher| bencher.iter(|| black_box(cursor).to_string()));

    let channels: Vec<_> = (0..32).map(|at| Channel::new(format!("channel-{at}")).expect("a name")).collect();
    let token = Cursors::of(channels.iter().map(|channel| (channel, cursor))).to_string();
    group.bench_function("parse, 32 channels", |bencher| {
        bencher.iter(|| Cursors::parse(black_box(token.as_bytes())).expect("a token"));
    });
    group.finish();
}
