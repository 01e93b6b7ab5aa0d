//! How the server's seats are divided among priority levels: by shares, and what one does not use is lent to others.
//!
//! Pure functions; sums are kept: nobody gets a seat that another one does not give.

/// What a level is entitled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entitlement {
    /// Seats by its share of all.
    pub(super) nominal: u64,
    /// It keeps so many, however few it uses.
    pub(super) lower: u64,
    /// It never has more.
    pub(super) upper: u64,
}

/// What the operator chose for a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) shares: u64,
    /// Hundredths of its seats that others may borrow.
    pub(super) lendable: u64,
    /// Hundredths of its seats that it may borrow; no limit if there is none.
    pub(super) borrowing: Option<u64>,
}

/// Divides seats by shares, rounded up as upstream does.
pub(super) fn entitle(seats: u64, shares: &[Share]) -> Vec<Entitlement> {
    let sum: u64 = shares.iter().map(|share| share.shares).sum();
    let nominal = |share: &Share| (seats * share.shares).div_ceil(sum.max(1));
    let percent = |of: u64, percent: u64| (of * percent + 50) / 100;
    shares
        .iter()
        .map(|share| {
            let nominal = nominal(share);
            let upper = share.borrowing.map_or(seats.max(nominal), |limit| nominal + percent(nominal, limit));
            Entitlement { nominal, lower: nominal - percent(nominal, share.lendable.min(100)), upper }
        })
        .collect()
}

/// How many seats each level has, given how many each wants.
pub(super) fn lend(levels: &[(Entitlement, u64)]) -> Vec<u64> {
    let spare = |(own, wants): &(Entitlement, u64)| own.nominal - (*wants).clamp(own.lower, own.nominal);
    let need = |(own, wants): &(Entitlement, u64)| (*wants).min(own.upper).saturating_sub(own.nominal);
    let pool: u64 = levels.iter().map(spare).sum();
    let needed: u64 = levels.iter().map(need).sum();
    let lent = pool.min(needed);
    let borrowed = divide(lent, &levels.iter().map(|l| (l.0.nominal.max(1), need(l))).collect::<Vec<_>>());
    let given = divide(lent, &levels.iter().map(|l| (spare(l).max(1), spare(l))).collect::<Vec<_>>());
    let shift = borrowed.iter().zip(&given);
    levels.iter().zip(shift).map(|((own, _), (borrowed, given))| own.nominal + borrowed - given).collect()
}

/// Divides an amount by weights, to none more than its limit; all of it, if the limits allow.
fn divide(amount: u64, parts: &[(u64, u64)]) -> Vec<u64> {
    let mut given = vec![0; parts.len()];
    let mut left = amount;
    loop {
        let open: Vec<usize> = (0..parts.len()).filter(|n| given[*n] < parts[*n].1).collect();
        let weights: u64 = open.iter().map(|n| parts[*n].0).sum();
        if left == 0 || open.is_empty() {
            return given;
        }
        let round = left;
        for n in open {
            let (weight, limit) = parts[n];
            // At least one, so that it comes to an end.
            let part = (round * weight / weights).max(1).min(limit - given[n]).min(left);
            given[n] += part;
            left -= part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(shares: u64, lendable: u64, borrowing: Option<u64>) -> Share {
        Share { shares, lendable, borrowing }
    }

    #[test]
    fn seats_by_shares() {
        let check = |share: Share, want: (u64, u64, u64)| {
            let all = entitle(600, &[share, self::share(245 - share.shares, 0, None)]);
            assert_eq!((all[0].nominal, all[0].lower, all[0].upper), want, "{share:?}");
        };
        check(share(30, 33, None), (74, 50, 600));
        check(share(40, 50, Some(0)), (98, 49, 98));
        check(share(100, 90, Some(50)), (245, 24, 368));
        check(share(5, 0, None), (13, 13, 600));
        check(share(0, 0, None), (0, 0, 600));
        assert_eq!(entitle(600, &[share(0, 0, None)])[0].nominal, 0);
        assert_eq!(entitle(0, &[share(5, 0, None)])[0].nominal, 0);
    }

    #[test]
    fn what_is_not_used_is_lent() {
        let level = |nominal, lower, upper, wants| (Entitlement { nominal, lower, upper }, wants);
        let check = |levels: &[(Entitlement, u64)], want: &[u64]| {
            let got = lend(levels);
            assert_eq!(got, want, "{levels:?}");
            let sum = |levels: &[(Entitlement, u64)]| levels.iter().map(|l| l.0.nominal).sum::<u64>();
            assert_eq!(got.iter().sum::<u64>(), sum(levels), "seats are neither made nor lost");
        };
        check(&[level(10, 5, 20, 0), level(10, 5, 20, 0)], &[10, 10]);
        check(&[level(10, 5, 20, 0), level(10, 5, 20, 12)], &[8, 12]);
        check(&[level(10, 5, 20, 0), level(10, 5, 20, 40)], &[5, 15]);
        check(&[level(10, 0, 20, 0), level(10, 5, 18, 40)], &[2, 18]);
        check(&[level(10, 5, 20, 8), level(10, 5, 20, 40)], &[8, 12]);
        check(&[level(10, 10, 20, 0), level(10, 5, 20, 40)], &[10, 10]);
        check(&[level(10, 0, 20, 0), level(30, 9, 90, 99), level(10, 9, 90, 99)], &[0, 38, 12]);
        check(&[level(0, 0, 20, 9), level(10, 0, 20, 0)], &[9, 1]);
        check(&[], &[]);
    }
}
