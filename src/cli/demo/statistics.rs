//! The figures that the demo's modules decide by.

use crate::records::Regime;

/// Arithmetic mean; 0 of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// Standard deviation of a sample.
pub(super) fn deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt()
}

/// Historical value at risk at 99 % and expected shortfall, both positive for a loss: the loss that one
/// return in a hundred exceeds, and the mean of the losses from there on.
pub(super) fn value_at_risk(returns: &[f64]) -> (f64, f64) {
    if returns.is_empty() {
        return (0.0, 0.0);
    }
    let mut sorted = returns.to_vec();
    sorted.sort_by(f64::total_cmp);
    let tail = (sorted.len() as f64 * 0.01).ceil().max(1.0) as usize;
    (-sorted[tail - 1], -mean(&sorted[..tail]))
}

/// Returns of a portfolio from its assets' shares and returns, matched from the latest back.
pub(super) fn weighted(assets: &[(f64, &[f64])]) -> Vec<f64> {
    let bars = assets.iter().map(|(_, returns)| returns.len()).min().unwrap_or_default();
    (0..bars).rev().map(|back| assets.iter().map(|(share, returns)| share * returns[returns.len() - 1 - back]).sum()).collect()
}

/// Largest fall from a peak along compounded returns, a fraction.
pub(super) fn max_drawdown(returns: &[f64]) -> f64 {
    let (mut value, mut peak, mut worst) = (1.0f64, 1.0f64, 0.0f64);
    for r in returns {
        value *= 1.0 + r;
        peak = peak.max(value);
        worst = worst.max(1.0 - value / peak);
    }
    worst
}

/// Correlation of two samples.
pub(super) fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[a.len() - n..], &b[b.len() - n..]);
    let (ma, mb) = (mean(a), mean(b));
    let product = a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum::<f64>();
    let scale = (a.iter().map(|x| (x - ma).powi(2)).sum::<f64>() * b.iter().map(|y| (y - mb).powi(2)).sum::<f64>()).sqrt();
    if scale > 0.0 { product / scale } else { 0.0 }
}

/// What the last day's returns look like against all before: the drift by its t statistic, the
/// volatility by its ratio to the long run's. Confidence grows with the distance from the thresholds.
pub(super) fn classify(recent: &[f64], history: &[f64]) -> (Regime, f64, f64, f64) {
    let (volatility, usual) = (deviation(recent), deviation(history).max(1e-12));
    let ratio = volatility / usual;
    let t = if volatility > 0.0 { mean(recent) / (volatility / (recent.len() as f64).sqrt()) } else { 0.0 };
    let drop = max_drawdown(recent);
    let regime = match () {
        () if ratio > 1.8 && t < -1.5 && drop > 0.04 => Regime::Crisis,
        () if ratio > 1.4 => Regime::HighVol,
        () if t > 1.3 => Regime::Bull,
        () if t < -1.3 => Regime::Bear,
        () if ratio < 0.6 => Regime::LowVol,
        () => Regime::Sideways,
    };
    let distance = match regime {
        Regime::Bull | Regime::Bear => t.abs() - 1.3,
        Regime::HighVol | Regime::Crisis => ratio - 1.4,
        Regime::LowVol => 0.6 - ratio,
        _ => (1.3 - t.abs()).min(1.4 - ratio),
    };
    (regime, (0.5 + distance.max(0.0) / 2.0).min(0.99), t, ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_of_a_hundred_returns_is_its_worst() {
        let returns: Vec<f64> = (0..200).map(|n| f64::from(n) / 1000.0 - 0.1).collect();
        let (var, shortfall) = value_at_risk(&returns);
        assert!((var - 0.099).abs() < 1e-12 && (shortfall - 0.0995).abs() < 1e-12, "{var} {shortfall}");
        assert_eq!(value_at_risk(&[]), (0.0, 0.0));
    }

    #[test]
    fn a_portfolio_moves_by_its_shares() {
        let (long, short) = ([0.9, 0.02, -0.04], [0.01, 0.03]);
        let returns = weighted(&[(0.5, &long), (0.25, &short)]);
        assert!(returns.len() == 2 && (returns[0] - 0.0125).abs() < 1e-12 && (returns[1] + 0.0125).abs() < 1e-12, "{returns:?}");
        assert!(weighted(&[]).is_empty());
    }

    #[test]
    fn a_fall_of_a_half_is_a_drawdown_of_a_half() {
        assert!((max_drawdown(&[0.1, -0.5, 0.2]) - 0.5).abs() < 1e-12);
        assert!((correlation(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn steady_rise_is_bull_and_steady_fall_is_bear() {
        let noise = |n: i32| f64::from((n * 7919) % 100 - 50) / 50_000.0;
        let history: Vec<f64> = (0..500).map(noise).collect();
        let drift = |d: f64| history[..78].iter().map(|r| r + d).collect::<Vec<_>>();
        assert_eq!(classify(&drift(0.0006), &history).0, Regime::Bull);
        assert_eq!(classify(&drift(-0.0006), &history).0, Regime::Bear);
    }
}
