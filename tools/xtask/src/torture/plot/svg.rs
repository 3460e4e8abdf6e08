//! Panels one below the other as SVG, readable on light and on dark ground.

use super::axis::Axis;
use crate::stage::figure::grouped;

const WIDTH: f64 = 820.0;
/// Of one panel alone, and of one among several.
const PANEL_HEIGHTS: [f64; 2] = [360.0, 240.0];
const HEAD: f64 = 40.0;
/// Around the drawing of a panel.
const LEFT: f64 = 74.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 46.0;

/// Colours of both grounds, by the class of what is drawn; the ground itself is the page's.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-size:15px;font-weight:600}.panel{font-weight:600}\
.grid{stroke:#d1d9e0;stroke-width:1}.band{fill:#d1d9e0;opacity:.5}.line{fill:none;stroke-width:2}\
.dots{fill:none;stroke-width:3;stroke-linecap:round}.dash{stroke-dasharray:6 4}\
.quorate{stroke:#0969da}.etcd{stroke:#bc4c00}.failed{stroke:#cf222e}.limit{stroke:#59636e}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.grid{stroke:#3d444d}.band{fill:#3d444d}.quorate{stroke:#4493f8}\
.etcd{stroke:#f0883e}.failed{stroke:#ff7b72}.limit{stroke:#9198a1}}";

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Dots,
    Crosses,
    Line,
    Dashes,
}

/// Points that belong together.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    /// Its colour: `quorate`, `etcd`, `failed` or `limit`.
    class: String,
    name: String,
    look: Look,
    points: Vec<(f64, f64)>,
}

impl Curve {
    pub(super) fn new(class: &str, name: &str, look: Look, points: Vec<(f64, f64)>) -> Curve {
        Curve { class: class.to_owned(), name: name.to_owned(), look, points }
    }
}

/// One drawing with its axes.
#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    /// A stretch of the x axis, and what happened there.
    pub(super) band: Option<(f64, f64, String)>,
    pub(super) curves: Vec<Curve>,
}

/// All panels under one title.
pub(super) fn draw(title: &str, panels: &[Panel]) -> String {
    let [alone, among] = PANEL_HEIGHTS;
    let panel_height = if panels.len() > 1 { among } else { alone };
    let height = panels.iter().fold(HEAD, |height, _| height + panel_height);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{0}\">\n<title>{0}</title>\n<style>{STYLE}</style>\n\
         <text class=\"title\" x=\"{LEFT}\" y=\"24\">{0}</text>\n",
        escape(title)
    );
    let mut top = HEAD;
    for panel in panels {
        text.push_str(&format!("<g transform=\"translate(0 {top})\">\n{}</g>\n", panel.draw(panel_height)));
        top += panel_height;
    }
    text.push_str("</svg>\n");
    text
}

impl Panel {
    fn at(&self, panel_height: f64, (x, y): (f64, f64)) -> (f64, f64) {
        let (width, height) = (WIDTH - LEFT - RIGHT, panel_height - TOP - BOTTOM);
        (LEFT + self.x.place(x) * width, TOP + (1.0 - self.y.place(y)) * height)
    }

    fn draw(&self, height: f64) -> String {
        let mut text = String::new();
        let (right, bottom) = (WIDTH - RIGHT, height - BOTTOM);
        if let Some((from, to, what)) = &self.band {
            let [from, to] = [*from, *to].map(|x| self.at(height, (x, 0.0)).0);
            text.push_str(&format!(
                "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n",
                to - from,
                bottom - TOP,
                (from + to) / 2.0,
                TOP + 14.0,
                escape(what)
            ));
        }
        for tick in self.y.ticks() {
            let y = self.at(height, (0.0, tick)).1;
            text.push_str(&format!("<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\n"));
            text.push_str(&label(LEFT - 8.0, y + 4.0, "end", &print(tick)));
        }
        for tick in self.x.ticks() {
            let x = self.at(height, (tick, 0.0)).0;
            text.push_str(&format!("<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>\n"));
            text.push_str(&label(x, bottom + 16.0, "middle", &print(tick)));
        }
        for curve in &self.curves {
            text.push_str(&self.curve(height, curve));
        }
        text.push_str(&format!(
            "<text class=\"panel\" x=\"{LEFT}\" y=\"16\">{}</text>\n",
            escape(&self.title)
        ));
        text.push_str(&label((LEFT + right) / 2.0, bottom + 34.0, "middle", &self.x.title));
        let middle = (TOP + bottom) / 2.0;
        text.push_str(&format!(
            "<text transform=\"translate(16 {middle}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            escape(&self.y.title)
        ));
        text + &self.legend(height)
    }

