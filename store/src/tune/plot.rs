//! The plot: how loads grow with the stream, and what each interval costs.

use plotters::{
    chart::ChartContext,
    coord::{Shift, cartesian::Cartesian2d, combinators::LogCoord},
    prelude::{
        BLACK, ChartBuilder, Circle, Color as _, DrawingArea, EmptyElement, IntoDrawingArea as _, IntoLogRange as _,
        LineSeries, PathElement, RGBColor, SVGBackend, SeriesLabelPosition, Text, WHITE,
    },
    style::ShapeStyle,
};

use super::{TuneReport, TuneRow};

const SIZE: (u32, u32) = (1_440, 520);
const FONT: &str = "sans-serif";
/// More of them would overlap.
const TICKS: usize = 5;

/// Distinguishable also for people who do not see all colours (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 9] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(120, 94, 60),
    RGBColor(150, 150, 150),
];

/// Why there is no plot.
#[derive(Debug, thiserror::Error)]
#[error("the plot can't be drawn: {0}")]
pub struct PlotError(String);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<LogCoord<f64>, LogCoord<f64>>>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

impl TuneReport {
    /// The plot as SVG: read units and time of a load by the stream's length, and the costs by the interval.
    ///
    /// # Errors
    /// [`PlotError`], which measured figures do not lead to.
    pub fn to_svg(&self) -> Result<String, PlotError> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| PlotError(error.to_string()))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let title = format!("Snapshots of `{}`: {}", self.category, self.headline());
        let area = area.titled(&title, (FONT, 24))?;
        let panels = area.split_evenly((1, 3));
        self.by_length(&panels[0], "Read units of a load", |row| row.read_units_per_load)?;
        self.by_length(&panels[1], "Time of a load, ms", |row| row.load.as_secs_f64() * 1_000.0)?;
        self.by_interval(&panels[2])?;
        area.present()?;
        Ok(())
    }

    fn headline(&self) -> String {
        self.recommendation.interval.map_or_else(|| "none".to_owned(), |every| format!("every {every} events"))
    }

    /// A line for each interval over the lengths of the stream, both axes logarithmic.
    fn by_length(&self, area: &Area<'_>, caption: &str, value: impl Fn(&TuneRow) -> f64) -> Drawn {
        let x = bounds(self.rows.iter().map(|row| float(row.events)));
        let y = bounds(self.rows.iter().map(&value));
        let mut chart = chart(area, caption, "events in the stream", x, y)?;
        let intervals = std::iter::once(None).chain(self.settings.intervals.iter().copied().map(Some));
        for (interval, colour) in intervals.zip(COLOURS.into_iter().cycle()) {
            let rows = self.rows.iter().filter(|row| row.interval == interval);
            let points: Vec<_> = rows.map(|row| (float(row.events), value(row))).collect();
            if points.is_empty() {
                continue;
            }
            let label = interval.map_or_else(|| "no snapshot".to_owned(), |every| format!("every {every}"));
            let style = ShapeStyle::from(colour).stroke_width(if interval.is_none() { 3 } else { 2 });
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))?
                .label(label)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
            chart.draw_series(points.into_iter().map(|point| Circle::new(point, 3, colour.filled())))?;
        }
        legend(&mut chart, SeriesLabelPosition::UpperLeft)
    }

    /// The costs of each interval in the longest stream, the recommended one marked.
    fn by_interval(&self, area: &Area<'_>) -> Drawn {
        let longest = self.rows.iter().map(|row| row.events).max().unwrap_or_default();
        let rows: Vec<_> = self.rows.iter().filter(|row| row.events == longest).collect();
        let points: Vec<_> =
            rows.iter().filter_map(|row| Some((float(row.interval?), row.dollars_per_million_events))).collect();
        let without = rows.iter().find(|row| row.interval.is_none()).map_or(0.0, |row| row.dollars_per_million_events);
        let x = bounds(points.iter().map(|point| point.0));
        let y = bounds(points.iter().map(|point| point.1).chain([without]));
        let caption = format!("$ for a million events, at {longest} events");
        let mut chart = chart(area, &caption, "events between snapshots", x, y)?;
        let colour = COLOURS[4];
        chart
            .draw_series(LineSeries::new([(x.0, without), (x.1, without)], COLOURS[0].stroke_width(3)))?
            .label("no snapshot")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], COLOURS[0].stroke_width(3)));
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?
            .label("with snapshots")
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 3, colour.filled())))?;
        let chosen = self.recommendation.interval.map(float);
        // The costs are lowest at the recommended interval: away from it there is room.
        let middle = points.get(points.len() / 2).map(|point| point.0);
        let free_corner =
            if chosen < middle { SeriesLabelPosition::LowerRight } else { SeriesLabelPosition::LowerLeft };
        chart.draw_series(points.iter().filter(|point| Some(point.0) == chosen).map(|&point| {
            EmptyElement::at(point)
                + Circle::new((0, 0), 8, COLOURS[5].stroke_width(3))
                + Text::new("recommended", (-36, -28), (FONT, 14))
        }))?;
        legend(&mut chart, free_corner)
    }
}

/// A chart with both axes logarithmic.
fn chart<'a, 'b>(
    area: &'a Area<'b>,
    caption: &str,
    x_label: &str,
    x: (f64, f64),
    y: (f64, f64),
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(area)
        .caption(caption, (FONT, 18))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d((x.0..x.1).log_scale(), (y.0..y.1).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(x_label)
        .x_labels(TICKS)
        .x_label_formatter(&|events| events.to_string())
        .y_label_formatter(&|value| value.to_string())
        .light_line_style(WHITE)
        .label_style((FONT, 13))
        .draw()?;
    Ok(chart)
}

fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>, position: SeriesLabelPosition) -> Drawn {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font((FONT, 13))
        .draw()?;
    Ok(())
}

/// The ends of a logarithmic axis that shows all values, and is never a point.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    const LEAST: f64 = 1e-3;
    let values: Vec<_> = values.map(|value| value.max(LEAST)).collect();
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(LEAST, f64::max);
    (least.min(most) * 0.8, most * 1.25)
}

#[expect(clippy::cast_precision_loss, reason = "a number of events is far below 2^52")]
fn float(events: u64) -> f64 {
    events as f64
}
