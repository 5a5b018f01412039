//! A table that can be sorted, filtered and walked through.

/// What a table can be sorted by.
pub trait Sorted: Copy + Default + PartialEq + 'static {
    /// All, in the order in which a key goes through them.
    const ALL: &'static [Self];

    /// The heading of the column.
    fn heading(self) -> &'static str;
}

/// How a table stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table<O> {
    /// What it is sorted by.
    pub order: O,
    /// Smallest first.
    pub ascending: bool,
    /// The row that is chosen, among those that pass the filter.
    pub selected: usize,
    /// Rows have to contain this, in whatever case.
    pub filter: String,
    /// The filter is being typed.
    pub is_typing: bool,
}

impl<O: Sorted> Table<O> {
    /// Sorts by the next column.
    pub fn next_order(&mut self) {
        let at = O::ALL.iter().position(|order| *order == self.order).unwrap_or(0);
        self.order = O::ALL[(at + 1) % O::ALL.len()];
    }

    /// Moves the choice by so many rows, within `rows`.
    pub fn step(&mut self, by: isize, rows: usize) {
        self.selected = self.selected(rows).saturating_add_signed(by).min(rows.saturating_sub(1));
    }

    /// The chosen row among so many.
    pub fn selected(&self, rows: usize) -> usize {
        self.selected.min(rows.saturating_sub(1))
    }

    /// Whether a row with this text is shown.
    pub fn lets_pass(&self, text: &str) -> bool {
        self.filter.is_empty() || text.to_lowercase().contains(&self.filter.to_lowercase())
    }

    /// The first row to be shown where `height` fit, so that the chosen one is seen.
    pub fn first_row(&self, rows: usize, height: usize) -> usize {
        let selected = self.selected(rows);
        (selected + 1).saturating_sub(height.max(1)).min(rows.saturating_sub(height))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    enum By {
        #[default]
        Name,
        Size,
    }

    impl Sorted for By {
        const ALL: &'static [Self] = &[Self::Name, Self::Size];

        fn heading(self) -> &'static str {
            "x"
        }
    }

    #[test]
    fn the_choice_stays_within_the_rows() {
        let mut table = Table::<By>::default();
        table.step(-1, 3);
        assert_eq!(table.selected, 0);
        table.step(9, 3);
        assert_eq!(table.selected, 2);
        assert_eq!(table.selected(1), 0, "rows that went away take the choice with them");
        table.step(1, 0);
        assert_eq!(table.selected, 0);
    }

    #[test]
    fn the_chosen_row_is_always_seen() {
        let mut table = Table::<By>::default();
        for selected in 0..20 {
            table.selected = selected;
            let first = table.first_row(20, 7);
            assert!((first..first + 7).contains(&selected) && first + 7 <= 20, "{selected} {first}");
        }
    }

    #[test]
    fn a_filter_takes_no_notice_of_case() {
        let table = Table::<By> { filter: "NVMe".into(), ..Table::default() };
        assert!(table.lets_pass("0000:00:02.0 nvme") && !table.lets_pass("xhci_hcd"));
    }

    #[test]
    fn orders_come_one_after_the_other_and_around() {
        let mut table = Table::<By>::default();
        table.next_order();
        assert_eq!(table.order, By::Size);
        table.next_order();
        assert_eq!(table.order, By::Name);
    }
}
