//! The report as one page that needs nothing else: the table, and plots of latency by percentile, of
//! throughput and of latency over time.

use super::timeline::{Span, Timeline};
use super::{Figures, Latencies, Tally, write_table};
use plotters::prelude::*;
use std::error::Error;
use std::ops::Range;

const PLOT_PIXELS: (u32, u32) = (960, 320);
/// Points of a line by percentile, less one.
const PERCENTILE_STEPS: u32 = 160;
const GET: RGBColor = RGBColor(31, 119, 180);
const SET: RGBColor = RGBColor(214, 39, 40);
const THIRD: RGBColor = RGBColor(127, 127, 127);

/// A line of a plot: its name, its colour, its points by rising x.
type Line = (&'static str, RGBColor, Vec<(f64, f64)>);

/// The whole page.
///
/// # Errors
/// What the plotter says; it writes to memory, so none is expected.
pub(crate) fn html_page(
    figures: &Figures,
    tally: &Tally,
    timeline: &Timeline,
) -> Result<String, Box<dyn Error>> {
    let mut table = Vec::new();
    write_table(figures, &mut table)?;
    let table = escaped(&String::from_utf8_lossy(&table));
    let percentiles = percentile_plot(tally)?;
    let spans = timeline.spans();
    let throughput = throughput_plot(spans)?;
    let latency = latency_plot(spans)?;
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>loadgen: {target}</title>\n\
         <style>body{{font-family:sans-serif;margin:2em auto;max-width:{width}px}}\
         pre{{overflow-x:auto;background:#f4f4f4;padding:1em}}svg{{max-width:100%;height:auto}}</style>\n\
         </head>\n<body>\n<h1>loadgen: {target}</h1>\n<pre>{table}</pre>\n\
         <h2>Latency by percentile</h2>\n{percentiles}\n<h2>Throughput</h2>\n{throughput}\n\
         <h2>Latency over time</h2>\n{latency}\n</body>\n</html>\n",
        target = escaped(&figures.target),
        width = PLOT_PIXELS.0,
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Latency against how rare it is: at x = 3 is the 99.9th percentile.
fn percentile_plot(tally: &Tally) -> Result<String, Box<dyn Error>> {
    let operations = [
        ("GET", GET, &tally.gets.latencies),
        ("SET", SET, &tally.sets.latencies),
    ];
    let lines: Vec<Line> = operations
        .into_iter()
        .map(|(name, colour, latencies)| (name, colour, by_percentile(latencies)))
        .collect();
    let nines = lines.iter().flat_map(|(_, _, points)| points);
    let rarest = nines.map(|&(x, _)| x).fold(1.0, f64::max);
    plot(
        "percentile",
        "us",
        &lines,
        0.0..rarest,
        &|x| format!("{}", 100.0 * (1.0 - 10f64.powf(-x))),
        true,
    )
}

/// Up to the percentile above which there is one value, the greatest.
fn by_percentile(latencies: &Latencies) -> Vec<(f64, f64)> {
    let histogram = latencies.histogram();
    if histogram.is_empty() {
        return Vec::new();
    }
    let rarest = (histogram.len() as f64).log10();
    (0..=PERCENTILE_STEPS)
        .map(|step| {
            let x = rarest * f64::from(step) / f64::from(PERCENTILE_STEPS);
            let ns = histogram.value_at_quantile(1.0 - 10f64.powf(-x));
            (x, ns.min(histogram.max()).max(1) as f64 / 1e3)
        })
        .collect()
}

fn throughput_plot(spans: &[Span]) -> Result<String, Box<dyn Error>> {
    let of = |value: fn(&Span) -> f64| over_time(spans, value);
    let mut lines = vec![("answers a second", GET, of(Span::per_second))];
    if spans.iter().any(|span| span.errors > 0) {
        lines.push((
            "errors a second",
            SET,
            of(|span| span.errors as f64 / span.length.max(1e-3)),
        ));
    }
    plot(
        "s",
        "a second",
        &lines,
        duration(spans),
        &|x| format!("{x}"),
        false,
    )
}

fn latency_plot(spans: &[Span]) -> Result<String, Box<dyn Error>> {
    let answered: Vec<Span> = spans
        .iter()
        .filter(|span| span.answered > 0)
        .copied()
        .collect();
    let of = |value: fn(&Span) -> f64| over_time(&answered, value);
    let lines = [
        ("p50", GET, of(|span| span.p50_ns as f64 / 1e3)),
        ("p99", SET, of(|span| span.p99_ns as f64 / 1e3)),
        ("max", THIRD, of(|span| span.max_ns as f64 / 1e3)),
    ];
    plot(
        "s",
        "us",
        &lines,
        duration(spans),
        &|x| format!("{x}"),
        true,
    )
}

/// Each span from its beginning to its end.
fn over_time(spans: &[Span], value: fn(&Span) -> f64) -> Vec<(f64, f64)> {
    let ends = |span: &Span| {
        [
            (span.start, value(span)),
            (span.start + span.length, value(span)),
        ]
    };
    spans.iter().flat_map(ends).collect()
}

fn duration(spans: &[Span]) -> Range<f64> {
    let end = spans.last().map_or(1.0, |span| span.start + span.length);
    0.0..end.max(1e-3)
}

/// A plot as SVG. `is_log`: of the y axis, whose values are above zero then.
fn plot(
    x_name: &str,
    y_name: &str,
    lines: &[Line],
    x_range: Range<f64>,
    x_label: &dyn Fn(&f64) -> String,
    is_log: bool,
) -> Result<String, Box<dyn Error>> {
    let values = lines
        .iter()
        .flat_map(|(_, _, points)| points)
        .map(|&(_, y)| y);
    let (least, most) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(least, most), y| {
        (least.min(y), most.max(y))
    });
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, PLOT_PIXELS).into_drawing_area();
        root.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(&root);
        builder
            .margin(10)
            .x_label_area_size(40)
            .y_label_area_size(80);
        // The two kinds of axes are two types.
        macro_rules! draw {
            ($y_range:expr) => {{
                let mut chart = builder.build_cartesian_2d(x_range, $y_range)?;
                chart
                    .configure_mesh()
                    .x_desc(x_name)
                    .y_desc(y_name)
                    .x_label_formatter(x_label)
                    .y_label_formatter(&|y| format!("{y}"))
                    .draw()?;
                for (name, colour, points) in lines {
                    let colour = *colour;
                    chart
                        .draw_series(LineSeries::new(
                            points.iter().copied(),
                            colour.stroke_width(2),
                        ))?
                        .label(*name)
                        .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], colour));
                }
                chart
                    .configure_series_labels()
                    .position(SeriesLabelPosition::UpperLeft)
                    .background_style(WHITE)
                    .border_style(BLACK)
                    .draw()?;
            }};
        }
        if is_log {
            let least = least.min(most) / 1.5;
            draw!((least..most * 1.5).log_scale());
        } else {
            draw!(0.0..most * 1.1);
        }
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::{Timeline, html_page};
    use crate::report::figures::tests::{config, facts, tally};
    use crate::report::{Figures, Tally};
    use std::time::Duration;

    fn page(tally: &Tally, timeline: &Timeline, flags: &str) -> String {
        let figures = Figures::new(&config(flags), tally, facts());
        html_page(&figures, tally, timeline).expect("in memory")
    }

    #[test]
    fn the_page_is_whole_and_needs_nothing_else() {
        let (tally, mut timeline) = (tally(), Timeline::new());
        for second in 0..3 {
            timeline.add(&tally, Duration::from_secs(second), Duration::from_secs(1));
        }
        let page = page(&tally, &timeline, "--target [::1]:6379");
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert_eq!(page.matches("<svg").count(), 3);
        assert_eq!(page.matches("</svg>").count(), 3);
        for text in [
            "99.9",
            "GET",
            "SET",
            "answers a second",
            "errors a second",
            "p99",
            "max",
        ] {
            assert!(page.contains(text), "{text}");
        }
        for outside in ["href=", "src=", "<script", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn what_users_give_is_text() {
        let page = page(&tally(), &Timeline::new(), "--target <b>&\":1");
        assert!(page.contains("&lt;b&gt;&amp;&quot;:1"));
        assert!(!page.contains("<b>"));
    }

    #[test]
    fn a_run_without_an_answer_has_a_page() {
        let mut timeline = Timeline::new();
        let empty = Tally::new();
        timeline.add(&empty, Duration::ZERO, Duration::from_millis(1));
        assert_eq!(page(&empty, &timeline, "").matches("<svg").count(), 3);
        assert_eq!(
            page(&empty, &Timeline::new(), "").matches("<svg").count(),
            3
        );
    }
}
