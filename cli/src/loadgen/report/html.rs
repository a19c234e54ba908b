//! The report as one page that needs nothing else: the table, and plots of latency by percentile, of
//! throughput and of latency over time.

use super::timeline::{Span, Timeline};
use super::{Figures, Latencies, Tally, write_comparison, write_table};
use plotters::prelude::*;
use std::error::Error;
use std::ops::Range;

const PLOT_PIXELS: (u32, u32) = (960, 320);
/// Points of a line by percentile, less one.
const PERCENTILE_STEPS: u32 = 160;
const GET: RGBColor = RGBColor(31, 119, 180);
const SET: RGBColor = RGBColor(214, 39, 40);
const THIRD: RGBColor = RGBColor(127, 127, 127);

/// Of targets that are compared.
const SIDES: [RGBColor; 8] = [
    GET,
    SET,
    RGBColor(44, 160, 44),
    RGBColor(255, 127, 14),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    THIRD,
];

/// A line of a plot: its name, its colour, its points by rising x.
type Line = (String, RGBColor, Vec<(f64, f64)>);

/// What is known of one target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'r> {
    pub(crate) figures: &'r Figures,
    pub(crate) tally: &'r Tally,
    pub(crate) timeline: &'r Timeline,
}

/// The lines of the three plots.
struct Plots {
    percentiles: Vec<Line>,
    throughput: Vec<Line>,
    latency: Vec<Line>,
}

/// The whole page, of one target or of several that are compared.
///
/// # Errors
/// What the plotter says; it writes to memory, so none is expected.
pub(crate) fn html_page(sides: &[Side<'_>]) -> Result<String, Box<dyn Error>> {
    let mut table = Vec::new();
    let plots = match sides {
        [one] => {
            write_table(one.figures, &mut table)?;
            plots_of_one(one)
        }
        several => {
            let figures: Vec<&Figures> = several.iter().map(|side| side.figures).collect();
            write_comparison(&figures, &mut table)?;
            plots_of_several(several)
        }
    };
    let table = escaped(&String::from_utf8_lossy(&table));
    let names: Vec<&str> = sides.iter().map(|side| &*side.figures.name).collect();
    let ends = sides.iter().map(|side| end(side.timeline.spans()));
    let seconds = 0.0..ends.fold(1e-3, f64::max);
    let percentiles = percentile_plot(&plots.percentiles)?;
    let throughput = plot(
        "s",
        "a second",
        &plots.throughput,
        seconds.clone(),
        &|x| format!("{x}"),
        false,
    )?;
    let latency = plot(
        "s",
        "us",
        &plots.latency,
        seconds,
        &|x| format!("{x}"),
        true,
    )?;
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>loadgen: {target}</title>\n\
         <style>body{{font-family:sans-serif;margin:2em auto;max-width:{width}px}}\
         pre{{overflow-x:auto;background:#f4f4f4;padding:1em}}svg{{max-width:100%;height:auto}}</style>\n\
         </head>\n<body>\n<h1>loadgen: {target}</h1>\n<pre>{table}</pre>\n\
         <h2>Latency by percentile</h2>\n{percentiles}\n<h2>Throughput</h2>\n{throughput}\n\
         <h2>Latency over time</h2>\n{latency}\n</body>\n</html>\n",
        target = escaped(&names.join(" beside ")),
        width = PLOT_PIXELS.0,
    ))
}

fn plots_of_one(side: &Side<'_>) -> Plots {
    let spans = side.timeline.spans();
    let line = |name: &str, colour, points| (name.to_owned(), colour, points);
    let per_second = over_time(spans, Span::per_second);
    let mut throughput = vec![line("answers a second", GET, per_second)];
    if spans.iter().any(|span| span.errors > 0) {
        let errors = over_time(spans, |span| span.errors as f64 / span.length.max(1e-3));
        throughput.push(line("errors a second", SET, errors));
    }
    let of = |value: fn(&Span) -> f64| over_time(&answered(spans), value);
    Plots {
        percentiles: side
            .tally
            .operations()
            .into_iter()
            .zip(SIDES)
            .map(|((name, counts), colour)| line(name, colour, by_percentile(&counts.latencies)))
            .filter(|(_, _, points)| !points.is_empty())
            .collect(),
        throughput,
        latency: vec![
            line("p50", GET, of(|span| span.p50_ns as f64 / 1e3)),
            line("p99", SET, of(|span| span.p99_ns as f64 / 1e3)),
            line("max", THIRD, of(|span| span.max_ns as f64 / 1e3)),
        ],
    }
}

/// A line for each target: all its operations, and the p99 over time.
fn plots_of_several(sides: &[Side<'_>]) -> Plots {
    let lines = |points: fn(&Side<'_>) -> Vec<(f64, f64)>| {
        let coloured = sides.iter().zip(SIDES.into_iter().cycle());
        let line =
            |(side, colour): (&Side<'_>, _)| (side.figures.name.clone(), colour, points(side));
        coloured.map(line).collect()
    };
    Plots {
        percentiles: lines(|side| by_percentile(&side.tally.latencies())),
        throughput: lines(|side| over_time(side.timeline.spans(), Span::per_second)),
        latency: lines(|side| {
            over_time(&answered(side.timeline.spans()), |span| {
                span.p99_ns as f64 / 1e3
            })
        }),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Latency against how rare it is: at x = 3 is the 99.9th percentile.
fn percentile_plot(lines: &[Line]) -> Result<String, Box<dyn Error>> {
    let nines = lines.iter().flat_map(|(_, _, points)| points);
    let rarest = nines.map(|&(x, _)| x).fold(1.0, f64::max);
    plot(
        "percentile",
        "us",
        lines,
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

/// Those in which something was answered.
fn answered(spans: &[Span]) -> Vec<Span> {
    let mut spans = spans.to_vec();
    spans.retain(|span| span.answered > 0);
    spans
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

fn end(spans: &[Span]) -> f64 {
    spans.last().map_or(1.0, |span| span.start + span.length)
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
                        .label(name)
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
    use super::{Side, Timeline, html_page};
    use crate::report::figures::tests::{config, facts, tally};
    use crate::report::{Figures, Tally};
    use std::time::Duration;

    fn page(tally: &Tally, timeline: &Timeline, flags: &str) -> String {
        let figures = Figures::new(&config(flags), tally, facts());
        let side = Side {
            figures: &figures,
            tally,
            timeline,
        };
        html_page(&[side]).expect("in memory")
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
    fn targets_are_plotted_beside_each_other() {
        let (tally, mut timeline) = (tally(), Timeline::new());
        timeline.add(&tally, Duration::ZERO, Duration::from_secs(1));
        let both = ["one=h:1", "two=h:2"]
            .map(|target| Figures::new(&config(&format!("--target {target}")), &tally, facts()));
        let sides = both.each_ref().map(|figures| Side {
            figures,
            tally: &tally,
            timeline: &timeline,
        });
        let page = html_page(&sides).expect("in memory");
        assert!(page.contains("<title>loadgen: one beside two</title>"));
        assert_eq!(page.matches("<svg").count(), 3);
        for name in ["one", "two"] {
            // In the legend of each plot.
            let label = format!(">\n{name}\n</text>");
            assert_eq!(page.matches(&label).count(), 3, "{name}");
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
