//! Some of an interval's values: all of them if they are few, else as many as a line takes, each as likely as any other
//! (reservoir sampling, Vitter's algorithm R). So averages and percentiles of the sample are those of the interval, about.

/// The most values of one metric that a line may have.
pub const MAX_SAMPLE: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Reservoir {
    values: Vec<f64>,
    seen: usize,
}

impl Reservoir {
    pub(super) fn add(&mut self, value: f64) {
        self.seen += 1;
        if self.values.len() < MAX_SAMPLE {
            self.values.push(value);
        } else if let Some(place) = self.values.get_mut(fastrand::usize(..self.seen)) {
            *place = value;
        }
    }

    pub(super) fn into_values(self) -> Vec<f64> {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn few_values_are_kept_and_of_many_a_sample_from_all_over() {
        let sample = |count: u32| {
            let mut sample = Reservoir::default();
            (0..count).for_each(|value| sample.add(f64::from(value)));
            sample.into_values()
        };
        assert_eq!(sample(100), (0..100).map(f64::from).collect::<Vec<_>>());
        let many = sample(100_000);
        assert_eq!(many.len(), MAX_SAMPLE);
        // The mean of 100 of them has a standard deviation of 2,900: this is more than ten of those around the middle.
        let mean = many.iter().sum::<f64>() / many.len() as f64;
        assert!((20_000.0..80_000.0).contains(&mean), "{mean}");
    }
}