    fn curve(&self, height: f64, curve: &Curve) -> String {
        if curve.points.is_empty() {
            return String::new();
        }
        let places: Vec<(f64, f64)> = curve.points.iter().map(|point| self.at(height, *point)).collect();
        let path: String = match curve.look {
            Look::Dots => places.iter().map(|(x, y)| format!("M{x:.1} {y:.1}h0")).collect(),
            Look::Crosses => {
                places.iter().map(|(x, y)| format!("M{:.1} {:.1}l6 6m0-6l-6 6", x - 3.0, y - 3.0)).collect()
            }
            Look::Line | Look::Dashes => {
                let steps = places.iter().enumerate();
                steps
                    .map(|(at, (x, y))| format!("{}{x:.1} {y:.1}", if at == 0 { 'M' } else { 'L' }))
                    .collect()
            }
        };
        let mut text = format!("<path class=\"{} {}\" d=\"{path}\"/>\n", style(curve.look), curve.class);
        if curve.look == Look::Line {
            let dots: String = places.iter().map(|(x, y)| format!("M{x:.1} {y:.1}h0")).collect();
            text.push_str(&format!(
                "<path class=\"dots {}\" style=\"stroke-width:6\" d=\"{dots}\"/>\n",
                curve.class
            ));
        }
        text
    }

    /// Only where several curves share a panel; one alone is named by the panel's title.
    fn legend(&self, height: f64) -> String {
        let named: Vec<&Curve> = self.curves.iter().filter(|curve| is_line(curve.look)).collect();
        let mut text = String::new();
        let mut y = height - BOTTOM - 12.0 - 16.0 * f64::from(u32::try_from(named.len()).unwrap_or(0));
        for curve in named {
            y += 16.0;
            let x = WIDTH - RIGHT - 10.0;
            text.push_str(&format!(
                "<path class=\"{} {}\" d=\"M{} {:.1}h24\"/>\n",
                style(curve.look),
                curve.class,
                x - 24.0,
                y - 4.0
            ));
            text.push_str(&label(x - 30.0, y, "end", &curve.name));
        }
        text
    }
}

fn is_line(look: Look) -> bool {
    matches!(look, Look::Line | Look::Dashes)
}

fn style(look: Look) -> &'static str {
    match look {
        Look::Dots => "dots",
        Look::Crosses | Look::Line => "line",
        Look::Dashes => "line dash",
    }
}

fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>\n", escape(text))
}

fn print(value: f64) -> String {
    if value >= 1.0 || value == 0.0 { grouped(value) } else { format!("{value}") }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(look: Look) -> Panel {
        Panel {
            title: "a < b & \"c\"".into(),
            x: Axis::linear("time (s)", 0.0, 10.0),
            y: Axis::log("latency (ms)", 1.0, 1_000.0),
            band: Some((2.0, 4.0, "stands".into())),
            curves: vec![Curve::new("quorate", "ours", look, vec![(0.0, 1.0), (10.0, 1_000.0)])],
        }
    }

    #[test]
    fn what_is_drawn_is_well_formed() {
        for look in [Look::Dots, Look::Crosses, Look::Line, Look::Dashes] {
            let text = draw("title <&>", &[panel(look), panel(look)]);
            for tag in ["g", "text", "svg", "style", "title"] {
                let opened =
                    text.matches(&format!("<{tag}>")).count() + text.matches(&format!("<{tag} ")).count();
                assert_eq!(opened, text.matches(&format!("</{tag}>")).count(), "{tag} in {text}");
            }
            assert!(text.contains("a &lt; b &amp; &quot;c&quot;") && text.contains("title &lt;&amp;&gt;"));
            assert!(text.contains("prefers-color-scheme:dark"));
        }
    }

    #[test]
    fn corners_are_corners() {
        let panel = panel(Look::Line);
        assert_eq!(panel.at(240.0, (0.0, 1.0)), (LEFT, 240.0 - BOTTOM));
        assert_eq!(panel.at(240.0, (10.0, 1_000.0)), (WIDTH - RIGHT, TOP));
        assert!(panel.draw(240.0).contains("M74.0 194.0L802.0 26.0"));
    }
}
