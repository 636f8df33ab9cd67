//! Time windows in SQL: the table functions TUMBLE, HOP, CUMULATE and SESSION in a query's FROM.
//!
//! A call is the table's columns and two more, `window_start` and `window_end`, of the timestamp column's type. A window
//! holds its start and not its end; a row whose timestamp is NULL is in none.
//!
//! ```text
//! TUMBLE(t, ts, size [, offset])              TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), size [, offset]))
//! HOP(t, ts, slide, size [, offset])          TABLE(HOP(TABLE t, DESCRIPTOR(ts), slide, size [, offset]))
//! CUMULATE(t, ts, step, size [, offset])      TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), step, size [, offset]))
//! SESSION(t [PARTITION BY k, …], ts, gap)     TABLE(SESSION(TABLE t [PARTITION BY k, …], DESCRIPTOR(ts), gap))
//! ```
//!
//! The parts of the two columns mix freely, arguments may be named (`DATA`, `TIMECOL`, `SIZE`, `SLIDE`, `STEP`, `GAP`,
//! `OFFSET`, with `=>`), and `t` is anything with a name, or a query in parentheses.
//!
//! A statement takes three steps: [`respell`] on its tokens, for what the library's parser does not read; [`rewrite`] on
//! what was parsed, so that the planner finds the tables inside the calls; and the planner that [`register`] adds, which
//! makes projections, filters, unnests and window functions of them, and no plan node of its own. [`parse`] does the
//! first two, which also read the versions of tables, `t FOR SYSTEM_TIME AS OF expr` and `t VERSION AS OF n`; to plan
//! these is the caller's.

mod argument;
mod call;
mod error;
mod functions;
mod interval;
mod lower;
mod planner;
mod session;
mod spelling;
mod statement;
mod version;

pub use call::{Function, input};
pub use error::Error;
pub use functions::{window_end, window_ends, window_start, window_starts};
pub use planner::{WindowPlanner, register};
pub use statement::{parse, respell, rewrite};

/// How many windows a row may be in: as many as a day has minutes.
pub const MOST_WINDOWS: i64 = 1440;
