//! Draws a report as SVG: latency, bandwidth and message rate by size, and what loss leaves of bandwidth.
//! A chart shows measured medians only; what was not measured has no point.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use plotters::coord::ranged1d::ValueFormatter;
use plotters::prelude::*;

use super::report::{At, Metric, Report};
use super::section::{MPICH_OWN, RAW_UDP, RXD, SHM, TCP};
use super::site::{Lost, hosts_name, lossy_name};
use crate::mpi::{PEER, RDGRAM};

const SIZE: (u32, u32) = (760, 440);
const FONT: &str = "sans-serif";
const MTU: u16 = 1500;
/// The sections that measure by size, with the lines of their charts in this order and these colours: blue and orange are told apart by everybody.
const SECTIONS: [(&str, &[(&str, RGBColor)]); 2] = [
    (
        "latency",
        &[
            (RDGRAM, BLUE),
            (TCP, ORANGE),
            (PEER, RGBColor(150, 80, 30)),
            (RXD, RGBColor(120, 60, 160)),
            (RAW_UDP, GREY),
        ],
    ),
    ("same-host", &[(RDGRAM, BLUE), (SHM, ORANGE), (MPICH_OWN, RGBColor(120, 60, 160))]),
];

const BLUE: RGBColor = RGBColor(0, 90, 200);
const ORANGE: RGBColor = RGBColor(230, 120, 0);
const GREY: RGBColor = RGBColor(110, 110, 110);
/// Smaller messages are a matter of latency.
const BANDWIDTH_FROM: u64 = 1024;

/// One picture.
#[derive(Debug)]
struct Chart {
    file: String,
    title: String,
    x_label: String,
    y_label: &'static str,
    legend: SeriesLabelPosition,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    name: String,
    colour: RGBColor,
    points: Vec<(f64, f64)>,
}

/// Draw every chart for which the report has figures; returns the files.
pub(crate) fn draw(report: &Report, dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let mut files = Vec::new();
    for (section, subjects) in SECTIONS {
        for place in report.places(section) {
            for chart in by_size(report, At { section, place }, subjects) {
                files.extend(save(&chart, dir, Axes::BySize)?);
            }
        }
    }
    files.extend(save(&under_loss(report), dir, Axes::ByLoss)?);
    Ok(files)
}

fn by_size(report: &Report, at: At<'_>, subjects: &[(&str, RGBColor)]) -> Vec<Chart> {
    let chart = |file: &str, title: &str, y_label, legend, lines| Chart {
        file: format!("{file}-{}.svg", file_name(at.place)),
        title: format!("{title}, {}", at.place),
        x_label: "message, bytes".to_owned(),
        y_label,
        legend,
        lines,
    };
    let lines = |metric, least_bytes| -> Vec<Line> {
        let line = |(name, colour): &(&str, RGBColor)| line(report, at, name, *colour, metric, least_bytes);
        subjects.iter().filter_map(line).collect()
    };
    let mut bandwidth = lines(Metric::PingPongMbS, BANDWIDTH_FROM);
    bandwidth.extend(stream(report, at, &bandwidth));
    // Nothing has no place on a logarithmic axis; one byte takes as long.
    let (latency, rate) = (lines(Metric::HalfRoundTripUs, 1), lines(Metric::UnibandMsgS, 1));
    use SeriesLabelPosition::{LowerLeft, LowerRight, UpperLeft};
    vec![
        chart("latency", "MPI half round trip", "µs", UpperLeft, latency),
        chart("bandwidth", "MPI PingPong bandwidth", "MB/s", LowerRight, bandwidth),
        chart("rate", "MPI message rate, one direction", "messages/s", LowerLeft, rate),
    ]
}

