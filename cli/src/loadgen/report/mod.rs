//! What a run says about itself: counting, the figures, and how they are shown.

mod figures;
mod hdr_log;
mod html;
mod machine;
mod progress;
mod table;
mod tally;
mod timeline;

pub(crate) use figures::{Figures, RunFacts};
pub(crate) use hdr_log::{IntervalSink, begin_log};
pub(crate) use html::{Side, html_page};
pub(crate) use progress::Progress;
pub(crate) use table::{write_comparison, write_table};
pub(crate) use tally::Tally;
pub(crate) use timeline::Timeline;

use figures::{LatencyFigures, OperationFigures};
use machine::Machine;
use tally::{Latencies, OperationTally};
