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

    /// From the power of ten at or below `from`, which is above zero, to the one at or above `to`.
    pub(super) fn log(title: &str, from: f64, to: f64) -> Axis {
        let from = from.max(f64::MIN_POSITIVE);
        let [low, high] = [from.log10().floor(), to.max(from).log10().ceil()];
        Axis { title: title.to_owned(), is_log: true, from: low, to: high.max(low + 1.0) }
    }

    /// Where a value stands, from 0 to 1; what lies outside stands at the edge.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.is_log { value.max(f64::MIN_POSITIVE).log10() } else { value };
        ((value - self.from) / (self.to - self.from)).clamp(0.0, 1.0)
    }

    /// Values with a label.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let step = if self.is_log { 1.0 } else { step(self.from, self.to) };
        let values = (0..64_u32).map(|number| self.from + f64::from(number) * step);
        let values = values.take_while(|value| *value <= self.to + step * 1e-6);
        if self.is_log { values.map(|power| 10_f64.powf(power)).collect() } else { values.collect() }
    }
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
    fn a_logarithmic_axis_has_powers_of_ten() {
        let axis = Axis::log("latency (ms)", 1.0, 9_500.0);
        assert_eq!(axis.ticks(), [1.0, 10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!([axis.place(0.0), axis.place(100.0), axis.place(1e9)], [0.0, 0.5, 1.0]);
        assert_eq!(Axis::log("one", 1.0, 1.0).ticks(), [1.0, 10.0], "never of no length");
    }
}