fn line(
    report: &Report,
    at: At<'_>,
    name: &str,
    colour: RGBColor,
    metric: Metric,
    least_bytes: u64,
) -> Option<Line> {
    let results = report.of(at, metric);
    // What was too small for the digits printed is no point either.
    let ours = results.filter(|result| {
        result.key.subject == name && result.key.bytes >= least_bytes && result.median > 0.0
    });
    let points: BTreeMap<u64, f64> = ours.map(|result| (result.key.bytes, result.median)).collect();
    let points: Vec<(f64, f64)> = points.into_iter().map(|(bytes, value)| (bytes as f64, value)).collect();
    (!points.is_empty()).then(|| Line { name: name.to_owned(), colour, points })
}

/// The stream's best rate, as a level beside these lines.
fn stream(report: &Report, at: At<'_>, lines: &[Line]) -> Option<Line> {
    let streams = report.of(at, Metric::StreamMbS).filter(|result| result.key.subject == RAW_UDP);
    let level = streams.map(|result| result.median).reduce(f64::max)?;
    let sizes = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.0));
    let points = vec![(sizes().reduce(f64::min)?, level), (sizes().reduce(f64::max)?, level)];
    Some(Line { name: format!("{RAW_UDP}, GSO stream"), colour: GREY, points })
}

/// Bandwidth as a share of that without loss, in the same setting.
fn under_loss(report: &Report) -> Chart {
    let mut lines = Vec::new();
    for (lost, what) in [(Lost::Datagrams, "single datagrams lost"), (Lost::Trains, "whole trains lost")] {
        for (metric, name, colour) in [
            (Metric::UnibandMbS, "Uniband", RGBColor(0, 90, 200)),
            (Metric::PingPongMbS, "PingPong", RGBColor(230, 120, 0)),
        ] {
            let median = |per_mille| {
                let place = lossy_name(MTU, lost, per_mille);
                report.median(At { section: "loss", place: &place }, RDGRAM, metric, 1 << 20, 2)
            };
            let Some(clean) = median(0) else { continue };
            let share =
                |per_mille: u16| Some((f64::from(per_mille) / 10.0, 100.0 * median(per_mille)? / clean));
            let points: Vec<(f64, f64)> = (0..=100).filter_map(share).collect();
            let colour = if lost == Lost::Trains { lighter(colour) } else { colour };
            lines.push(Line { name: format!("{name}, {what}"), colour, points });
        }
    }
    Chart {
        file: "loss.svg".to_owned(),
        title: format!("rdgram, 1 MiB messages under loss, {}", hosts_name(MTU)),
        x_label: "lost, %".to_owned(),
        y_label: "% of the bandwidth without loss",
        legend: SeriesLabelPosition::LowerLeft,
        lines,
    }
}

fn lighter(colour: RGBColor) -> RGBColor {
    let RGBColor(red, green, blue) = colour;
    let half = |part: u8| 128 + part / 2;
    RGBColor(half(red), half(green), half(blue))
}

/// What the axes of a chart are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axes {
    /// Both logarithmic.
    BySize,
    /// Both linear, from zero.
    ByLoss,
}

/// None when there is nothing to show.
fn save(chart: &Chart, dir: &Path, axes: Axes) -> Result<Option<PathBuf>> {
    // A line needs two points to be one.
    let points: Vec<(f64, f64)> = chart.lines.iter().flat_map(|line| line.points.iter().copied()).collect();
    if chart.lines.iter().all(|line| line.points.len() < 2) {
        return Ok(None);
    }
    let most = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(f64::MIN, f64::max);
    let least = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).fold(f64::MAX, f64::min);
    let (x_most, y_most) = (most(|point| point.0), most(|point| point.1));
    let (x_least, y_least) = (least(|point| point.0), least(|point| point.1));
    let path = dir.join(&chart.file);
    let mut text = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(|error| anyhow!("cannot draw {}: {error}", chart.file))?;
        let mut builder = ChartBuilder::on(&area);
        builder.caption(&chart.title, (FONT, 20)).margin(12).x_label_area_size(40).y_label_area_size(70);
        match axes {
            Axes::BySize => {
                let x = (x_least..x_most * 1.3).log_scale().base(4.0);
                let y = (y_least / 1.3..y_most * 1.3).log_scale();
                plot(&area, builder.build_cartesian_2d(x, y), chart, &short_bytes)
            }
            Axes::ByLoss => {
                plot(&area, builder.build_cartesian_2d(0.0..x_most * 1.05, 0.0..y_most * 1.1), chart, &plain)
            }
        }
    };
    drawn.map_err(|error| anyhow!("cannot draw {}: {error}", chart.file))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Some(path))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<T> = std::result::Result<T, DrawingAreaErrorKind<std::io::Error>>;

