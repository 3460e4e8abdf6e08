//! An axis: from values to places, and where its ticks are.

/// Values along one side of a panel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// What it counts, with the unit.
    pub(super) title: String,
    is_log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// From `from` to the first round number at or above `to`.
    pub(super) fn linear(title: &str, from: f64, to: f64) -> Axis {
        let step = step(from, to);
        Axis { title: title.to_owned(), is_log: false, from, to: from + ((to - from) / step).ceil() * step }
    }

    /// From the mark at or below `from`, which is above zero, to the one at or above `to`; marks are 1, 2 and 5 times
    /// the powers of ten.
    pub(super) fn log(title: &str, from: f64, to: f64) -> Axis {
        let from = from.max(SMALLEST);
        let to = to.max(2.0 * from);
        let low = marks(from).filter(|mark| *mark <= from).fold(f64::NAN, f64::max);
        let high = marks(to).filter(|mark| *mark >= to).fold(f64::NAN, f64::min);
        Axis { title: title.to_owned(), is_log: true, from: low.log10(), to: high.log10() }
    }

    /// Where a value stands, from 0 to 1; what lies outside stands at the edge.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(SMALLEST).log10() } else { value };
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    /// Values with a label.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if self.is_log {
            return self.marks();
        }
        let step = step(self.from, self.to);
        let values = (0..64_u32).map(|number| self.from + f64::from(number) * step);
        values.take_while(|value| *value <= self.to + step * 1e-6).collect()
    }

    /// All marks where there is room for them, else the powers of ten alone.
    fn marks(&self) -> Vec<f64> {
        const ROOMY_DECADES: f64 = 3.0;
        let is_roomy = self.to - self.from <= ROOMY_DECADES;
        let steps: &[f64] = if is_roomy { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let powers = (0..32_u32).map(|number| 10_f64.powf(self.from.floor() + f64::from(number)));
        let all = powers.flat_map(|power| steps.iter().map(move |step| step * power));
        let is_within = |mark: &f64| (self.from - 1e-9..=self.to + 1e-9).contains(&mark.log10());
        all.filter(is_within).collect()
    }
}

/// Nothing drawn here is smaller.
const SMALLEST: f64 = 1e-6;

/// The marks around a value.
fn marks(value: f64) -> impl Iterator<Item = f64> {
    // Not exactly: the logarithm of a power of ten may fall a little short of it.
    let power = 10_f64.powf((value.log10() + 1e-9).floor());
    [0.5, 1.0, 2.0, 5.0, 10.0].into_iter().map(move |step| step * power)
}

/// Five to ten steps of 1, 2 or 5 times a power of ten.
fn step(from: f64, to: f64) -> f64 {
    let rough = ((to - from) / 8.0).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= rough);
    step.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_ends_at_a_round_number() {
        let axis = Axis::linear("time (s)", 0.0, 38.2);
        assert_eq!(axis.ticks(), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0]);
        assert_eq!([axis.place(-1.0), axis.place(20.0), axis.place(99.0)], [0.0, 0.5, 1.0]);
    }

    #[test]
    fn a_logarithmic_axis_ends_at_marks() {
        let axis = Axis::log("latency (ms)", 1.0, 9_500.0);
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!([axis.place(0.0), axis.place(100.0), axis.place(1e9)], [0.0, 0.5, 1.0]);
        assert_eq!(Axis::log("one", 1.0, 1.0).ticks(), [1.0, 2.0], "never of no length");
        assert_eq!(Axis::log("clients", 1.0, 128.0).ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(Axis::log("bytes", 130.0, 1_000.0).ticks(), [100.0, 200.0, 500.0, 1_000.0]);
    }
}
