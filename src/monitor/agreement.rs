//! How far two raters agree on yes and no, beyond what chance brings about.

use serde::Serialize;

/// Half-width of a 95 % interval in standard errors.
const Z: f64 = 1.959_963_984_540_054;

/// How often two raters said what. The first is the one that is believed: a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Both said yes.
    pub both: u64,
    /// Only the first did.
    pub only_first: u64,
    /// Only the second did.
    pub only_second: u64,
    /// Neither did.
    pub neither: u64,
}

/// Cohen's kappa with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Kappa {
    /// 1: they always agree; 0: no more than chance; below: less.
    pub kappa: f64,
    /// Lower end.
    pub lo: f64,
    /// Upper end, 1 at most.
    pub hi: f64,
}

impl Confusion {
    /// Counts one more.
    pub fn count(&mut self, first: bool, second: bool) {
        let cell = match (first, second) {
            (true, true) => &mut self.both,
            (true, false) => &mut self.only_first,
            (false, true) => &mut self.only_second,
            (false, false) => &mut self.neither,
        };
        *cell += 1;
    }

    /// All that were counted.
    pub fn n(&self) -> u64 {
        self.both + self.only_first + self.only_second + self.neither
    }

    /// Share on which they agree; none where nothing was counted.
    pub fn agreement(&self) -> Option<f64> {
        (self.n() > 0).then(|| (self.both + self.neither) as f64 / self.n() as f64)
    }

    /// Mean of the shares that the second rater finds of the first one's yes and of its no; none where one of them is empty.
    pub fn balanced_accuracy(&self) -> Option<f64> {
        let (yes, no) = (self.both + self.only_first, self.only_second + self.neither);
        (yes > 0 && no > 0).then(|| (self.both as f64 / yes as f64 + self.neither as f64 / no as f64) / 2.0)
    }

    /// Cohen's kappa, with the large-sample standard error of Fleiss, Cohen and Everitt (1969, eq. 13); none where chance alone
    /// brings about agreement: one of the raters said one thing only, and the other the same.
    pub fn kappa(&self) -> Option<Kappa> {
        let n = self.n() as f64;
        let cells = [[self.both, self.only_first], [self.only_second, self.neither]];
        let p = cells.map(|row| row.map(|count| count as f64 / n));
        let rows = p.map(|row| row[0] + row[1]);
        let columns = [p[0][0] + p[1][0], p[0][1] + p[1][1]];
        let observed = p[0][0] + p[1][1];
        let chance = rows[0] * columns[0] + rows[1] * columns[1];
        if self.n() == 0 || chance >= 1.0 {
            return None;
        }
        let kappa = (observed - chance) / (1.0 - chance);
        let agreeing: f64 = [0, 1]
            .into_iter()
            .map(|i| p[i][i] * (1.0 - (rows[i] + columns[i]) * (1.0 - kappa)).powi(2))
            .sum();
        let crossed = p[0][1] * (columns[0] + rows[1]).powi(2) + p[1][0] * (columns[1] + rows[0]).powi(2);
        let variance = agreeing + (1.0 - kappa).powi(2) * crossed - (kappa - chance * (1.0 - kappa)).powi(2);
        let error = (variance.max(0.0) / n).sqrt() / (1.0 - chance);
        Some(Kappa { kappa, lo: kappa - Z * error, hi: (kappa + Z * error).min(1.0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn kappa_is_what_the_formula_gives() {
        // Worked out apart from this, by the formula of the paper.
        let table = Confusion { both: 20, only_first: 5, only_second: 10, neither: 15 };
        let kappa = table.kappa().unwrap();
        assert!(
            near(kappa.kappa, 0.4) && near(kappa.hi - kappa.kappa, Z * 0.126_996_062_931_100_33),
            "{kappa:?}"
        );
        let table = Confusion { both: 40, only_first: 9, only_second: 6, neither: 45 };
        let kappa = table.kappa().unwrap();
        assert!(
            near(kappa.kappa, 0.699_519_230_769_231)
                && near(kappa.kappa - kappa.lo, Z * 0.071_393_602_699_988_18)
        );
        assert_eq!(table.agreement(), Some(0.85));
        assert!(near(table.balanced_accuracy().unwrap(), (40.0 / 49.0 + 45.0 / 51.0) / 2.0));
    }

    #[test]
    fn what_says_nothing_has_no_kappa() {
        assert_eq!(Confusion::default().kappa(), None);
        assert_eq!(Confusion { both: 9, ..Confusion::default() }.kappa(), None);
        let mut table = Confusion::default();
        for (first, second) in [(true, true), (false, false), (true, true), (false, false)] {
            table.count(first, second);
        }
        assert_eq!(table.kappa().map(|kappa| (kappa.kappa, kappa.lo, kappa.hi)), Some((1.0, 1.0, 1.0)));
        assert_eq!(Confusion { both: 9, ..Confusion::default() }.balanced_accuracy(), None);
    }
}