fn plot<'a, X, Y>(
    area: &Area<'a>,
    context: Drawn<ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>>,
    chart: &Chart,
    x_formatter: &dyn Fn(&f64) -> String,
) -> Drawn<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut context = context?;
    context
        .configure_mesh()
        .light_line_style(WHITE)
        .bold_line_style(BLACK.mix(0.12))
        .x_desc(&chart.x_label)
        .y_desc(chart.y_label)
        .x_label_formatter(x_formatter)
        .y_label_formatter(&plain)
        .label_style((FONT, 14))
        .draw()?;
    for line in &chart.lines {
        let colour = line.colour;
        context
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        context.draw_series(line.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    context
        .configure_series_labels()
        .position(chart.legend.clone())
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.2))
        .label_font((FONT, 14))
        .draw()?;
    area.present()
}

/// A number without digits that say nothing.
fn plain(value: &f64) -> String {
    match *value {
        value if value >= 1e6 => format!("{} M", round(value / 1e6)),
        value if value >= 1e4 => format!("{} k", round(value / 1e3)),
        value => round(value),
    }
}

fn short_bytes(value: &f64) -> String {
    const KIB: f64 = 1024.0;
    match *value {
        value if value >= KIB * KIB => format!("{} Mi", round(value / KIB / KIB)),
        value if value >= KIB => format!("{} Ki", round(value / KIB)),
        value => round(value),
    }
}

fn round(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The name of a place without what file names do not like.
fn file_name(place: &str) -> String {
    let words = place.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::with;

    #[test]
    fn labels_are_short() {
        assert_eq!(plain(&0.25), "0.25");
        assert_eq!(plain(&3_200_000.0), "3.2 M");
        assert_eq!(short_bytes(&65_536.0), "64 Ki");
        assert_eq!(short_bytes(&8.0), "8");
        assert_eq!(file_name("hosts, MTU 1500"), "hosts-mtu-1500");
    }

    #[test]
    fn a_chart_has_a_line_for_everybody_measured_and_none_for_others() -> Result<()> {
        let report = with(
            "latency",
            &[
                ("loopback", RDGRAM, Metric::HalfRoundTripUs, 8, 2, 2.5),
                ("loopback", RDGRAM, Metric::HalfRoundTripUs, 1024, 2, 3.5),
                ("loopback", TCP, Metric::HalfRoundTripUs, 8, 2, 5.0),
                ("loopback", TCP, Metric::HalfRoundTripUs, 1024, 2, 6.0),
            ],
        );
        let dir = std::env::temp_dir().join(format!("rdgram-bench-charts-{}", std::process::id()));
        let files = draw(&report, &dir)?;
        let text = fs::read_to_string(&files[0])?;
        fs::remove_dir_all(&dir)?;
        assert_eq!(files.len(), 1);
        // After everything else the background would hide it.
        let title = text.find("MPI half round trip, loopback");
        assert!(title > text.find("fill=\"#FFFFFF\""), "{text}");
        // Each has its colour, in the line and in the legend.
        for (name, colour) in [(RDGRAM, "#005AC8"), (TCP, "#E67800")] {
            assert!(text.lines().any(|line| line.trim() == name), "{text}");
            let lines = text.lines().filter(|line| line.starts_with("<polyline") && line.contains(colour));
            assert_eq!(lines.count(), 2, "{text}");
        }
        assert!(!text.contains("rxd"), "{text}");
        Ok(())
    }
}
